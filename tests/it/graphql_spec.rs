//! Cases in which the server once answered other than the GraphQL specification says, through the real server. The
//! oracle (`oracle`) compares random documents with graphql-js; these are the ones seen first, with their effects.

use serde_json::{Value, json};

use super::support::app::TestApp;
use super::support::http;
use super::support::user::{Home, User};
use super::support::ws::Socket;

/// A refused request: nothing was executed, so there is no `data`. Returns the first message.
async fn refused(user: &User, query: &str, variables: Value) -> String {
    let answer = user.post(query, variables).await;
    let body = answer.json();
    assert!(answer.status == 400 && body.get("data").is_none(), "{query}: {} {body}", answer.status);
    assert_eq!(body["errors"][0]["extensions"]["code"], "BAD_USER_INPUT", "{query}: {body}");
    body["errors"][0]["message"].as_str().expect("a message").to_owned()
}

async fn count(app: &TestApp, table: &str) -> i64 {
    let client = app.database().client().await;
    client.query_one(&format!("select count(*) from {table}"), &[]).await.expect("a count").get(0)
}

async fn start() -> (TestApp, Home, User) {
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    (app, home, owner)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mutation_that_two_fragments_select_runs_once() {
    let (app, home, owner) = start().await;
    let device = app.device(&owner, &home, "a").await;
    let query = "mutation($i: SendCommandInput!) { ...A ...B } fragment A on Mutation { sendCommand(input: $i) { id } } \
                 fragment B on Mutation { sendCommand(input: $i) { status type } }";
    let data = owner.query(query, json!({"i": {"deviceId": device.id, "type": "X"}})).await;
    assert_eq!((&data["sendCommand"]["status"], &data["sendCommand"]["type"]), (&json!("PENDING"), &json!("X")));
    assert_eq!(count(&app, "commands").await, 1);
    let query = "mutation($h: ID!) { createRoom(homeId: $h, name: \"x\") { id } ... { createRoom(name: \"x\", homeId: $h) { name } } }";
    let data = owner.query(query, json!({"h": home.id})).await;
    assert!(data["createRoom"]["id"].is_string() && data["createRoom"]["name"] == "x", "{data}");
    assert_eq!(count(&app, "rooms").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn defaults_of_variables_decide_what_is_selected() {
    let (app, home, owner) = start().await;
    let me = "query($x: Boolean = true) { me { __typename @skip(if: $x) id @include(if: $x) } }";
    assert_eq!(owner.query(me, json!({})).await, json!({"me": {"id": owner.id}}));
    assert_eq!(owner.query(me, json!({"x": false})).await, json!({"me": {"__typename": "User"}}));
    let room = "mutation($h: ID!, $d: Boolean = true) { createRoom(homeId: $h, name: \"x\") @skip(if: $d) { id } }";
    assert_eq!(owner.query(room, json!({"h": home.id})).await, json!({}));
    assert_eq!(count(&app, "rooms").await, 0);
    let required = "query($x: Boolean!) { me { id @include(if: $x) name } }";
    let message = refused(&owner, required, json!({})).await;
    assert_eq!(message, "Variable \"$x\" of required type \"Boolean!\" was not provided.");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_variables_refuse_the_operation_before_anything_runs() {
    let (app, home, owner) = start().await;
    let two = "mutation($h: ID!, $n: String!) { a: createRoom(homeId: $h, name: \"x\") { id } b: createRoom(homeId: $h, name: $n) { id } }";
    let message = refused(&owner, two, json!({"h": home.id})).await;
    assert_eq!(message, "Variable \"$n\" of required type \"String!\" was not provided.");
    let message = refused(&owner, two, json!({"h": home.id, "n": 7})).await;
    assert_eq!(message, "Variable \"$n\" got invalid value; String cannot represent a non string value.");
    let send = "mutation($h: ID!, $i: SendCommandInput!) { createRoom(homeId: $h, name: \"x\") { id } sendCommand(input: $i) { id } }";
    for (input, problem) in [
        (
            json!({"deviceId": "1", "type": "X", "timeoutSeconds": 2_147_483_648_i64}),
            " at \"i.timeoutSeconds\"; Int cannot represent non 32-bit signed integer value.",
        ),
        (json!({"deviceId": "1"}), "; Field \"type\" of required type \"String!\" was not provided."),
        (
            json!({"deviceId": "1", "type": "X", "tyqe": "hunter2"}),
            "; Field \"tyqe\" is not defined by type \"SendCommandInput\". Did you mean \"type\"?",
        ),
        (
            json!({"deviceId": null, "type": "X"}),
            " at \"i.deviceId\"; Expected non-nullable type \"ID!\" not to be null.",
        ),
        (json!({"deviceId": 1.5, "type": "X"}), " at \"i.deviceId\"; ID cannot represent value."),
        (
            json!({"deviceId": "1", "type": "X", "onStale": "hunter2"}),
            " at \"i.onStale\"; Value does not exist in \"OnStale\" enum.",
        ),
    ] {
        let message = refused(&owner, send, json!({"h": home.id, "i": input})).await;
        assert_eq!(message, format!("Variable \"$i\" got invalid value{problem}"));
    }
    assert_eq!((count(&app, "rooms").await, count(&app, "commands").await), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_which_nothing_is_selected_is_empty() {
    let (_app, _, owner) = start().await;
    for (query, expected) in [
        ("{ homes { id @skip(if: true) } }", json!({"homes": [{}]})),
        ("{ me @skip(if: true) { id } }", json!({})),
        ("{ me { id @include(if: false) homes { name @skip(if: true) } } }", json!({"me": {"homes": [{}]}})),
        ("{ __schema { queryType { name @skip(if: true) } } }", json!({"__schema": {"queryType": {}}})),
    ] {
        assert_eq!(owner.query(query, json!({})).await, expected, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_accepted_and_refused_as_the_specification_says() {
    let (app, home, owner) = start().await;
    let device = app.device(&owner, &home, "a").await;
    let variables = json!({"h": home.id, "d": device.id.parse::<i64>().expect("a number")});
    let page = "query($h: ID!, $n: Int!) { devices(homeId: $h, first: $n) { nodes { key } } }";
    let answer = owner
        .post(page, serde_json::from_str(&format!(r#"{{"h": {}, "n": 1.0}}"#, home.id)).expect("JSON"))
        .await
        .json();
    assert_eq!(answer["data"]["devices"]["nodes"], json!([{"key": "a"}]), "{answer}");
    for query in [
        "query($d: ID!) { device(id: $d) { x: id } device(id: $d) { x: name } }",
        "mutation($d: ID!) { sendCommand(input: {deviceId: $d, deviceId: \"2\", type: \"X\"}) { id } }",
        "mutation($d: ID!) { sendCommand(input: {deviceId: $d, type: \"X\", payload: {a: 1, a: 2}}) { id } }",
        "query($h: ID!) { devices(homeId: $h, filter: {type: \"LIGHT\"}) { nodes { id } } }",
        "query($d: ID) { device(id: $d) { id } }",
        "query($d: ID!) { device(id: $d) { name(x: \"hunter2\") } }",
        "{ me { name(x: \"\\ud83d\") } }",
    ] {
        let message = refused(&owner, query, variables.clone()).await;
        assert!(!message.contains("hunter2"), "{message}");
    }
    assert_eq!(count(&app, "commands").await, 0);
    let names = "mutation($h: ID!) { a: createRoom(homeId: $h, name: \"\\ud83d\\udecf\") { name } b: createRoom(homeId: $h, name: \"\\u{1F6CF} 2\") { name } }";
    let data = owner.query(names, variables).await;
    assert_eq!(data, json!({"a": {"name": "\u{1F6CF}"}, "b": {"name": "\u{1F6CF} 2"}}));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_have_the_order_of_the_selection() {
    let (app, home, owner) = start().await;
    app.device(&owner, &home, "a").await;
    let query = "query($h: ID!) { z: serverStatus { version } y: device(id: 999999) { id } \
                 x: devices(homeId: $h) { pageInfo { hasNextPage } edges { node { home { id } key } cursor } nodes { key id } } \
                 w: me { name id } v: home(id: $h) { name devices { nodes { id } } id } __typename }";
    for _ in 0..10 {
        let answer = owner.post(query, json!({"h": home.id})).await;
        let text = answer.text();
        let data = &text[text.find("\"data\"").expect("data")..];
        let keys = [
            "\"z\"",
            "\"y\":null",
            "\"x\"",
            "\"pageInfo\"",
            "\"edges\"",
            "\"node\"",
            "\"home\"",
            "\"key\"",
            "\"cursor\"",
            "\"nodes\"",
            "\"w\"",
            "\"name\"",
            "\"v\"",
            "\"__typename\"",
        ];
        let mut from = 0;
        for key in keys {
            from += data[from..].find(key).unwrap_or_else(|| panic!("{key} is not in its place: {data}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_by_a_fragment_has_the_events_of_the_field() {
    let (app, home, owner) = start().await;
    let device = app.device(&owner, &home, "a").await;
    for root in [
        "subscription($h: ID!) { ...F } fragment F on Subscription { deviceStatus(homeId: $h) { key } }",
        "subscription($h: ID!) { ... on Subscription { ... { deviceStatus(homeId: $h) { key } } } }",
        "subscription($h: ID!, $x: Boolean = true) { deviceStatus(homeId: $h) { id @skip(if: $x) key } deviceStatus(homeId: $h) { key } }",
    ] {
        let mut subscription = owner.subscribe(root, json!({"h": home.id})).await;
        assert_eq!(subscription.next().await, json!({"deviceStatus": {"key": device.key}}), "{root}");
    }
}

/// GET, a persisted document and the older socket protocol take the same path.
#[tokio::test(flavor = "multi_thread")]
async fn every_transport_coerces_variables_before_it_runs_anything() {
    let (app, _, owner) = start().await;
    let query = "query($x: Boolean = true) { me { id @skip(if: $x) } }";
    let bearer = format!("Bearer {}", owner.token().expect("a token"));
    let headers = [("authorization", bearer.as_str()), ("accept", "application/json")];
    let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let get = async |variables: &str| {
        http::request(app.addr(), "GET", &format!("/graphql?query={encoded}{variables}"), &headers, b"").await.json()
    };
    assert_eq!(get("").await, json!({"data": {"me": {}}}));
    assert!(get("&variables=%7B%22x%22%3A1%7D").await.get("data").is_none());
    let mut socket = Socket::signed_in(app.addr(), owner.token()).await;
    let operation = json!({"query": query, "variables": {"x": "true"}});
    socket.send(&json!({"id": "1", "type": "subscribe", "payload": operation})).await;
    let super::support::ws::Frame::Json(error) = socket.next().await else { panic!("no message") };
    assert_eq!(
        (&error["type"], &error["payload"][0]["extensions"]["code"]),
        (&json!("error"), &json!("BAD_USER_INPUT"))
    );
}

/// A refusal says which limit, what was found, and what to do.
#[tokio::test(flavor = "multi_thread")]
async fn limits_fit_real_screens_and_explain_themselves() {
    let (_app, _, owner) = start().await;
    let conditional = (0..40).map(|n| format!("a{n}: name @include(if: $x) ")).collect::<String>();
    let screen = format!("query($x: Boolean!) {{ me {{ {conditional} }} homes {{ {conditional} }} }}");
    assert_eq!(owner.query(&screen, json!({"x": false})).await, json!({"me": {}, "homes": [{}]}));
    let fields = "name ".repeat(900);
    let many = format!("{{ me {{ {fields} }} homes {{ {fields} }} }}");
    assert_eq!(
        refused(&owner, &many, json!({})).await,
        "the document has 1802 selections with fragments expanded, but at most 1000 are allowed: split it into several"
    );
}

/// A value is copied to each place that uses it, so the copies are counted before they are made.
#[tokio::test(flavor = "multi_thread")]
async fn large_values_in_many_places_are_refused() {
    let (app, _, owner) = start().await;
    let devices = (0..50).map(|n| format!("a{n}: device(id: 1) {{ ...F }} ")).collect::<String>();
    let fragment = |list: &str| format!("fragment F on Device {{ telemetry(from: [{list}]) {{ __typename }} }}");
    let by_variable = format!("query($v: DateTime) {{ {devices} }} {}", fragment(&"$v ".repeat(350)));
    let by_literal = format!("{{ {devices} }} {}", fragment(&"A ".repeat(1_400)));
    for (query, variables) in [(&by_variable, json!({"v": "x".repeat(60_000)})), (&by_literal, json!({}))] {
        for user in [&owner, &app.stranger()] {
            let answer = user.post(query, variables.clone()).await.json();
            assert_eq!(answer["errors"][0]["extensions"]["code"], "PAYLOAD_TOO_LARGE", "{answer}");
            assert!(answer.get("data").is_none(), "{answer}");
        }
    }
}

/// The placeholder for an empty selection set has the key " ", as a client's own JSON may have.
#[tokio::test(flavor = "multi_thread")]
async fn json_values_keep_every_key() {
    let (app, home, owner) = start().await;
    let device = app.device(&owner, &home, "a").await;
    let send = "mutation($i: SendCommandInput!) { sendCommand(input: $i) { device { id @skip(if: true) } payload } }";
    let payload = json!({" ": 1, "": {" ": [{" ": null}]}});
    let input = json!({"deviceId": device.id, "type": "X", "payload": payload});
    let data = owner.query(send, json!({"i": input})).await;
    assert_eq!(data["sendCommand"], json!({"device": {}, "payload": payload}));
}
