//! What belongs to another home is as absent as what never was, whatever the way in.

use serde_json::{Value, json};

use super::Graph;

/// Each operation with an id in it, `$x`: what sort of id, and the operation.
const DOORS: [(&str, &str); 36] = [
    ("home", "query($x: ID!) { home(id: $x) { id } }"),
    ("home", "query($x: ID!) { devices(homeId: $x) { nodes { id } } }"),
    ("home", "query($x: ID!) { rejectedMessages(homeId: $x) { nodes { id } } }"),
    ("home", "query($x: ID!) { auditLog(homeId: $x) { nodes { id } } }"),
    ("home", "mutation($x: ID!) { updateHome(id: $x, input: {name: \"N\"}) { id } }"),
    ("home", "mutation($x: ID!) { deleteHome(id: $x) }"),
    ("home", "mutation($x: ID!) { createRoom(homeId: $x, name: \"N\") { id } }"),
    ("home", "mutation($x: ID!) { registerDevice(input: {homeId: $x, key: \"k\", name: \"N\"}) { device { id } } }"),
    (
        "home",
        "mutation($x: ID!) { registerDevices(input: {homeId: $x, devices: [{key: \"k\", name: \"N\"}]}) { device { id } } }",
    ),
    ("home", "mutation($x: ID!) { inviteMember(input: {homeId: $x, email: \"new@test.example\"}) { id } }"),
    ("home", "mutation($x: ID!) { setMemberRole(homeId: $x, userId: \"1\", role: GUEST) { role } }"),
    ("home", "mutation($x: ID!) { removeMember(homeId: $x, userId: \"1\") }"),
    ("invitation", "mutation($x: ID!) { revokeInvitation(id: $x) }"),
    ("home", "subscription($x: ID!) { telemetry(homeId: $x) { id } }"),
    ("home", "subscription($x: ID!) { deviceStatus(homeId: $x) { id } }"),
    ("home", "subscription($x: ID!) { configUpdates(homeId: $x) { version } }"),
    ("room", "mutation($x: ID!) { renameRoom(id: $x, name: \"N\") { id } }"),
    ("room", "mutation($x: ID!) { deleteRoom(id: $x) }"),
    ("device", "query($x: ID!) { device(id: $x) { id } }"),
    ("device", "mutation($x: ID!) { updateDevice(id: $x, input: {name: \"N\"}) { id } }"),
    ("device", "mutation($x: ID!) { deleteDevice(id: $x) }"),
    ("device", "mutation($x: ID!) { pushConfig(input: {deviceId: $x, config: {}}) { version } }"),
    ("device", "mutation($x: ID!) { rollbackConfig(deviceId: $x, toVersion: 1) { version } }"),
    ("device", "subscription($x: ID!) { configUpdates(deviceId: $x) { version } }"),
    ("device", "subscription($x: ID!) { telemetry(deviceId: $x) { id } }"),
    ("device", "subscription($x: ID!) { deviceStatus(deviceId: $x) { id } }"),
    ("home", "subscription($x: ID!) { commandUpdates(homeId: $x) { id } }"),
    ("device", "query($x: ID!) { device(id: $x) { commands { nodes { id } } } }"),
    ("device", "mutation($x: ID!) { sendCommand(input: {deviceId: $x, type: \"RESET\"}) { id } }"),
    // Wrong in another way too: no door tells that before it tells that there is nothing.
    ("device", "mutation($x: ID!) { sendCommand(input: {deviceId: $x, type: \"\"}) { id } }"),
    ("device", "subscription($x: ID!) { commandUpdates(deviceId: $x) { id } }"),
    ("command", "query($x: ID!) { command(id: $x) { id } }"),
    ("command", "query($x: ID!) { command(id: $x) { device { id } } }"),
    ("command", "mutation($x: ID!) { cancelCommand(id: $x) { id } }"),
    ("command", "subscription($x: ID!) { commandUpdates(commandId: $x) { id } }"),
    ("own room", "mutation($x: ID!, $own: ID!) { updateDevice(id: $own, input: {roomId: $x}) { id } }"),
];

async fn first(graph: &Graph, who: &super::Person, query: &str, variables: Value) -> Value {
    use async_graphql::{Request, Variables};
    use futures_util::StreamExt;
    use smarthome::graphql::budget::Budget;
    let request = Request::new(query).variables(Variables::from_json(variables)).data(Budget::default());
    let mut stream = graph.schema.execute_stream(request.data(graphql_viewer(who))).boxed();
    serde_json::to_value(stream.next().await.unwrap()).unwrap()
}

fn graphql_viewer(who: &super::Person) -> smarthome::graphql::Viewer {
    smarthome::graphql::Viewer(who.0.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_is_absent_by_every_door() {
    let graph = Graph::start().await;
    let (ann, eve) = (graph.person().await, graph.person().await);
    let (home, own) = (graph.home(&ann).await, graph.home(&eve).await);
    let device = graph.devices(&ann, &home, 1).await.remove(0);
    let own = graph.devices(&eve, &own, 1).await.remove(0);
    let room =
        graph.ask(&ann, "mutation($h: ID!) { createRoom(homeId: $h, name: \"R\") { id } }", json!({"h": home})).await;
    let command = super::commands::send(&graph, &ann, &super::commands::power(&device, true)).await["id"].take();
    let invite = "mutation($h: ID!) { inviteMember(input: {homeId: $h, email: \"x@test.example\"}) { id } }";
    let invitation = graph.ask(&ann, invite, json!({"h": home})).await["inviteMember"]["id"].clone();
    for (kind, door) in DOORS {
        let foreign = match kind {
            "home" => json!(home),
            "command" => command.clone(),
            "device" => json!(device),
            "invitation" => invitation.clone(),
            _ => room["createRoom"]["id"].clone(),
        };
        let mut answers = Vec::new();
        for id in [
            foreign,
            json!("987654321"),
            json!("cmd_7ZZZZZZZZZZZZZZZZZZZZZZZZZ"),
            json!("007"),
            json!("24:6F:28:AA:BB:CC"),
            json!(""),
            json!("\u{0}"),
            json!("99999999999999999999"),
        ] {
            let mut answer = first(&graph, &eve, door, json!({"x": id, "own": own})).await;
            assert_eq!(answer["errors"][0]["extensions"]["code"], "NOT_FOUND", "{door} {id}: {answer}");
            answer["errors"][0]["locations"].take();
            answers.push(answer);
        }
        assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{door}: {answers:#?}");
        let nobody = first(&graph, &super::Person(None), door, json!({"x": "1", "own": own})).await;
        assert_eq!(nobody["errors"][0]["extensions"]["code"], "UNAUTHENTICATED", "{door}: {nobody}");
    }
    // The filter and the after of one's own lists lead nowhere else.
    assert_eq!((graph.count("devices").await, graph.count("commands").await), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_is_too_low_is_forbidden_and_a_removed_member_sees_nothing() {
    let graph = Graph::start().await;
    let (ann, bob) = (graph.person().await, graph.person().await);
    let home = graph.home(&ann).await;
    let device = graph.devices(&ann, &home, 1).await.remove(0);
    let room =
        graph.ask(&ann, "mutation($h: ID!) { createRoom(homeId: $h, name: \"R\") { id } }", json!({"h": home})).await;
    graph.join(&home, &bob, "MEMBER").await;
    let command = super::commands::send(&graph, &ann, &super::commands::power(&device, true)).await["id"].take();
    let invite = "mutation($h: ID!) { inviteMember(input: {homeId: $h, email: \"x@test.example\"}) { id } }";
    let invitation = graph.ask(&ann, invite, json!({"h": home})).await["inviteMember"]["id"].clone();
    let id = |kind: &str| match kind {
        "home" => json!(home),
        "device" => json!(device),
        "command" => command.clone(),
        "invitation" => invitation.clone(),
        _ => room["createRoom"]["id"].clone(),
    };
    let is_for_admins = |door: &str| door.contains("rejectedMessages") || door.contains("auditLog");
    let reads = |door: &str| !door.starts_with("mutation") && !is_for_admins(door);
    for (kind, door) in DOORS {
        // A member sends commands and takes them back.
        let is_control = door.contains("sendCommand") || door.contains("cancelCommand");
        if door.starts_with("subscription") || kind == "own room" || is_control {
            continue;
        }
        let answer = graph.answer(&bob, door, json!({"x": id(kind)})).await;
        let expected = if reads(door) { Value::Null } else { json!("FORBIDDEN") };
        assert_eq!(answer["errors"][0]["extensions"]["code"], expected, "{door}: {answer}");
    }
    graph.sql.execute("delete from memberships where role = 'MEMBER'", &[]).await.unwrap();
    for (kind, door) in DOORS.into_iter().filter(|(kind, _)| *kind != "own room") {
        let answer = first(&graph, &bob, door, json!({"x": id(kind)})).await;
        assert_eq!(answer["errors"][0]["extensions"]["code"], "NOT_FOUND", "{door}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_fellow_member_one_sees_the_shared_homes_alone() {
    let graph = Graph::start().await;
    let (ann, bob) = (graph.person().await, graph.person().await);
    let (shared, _secret) = (graph.home(&ann).await, graph.home(&ann).await);
    graph.join(&shared, &bob, "GUEST").await;
    let query = "query($h: ID!) { home(id: $h) { members { role user { homes { id myRole } } } } }";
    let seen = graph.ask(&bob, query, json!({"h": shared})).await;
    for member in seen["home"]["members"].as_array().unwrap() {
        assert_eq!(member["user"]["homes"], json!([{"id": shared, "myRole": "GUEST"}]));
    }
}
