//! Commands in the GraphQL API, without a dispatcher: sending, superseding, cancelling and reading.

mod updates;

use futures_util::future::join_all;
use serde_json::{Value, json};
use smarthome::commands::{CommandOutbox, KEPT_PER_DEVICE, MAX_OPEN_PER_DEVICE, ReturnedDevices};
use smarthome::db;
use smarthome::ids::DeviceId;
use smarthome::outbox::Outbox;

use super::{Graph, Person, number, text};

pub(super) const SEND: &str = "mutation($input: SendCommandInput!) { sendCommand(input: $input) { id type payload status error \
     source correlationId onStale expect confirmedBy timeoutSeconds createdAt expiresAt sentAt ackedAt finishedAt \
     result supersededBy { id } requestedBy { id } device { id } } }";
const CANCEL: &str = "mutation($id: ID!) { cancelCommand(id: $id) { id status error finishedAt } }";
const COMMAND: &str = "query($id: ID!) { command(id: $id) { id status error supersededBy { id status } } }";
const PAGE: &str = "query($d: ID!, $s: CommandStatus, $n: Int, $a: String) { device(id: $d) { \
     commands(status: $s, first: $n, after: $a) { nodes { id type status } pageInfo { endCursor hasNextPage } } } }";

/// A graph with a user, her home and its devices.
pub(super) async fn start(n_devices: usize) -> (Graph, Person, String, Vec<String>) {
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let home = graph.home(&ann).await;
    let devices = graph.devices(&ann, &home, n_devices).await;
    (graph, ann, home, devices)
}

pub(super) fn power(device: &str, power: bool) -> Value {
    json!({"deviceId": device, "type": "SET_POWER", "payload": {"power": power}})
}

fn blink(device: &str) -> Value {
    json!({"deviceId": device, "type": "BLINK"})
}

pub(super) async fn send(graph: &Graph, who: &Person, input: &Value) -> Value {
    graph.ask(who, SEND, json!({ "input": input })).await["sendCommand"].take()
}

/// Claims the due command of the device, as the dispatcher does; the number of claimed commands.
async fn claim(graph: &Graph, device: &str) -> usize {
    let mut conn = db::connect(&graph.database.url(), None).await.unwrap();
    let commands = &graph.services.commands;
    let mut outbox = CommandOutbox::new(
        commands.hub().clone(),
        commands.expectations().clone(),
        ReturnedDevices::none(),
        graph.services.metrics.clone(),
    );
    let device = DeviceId::from_database(number(device));
    outbox.claim(&mut conn, graph.clock.now(), &[device]).await.unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_stored_as_the_client_spelled_it() {
    let (graph, ann, _, devices) = start(1).await;
    let payload = json!({"b": 1.5, "a": {"deep": [1, null, "ü\u{0}"]}});
    let input = json!({
        "deviceId": devices[0], "type": "vendor:blink", "payload": payload, "correlationId": "mine",
        "expect": {"powerW": {"min": 5}}, "timeoutSeconds": 5, "expiresInSeconds": 7, "onStale": "SUPERSEDE",
    });
    let command = send(&graph, &ann, &input).await;
    let user = ann.0.as_ref().unwrap().user.to_string();
    for (field, expected) in [
        ("type", json!("vendor:blink")),
        ("payload", payload),
        ("status", json!("PENDING")),
        ("source", json!("USER")),
        ("correlationId", json!("mine")),
        ("onStale", json!("SUPERSEDE")),
        ("expect", json!({"powerW": {"min": 5}})),
        ("timeoutSeconds", json!(5)),
        ("requestedBy", json!({ "id": user })),
        ("device", json!({"id": devices[0]})),
        ("sentAt", Value::Null),
        ("result", Value::Null),
        ("supersededBy", Value::Null),
    ] {
        assert_eq!(command[field], expected, "{field}");
    }
    assert!(text(&command["id"]).starts_with("cmd_"));
    // The text keeps the client's order of keys, which serde_json would sort.
    let literal =
        "mutation($d: ID!) { sendCommand(input: {deviceId: $d, type: \"X\", payload: {z: 1, a: ON}}) { id } }";
    graph.ask(&ann, literal, json!({"d": devices[0]})).await;
    let stored: String =
        graph.sql.query_one("select payload::text from commands where type = 'X'", &[]).await.unwrap().get(0);
    assert_eq!(stored, r#"{"z":1,"a":"ON"}"#);
    let found = graph.ask(&ann, COMMAND, json!({"id": command["id"]})).await;
    assert_eq!(found["command"]["status"], "PENDING");
}

#[tokio::test(flavor = "multi_thread")]
async fn resets_and_commands_to_doors_expire_early_by_default() {
    let (graph, ann, home, devices) = start(1).await;
    let register = "mutation($h: ID!) { registerDevice(input: {homeId: $h, key: \"door\", name: \"D\", type: DOOR}) { device { id } } }";
    let door = text(&graph.ask(&ann, register, json!({"h": home})).await["registerDevice"]["device"]["id"]);
    let reset = json!({"deviceId": devices[0], "type": "RESET"});
    let with = |mut input: Value, expiry: Value| {
        input["expiresInSeconds"] = expiry;
        input
    };
    for (input, seconds) in [
        (power(&devices[0], true), 300),
        (reset.clone(), 30),
        (blink(&door), 30),
        (with(blink(&door), json!(300)), 300),
        (with(reset.clone(), json!(300)), 300),
        (with(reset, Value::Null), 30),
    ] {
        let command = send(&graph, &ann, &input).await;
        let at = |field: &str| text(&command[field]).parse::<chrono::DateTime<chrono::Utc>>().unwrap();
        assert_eq!((at("expiresAt") - at("createdAt")).num_seconds(), seconds, "{input}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_input_is_rejected_by_its_field() {
    let (graph, ann, _, devices) = start(1).await;
    for (change, code, field) in [
        (json!({"type": "SET_POWER"}), "BAD_USER_INPUT", "payload.power"),
        (json!({"type": "SET_COLOR", "payload": {"color": "red"}}), "BAD_USER_INPUT", "payload.color"),
        (json!({"type": "UPDATE_CONFIG", "payload": {"wifi": {"password": "x"}}}), "BAD_USER_INPUT", "payload"),
        (json!({"type": "a b"}), "BAD_USER_INPUT", "type"),
        (json!({"payload": "x".repeat(9000)}), "PAYLOAD_TOO_LARGE", "payload"),
        (json!({"expect": {}}), "BAD_USER_INPUT", "expect"),
        (json!({"timeoutSeconds": 0}), "BAD_USER_INPUT", "timeoutSeconds"),
        (json!({"timeoutSeconds": 86401}), "BAD_USER_INPUT", "timeoutSeconds"),
        (json!({"expiresInSeconds": 604_801}), "BAD_USER_INPUT", "expiresInSeconds"),
        (json!({"correlationId": ""}), "BAD_USER_INPUT", "correlationId"),
        (json!({"idempotencyKey": "a\nb"}), "BAD_USER_INPUT", "idempotencyKey"),
    ] {
        let mut input = blink(&devices[0]);
        input.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let answer = graph.answer(&ann, SEND, json!({ "input": input })).await;
        assert_eq!(answer["errors"][0]["extensions"], json!({"code": code, "field": field}), "{change}: {answer}");
    }
    assert_eq!(graph.count("commands").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_makes_one_command_also_concurrently() {
    let (graph, ann, home, devices) = start(2).await;
    let bob = graph.person().await;
    graph.join(&home, &bob, "MEMBER").await;
    let keyed = |device: &str, power: bool| {
        let mut input = self::power(device, power);
        input["idempotencyKey"] = json!("k");
        input
    };
    let input = keyed(&devices[0], true);
    let sent = join_all((0..20).map(|_| send(&graph, &ann, &input))).await;
    assert!(sent.iter().all(|command| command["id"] == sent[0]["id"]));
    assert_eq!(graph.count("commands").await, 1);
    // The order of keys in the payload does not matter; another body or device is another request.
    for other in [keyed(&devices[0], false), keyed(&devices[1], true)] {
        assert_eq!(graph.code(&ann, SEND, json!({ "input": other })).await, "CONFLICT");
    }
    // Keys of different users are independent.
    assert_ne!(send(&graph, &bob, &input).await["id"], sent[0]["id"]);

    // Concurrent requests for two devices: one device gets the command, the requests for the other fail.
    let race = (0..20).map(|n| {
        let mut input = blink(&devices[n % 2]);
        input["idempotencyKey"] = json!("race");
        let (graph, ann) = (&graph, &ann);
        async move { graph.answer(ann, SEND, json!({ "input": input })).await }
    });
    let answers = join_all(race).await;
    let refused = answers.iter().filter(|answer| answer["errors"][0]["extensions"]["code"] == "CONFLICT").count();
    let made = answers.iter().filter(|answer| answer.get("errors").is_none()).count();
    assert_eq!((made, refused), (10, 10), "{answers:#?}");
    assert_eq!(graph.count("commands where type = 'BLINK'").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_command_supersedes_pending_ones_of_its_type() {
    let (graph, ann, _, devices) = start(2).await;
    let device = &devices[0];
    let status = async |command: &Value| {
        let found = graph.ask(&ann, COMMAND, json!({"id": command["id"]})).await;
        text(&found["command"]["status"])
    };
    let dispatched = send(&graph, &ann, &power(device, true)).await;
    assert_eq!(claim(&graph, device).await, 1);
    let mut stays = power(device, true);
    stays["onStale"] = json!("EXPIRE");
    let stays = send(&graph, &ann, &stays).await;
    let other_type =
        send(&graph, &ann, &json!({"deviceId": device, "type": "SET_COLOR", "payload": {"color": "#000000"}})).await;
    let other_device = send(&graph, &ann, &power(&devices[1], true)).await;
    let mut switched = Vec::new();
    for n in 0..5 {
        switched.push(send(&graph, &ann, &power(device, n % 2 == 0)).await);
    }
    for kept in [&dispatched, &stays, &other_type, &other_device, &switched[4]] {
        assert_eq!(status(kept).await, "PENDING");
    }
    for pair in switched.windows(2) {
        let found = graph.ask(&ann, COMMAND, json!({"id": pair[0]["id"]})).await;
        assert_eq!(found["command"]["status"], "CANCELLED");
        assert_eq!(found["command"]["supersededBy"]["id"], pair[1]["id"]);
        assert!(text(&found["command"]["error"]).contains("replaced by a newer command"));
    }
    // A command with `onStale: EXPIRE` supersedes nothing.
    let mut plain = power(device, true);
    plain["onStale"] = json!("EXPIRE");
    send(&graph, &ann, &plain).await;
    assert_eq!(status(&switched[4]).await, "PENDING");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_can_be_cancelled_until_it_is_dispatched() {
    let (graph, ann, home, devices) = start(1).await;
    let guest = graph.person().await;
    graph.join(&home, &guest, "GUEST").await;
    let command = send(&graph, &ann, &blink(&devices[0])).await;
    assert_eq!(graph.code(&guest, CANCEL, json!({"id": command["id"]})).await, "FORBIDDEN");
    assert_eq!(graph.code(&guest, SEND, json!({"input": blink(&devices[0])})).await, "FORBIDDEN");
    let cancelled = graph.ask(&ann, CANCEL, json!({"id": command["id"]})).await;
    assert_eq!(cancelled["cancelCommand"]["status"], "CANCELLED");
    assert_eq!(
        graph.ask(&ann, CANCEL, json!({"id": command["id"]})).await,
        cancelled,
        "cancelling again changes nothing"
    );
    assert_eq!(claim(&graph, &devices[0]).await, 0, "and is not sent");
    let command = send(&graph, &ann, &blink(&devices[0])).await;
    assert_eq!(claim(&graph, &devices[0]).await, 1);
    let answer = graph.answer(&ann, CANCEL, json!({"id": command["id"]})).await;
    assert_eq!(answer["errors"][0]["extensions"]["code"], "CONFLICT");
    assert!(text(&answer["errors"][0]["message"]).contains("may have reached the device already"), "{answer}");
}

/// Statement for so many commands of every device.
fn fill(status: &str, n: i64) -> String {
    format!(
        "insert into commands (id, home_id, device_id, type, payload, source, correlation_id, on_stale, status, \
         timeout_seconds, created_at, expires_at, deadline) select gen_random_uuid(), home_id, id, 'OLD', '{{}}', 'TEST', \
         'c', 'EXPIRE', '{status}', 30, now(), now() + interval '1 hour', case when '{status}' = 'SENT' then now() + interval \
         '1 hour' end from devices, generate_series(1, {n})"
    )
}

/// Ingest locks commands in the order of their ids, so a late answer to an old command may hold it and wait for one that
/// this request supersedes.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_does_not_wait_for_an_old_command_that_an_answer_has_locked() {
    let (graph, ann, _, devices) = start(1).await;
    graph.sql.batch_execute(&fill("SUCCEEDED", KEPT_PER_DEVICE + 1)).await.unwrap();
    let answer = graph.database.client().await;
    answer.batch_execute("begin; select from commands order by seq limit 1 for update").await.unwrap();
    send(&graph, &ann, &power(&devices[0], true)).await;
    assert_eq!(graph.count("commands where status = 'SUCCEEDED'").await, KEPT_PER_DEVICE);
    answer.batch_execute("commit").await.unwrap();
    send(&graph, &ann, &power(&devices[0], false)).await;
    assert_eq!(graph.count("commands where status = 'SUCCEEDED'").await, KEPT_PER_DEVICE - 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn open_commands_and_the_history_are_limited() {
    let (graph, ann, _, devices) = start(1).await;
    graph.sql.batch_execute(&fill("SENT", MAX_OPEN_PER_DEVICE - 1)).await.unwrap();
    graph.sql.batch_execute(&fill("SUCCEEDED", KEPT_PER_DEVICE)).await.unwrap();
    send(&graph, &ann, &blink(&devices[0])).await;
    let answer = graph.answer(&ann, SEND, json!({"input": blink(&devices[0])})).await;
    assert_eq!(answer["errors"][0]["extensions"]["code"], "CONFLICT", "{answer}");
    assert!(text(&answer["errors"][0]["message"]).contains("cancel some"));
    // The open commands are older than the final ones, and stay.
    assert_eq!(graph.count("commands where status = 'SENT'").await, MAX_OPEN_PER_DEVICE - 1);
    assert_eq!(graph.count("commands where status = 'SUCCEEDED'").await, KEPT_PER_DEVICE - 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_is_paged_newest_first() {
    let (graph, ann, _, devices) = start(2).await;
    let mut sent = Vec::new();
    for n in 0..7 {
        let command = send(&graph, &ann, &blink(&devices[0])).await;
        send(&graph, &ann, &blink(&devices[1])).await;
        if n == 3 {
            graph.ask(&ann, CANCEL, json!({"id": command["id"]})).await;
        }
        sent.insert(0, text(&command["id"]));
    }
    let (mut seen, mut after) = (Vec::new(), Value::Null);
    loop {
        let page =
            graph.ask(&ann, PAGE, json!({"d": devices[0], "n": 3, "a": after})).await["device"]["commands"].take();
        seen.extend(page["nodes"].as_array().unwrap().iter().map(|node| text(&node["id"])));
        after = page["pageInfo"]["endCursor"].clone();
        if page["pageInfo"]["hasNextPage"] == false {
            break;
        }
    }
    assert_eq!(seen, sent);
    let cancelled = graph.ask(&ann, PAGE, json!({"d": devices[0], "s": "CANCELLED"})).await;
    assert_eq!(
        cancelled["device"]["commands"]["nodes"],
        json!([{"id": sent[3], "type": "BLINK", "status": "CANCELLED"}])
    );
    assert_eq!(graph.code(&ann, PAGE, json!({"d": devices[0], "a": "x"})).await, "BAD_USER_INPUT");
    assert_eq!(graph.code(&ann, PAGE, json!({"d": devices[0], "n": 501})).await, "BAD_USER_INPUT");
}
