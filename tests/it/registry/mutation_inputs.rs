//! Mutations take one `input`. The arguments that eight of them had before still work, in place of it.

use serde_json::{Value, json};

use super::{Graph, Person, text};

/// Documents with the deprecated arguments, and what they return.
fn deprecated() -> Vec<(&'static str, Value)> {
    vec![
        ("updateHome(id: $home, input: {name: \"Villa\"}) { name }", json!({"name": "Villa"})),
        ("createRoom(homeId: $home, name: \"Hall\") { name }", json!({"name": "Hall"})),
        ("renameRoom(id: $room, name: \"Attic\") { name }", json!({"name": "Attic"})),
        ("updateDevice(id: $device, input: {name: \"Lamp\"}) { name }", json!({"name": "Lamp"})),
        ("rotateDeviceCredentials(deviceId: $device) { username }", json!({"username": "@key/d0"})),
        ("rotateDeviceCredentials(deviceId: $device, graceSeconds: 60) { username }", json!({"username": "@key/d0"})),
        ("rollbackConfig(deviceId: $device, toVersion: 1) { version }", json!({"version": 2})),
        ("setMemberRole(homeId: $home, userId: $member, role: GUEST) { role }", json!({"role": "GUEST"})),
        ("removeMember(homeId: $home, userId: $member)", json!(true)),
    ]
}

/// Neither form, an incomplete one, or both; the field of the error and its message.
const REFUSED: [(&str, &str, &str); 14] = [
    (
        "createRoom { id }",
        "input",
        "Field \"createRoom\" argument \"input\" of type \"CreateRoomInput!\" is required, but it was not provided.",
    ),
    (
        "createRoom(homeId: $home) { id }",
        "name",
        "Field \"createRoom\" argument \"name\" of type \"String!\" is required, but it was not provided.",
    ),
    (
        "createRoom(input: {homeId: $home, name: \"A\"}, name: \"B\") { id }",
        "input",
        "`input` replaces the deprecated arguments: give only `input`",
    ),
    (
        "renameRoom(name: \"A\") { id }",
        "id",
        "Field \"renameRoom\" argument \"id\" of type \"ID!\" is required, but it was not provided.",
    ),
    (
        "setMemberRole(userId: $member, role: GUEST) { role }",
        "homeId",
        "Field \"setMemberRole\" argument \"homeId\" of type \"ID!\" is required, but it was not provided.",
    ),
    (
        "setMemberRole(homeId: $home, userId: $member) { role }",
        "role",
        "Field \"setMemberRole\" argument \"role\" of type \"HomeRole!\" is required, but it was not provided.",
    ),
    (
        "removeMember(homeId: $home)",
        "userId",
        "Field \"removeMember\" argument \"userId\" of type \"ID!\" is required, but it was not provided.",
    ),
    (
        "rollbackConfig(deviceId: $device) { version }",
        "toVersion",
        "Field \"rollbackConfig\" argument \"toVersion\" of type \"Int!\" is required, but it was not provided.",
    ),
    (
        "rotateDeviceCredentials(input: {deviceId: $device}, graceSeconds: 0) { username }",
        "input",
        "`input` replaces the deprecated arguments: give only `input`",
    ),
    (
        "rotateDeviceCredentials(graceSeconds: 5) { username }",
        "deviceId",
        "Field \"rotateDeviceCredentials\" argument \"deviceId\" of type \"ID!\" is required, but it was not provided.",
    ),
    (
        "rotateDeviceCredentials { username }",
        "input",
        "Field \"rotateDeviceCredentials\" argument \"input\" of type \"RotateDeviceCredentialsInput!\" is required, but it was not provided.",
    ),
    (
        "updateDevice(input: {name: \"A\"}) { id }",
        "input.id",
        "Field \"UpdateDeviceInput.id\" of required type \"ID!\" was not provided.",
    ),
    (
        "updateHome(input: {name: \"A\"}) { id }",
        "input.id",
        "Field \"UpdateHomeInput.id\" of required type \"ID!\" was not provided.",
    ),
    (
        "updateHome(id: $home, input: {id: $home, name: \"A\"}) { id }",
        "id",
        "`id` is given twice: give only the one in `input`",
    ),
];

/// The mutation with the variables that it uses.
fn document(mutation: &str) -> String {
    let used = ["home", "room", "device", "member"].into_iter().filter(|name| mutation.contains(&format!("${name}")));
    let used: Vec<_> = used.map(|name| format!("${name}: ID!")).collect();
    let variables = if used.is_empty() { String::new() } else { format!("({})", used.join(", ")) };
    format!("mutation{variables} {{ {mutation} }}")
}

/// A home with a room, a member and a device that has a configuration.
async fn things(graph: &Graph, ann: &Person) -> Value {
    let (home, member) = (graph.home(ann).await, graph.person().await);
    let device = graph.devices(ann, &home, 1).await.remove(0);
    let create = "mutation($h: ID!, $d: ID!) { createRoom(input: {homeId: $h, name: \"Room\"}) { id } \
                  pushConfig(input: {deviceId: $d, config: {sampleRate: 5}}) { version } }";
    let created = graph.ask(ann, create, json!({"h": home, "d": device})).await;
    graph.join(&home, &member, "MEMBER").await;
    let user = member.0.as_ref().expect("signed in").user;
    json!({"home": home, "room": created["createRoom"]["id"], "device": device, "member": user.to_string()})
}

#[tokio::test(flavor = "multi_thread")]
async fn deprecated_arguments_work_in_place_of_the_input() {
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let things = things(&graph, &ann).await;
    let key = text(
        &graph.ask(&ann, "query($h: ID!) { home(id: $h) { key } }", json!({"h": things["home"]})).await["home"]["key"],
    );
    for (mutation, expected) in deprecated() {
        let field = mutation.split('(').next().expect("a name");
        let made = graph.ask(&ann, &document(mutation), things.clone()).await;
        assert_eq!(made[field].to_string(), expected.to_string().replace("@key", &key), "{mutation}");
    }
    for (mutation, field, message) in REFUSED {
        let answer = graph.answer(&ann, &document(mutation), things.clone()).await;
        let error = &answer["errors"][0];
        assert_eq!(error["extensions"], json!({"code": "BAD_USER_INPUT", "field": field}), "{mutation}: {answer}");
        assert_eq!(error["message"], message, "{mutation}");
    }
}
