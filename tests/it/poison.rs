//! Invalid messages: each is counted by its reason, and stored if its home exists. None breaks the connection to the
//! broker, and the valid messages between them are stored.

use std::collections::BTreeMap;

use chrono::DateTime;
use serde_json::{Value, json};
use smarthome::homes::RejectedMessage;
use smarthome::ids::RejectedMessageId;
use smarthome::mqtt::Rejection;

use super::support::app::TestApp;
use super::support::user::User;
use super::support::{eventually, rng, until};

const REJECTED: &str = "query($home: ID!) { rejectedMessages(homeId: $home, first: 100) { nodes { topic reason detail payloadPreview } } }";

fn random(len: usize) -> Vec<u8> {
    let mut rng = rng();
    (0..len).map(|_| rng.u8(..)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalid_messages_are_counted_by_reason_and_valid_ones_are_stored() {
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "probe").await;
    let (other_home, stranger) = app.home().await;
    let foreign = app.device(&stranger, &other_home, "other").await;
    let connects = app.app().services().metrics.mqtt_connection_errors.get();
    let mqtt = app.mqtt().await;
    let prefix = app.prefix();
    let telemetry = device.topic("telemetry");
    let topic = |device: &str| format!("{prefix}/{}/{device}/telemetry", home.key);
    let deep = format!("{}1{}", r#"{"sensors":{"x":"#.repeat(3_000), "}}".repeat(3_000));
    let keys: Vec<String> = (0..5_000).map(|n| format!(r#""k{n}":{n}"#)).collect();
    let many_keys = format!(r#"{{"sensors":{{{}}}}}"#, keys.join(","));
    let mac = "24:6F:28:AA:BB:CC";

    // Topic, payload, and the reason of the rejection; none where the message is stored.
    let cases: Vec<(String, Vec<u8>, Option<&str>)> = vec![
        (telemetry.clone(), random(20 * 1024), Some("NOT_UTF8")),
        (telemetry.clone(), vec![b' '; 65_537], Some("TOO_LARGE")),
        (telemetry.clone(), vec![b'x'; 131_072], Some("TOO_LARGE")),
        (telemetry.clone(), b"\0".to_vec(), Some("BAD_JSON")),
        (telemetry.clone(), b"".to_vec(), Some("BAD_JSON")),
        (telemetry.clone(), b"\xef\xbb\xbf{}".to_vec(), Some("BAD_JSON")),
        (telemetry.clone(), br#"{"sensors":{"temperature":NaNo}}"#.to_vec(), Some("BAD_JSON")),
        (telemetry.clone(), br#"{"sensors":{"temperature":21"#.to_vec(), Some("BAD_JSON")),
        (telemetry.clone(), b"[]".to_vec(), Some("BAD_SHAPE")),
        (telemetry.clone(), b"42".to_vec(), Some("BAD_SHAPE")),
        (telemetry.clone(), br#"{"sensors":"none"}"#.to_vec(), Some("BAD_SHAPE")),
        (telemetry.clone(), br#"{"sensors":{"temperature":1,"temperature":2}}"#.to_vec(), Some("DUPLICATE_KEY")),
        (telemetry.clone(), deep.into_bytes(), None),
        (telemetry.clone(), many_keys.into_bytes(), None),
        (
            telemetry.clone(),
            br#"{"sensors":{"temperature":"hot","flame":"yes","humidity":{},"powerW":1e999}}"#.to_vec(),
            None,
        ),
        (telemetry.clone(), br#"{"sensors":{"note":"a\u0000b","temperature":20}}"#.to_vec(), None),
        (telemetry.clone(), br#"{"timestamp":"123456","sensors":{"temperature":20}}"#.to_vec(), None),
        (device.topic("status"), br#"{"online":"false"}"#.to_vec(), Some("BAD_SHAPE")),
        (topic(mac), br#"{"sensors":{}}"#.to_vec(), Some("UNKNOWN_DEVICE")),
        (topic("007"), br#"{"sensors":{}}"#.to_vec(), Some("UNKNOWN_DEVICE")),
        (topic(&foreign.id), br#"{"sensors":{}}"#.to_vec(), Some("UNKNOWN_DEVICE")),
        (topic("no such"), br#"{"sensors":{}}"#.to_vec(), Some("BAD_TOPIC")),
        (topic(&"x".repeat(2_000)), br#"{"sensors":{}}"#.to_vec(), Some("BAD_TOPIC")),
        (format!("{prefix}/no-such-home/{}/telemetry", device.key), b"{}".to_vec(), Some("BAD_SHAPE")),
        (
            format!("{prefix}/no-such-home/{}/telemetry", device.key),
            br#"{"sensors":{}}"#.to_vec(),
            Some("UNKNOWN_HOME"),
        ),
    ];
    let good = r#"{"sensors":{"temperature":21.5}}"#;
    let (mut expected, mut kept): (BTreeMap<&str, u64>, BTreeMap<&str, usize>) = Default::default();
    let mut n_stored = 0;
    for (topic, payload, reason) in &cases {
        mqtt.publish(topic, payload).await.expect("PUBACK");
        mqtt.publish(&telemetry, good).await.expect("PUBACK");
        n_stored += 1;
        match reason {
            Some(reason) => {
                *expected.entry(reason).or_default() += 1;
                if !topic.contains("no-such-home") {
                    *kept.entry(reason).or_default() += 1;
                }
            }
            None => n_stored += 1,
        }
    }

    let metrics = &app.app().services().metrics;
    until("every good message is stored", || metrics.mqtt_stored.get() >= n_stored).await;
    until("everything is accounted for", || {
        let rejected: u64 = expected.keys().map(|reason| rejected(&app, reason)).sum();
        let done = metrics.mqtt_stored.get() + metrics.mqtt_duplicate.get() + rejected;
        done == metrics.mqtt_received.get()
    })
    .await;
    for (reason, n) in &expected {
        assert_eq!(rejected(&app, reason), *n, "{reason}");
    }
    assert_eq!(metrics.mqtt_stored.get(), n_stored);
    assert_eq!(metrics.mqtt_connection_errors.get(), connects, "the connection never broke");

    let nodes = owner.query(REJECTED, json!({"home": home.id})).await;
    let nodes = nodes["rejectedMessages"]["nodes"].as_array().expect("nodes").clone();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for node in &nodes {
        *seen.entry(node["reason"].as_str().expect("a reason")).or_default() += 1;
        assert!(node["payloadPreview"].as_str().expect("a preview").chars().count() <= 512);
    }
    assert_eq!(seen, kept);
    let theirs = stranger.query(REJECTED, json!({"home": other_home.id})).await;
    assert_eq!(theirs["rejectedMessages"]["nodes"], json!([]), "the other home has none of them");
    let readings = stranger
        .query("query($id: ID!) { device(id: $id) { latestTelemetry { id } online } }", json!({"id": foreign.id}))
        .await;
    assert_eq!(readings["device"], json!({"latestTelemetry": null, "online": false}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mac_address_that_starts_with_24_is_not_device_24() {
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let mut registered = 0;
    while registered < 24 {
        registered = app.device(&owner, &home, &format!("d{registered}")).await.id.parse().expect("a number");
    }
    assert_eq!(registered, 24);
    let input = json!({"homeId": home.id, "key": "real", "name": "Real", "macAddress": "24-6f-28-aa-bb-cc"});
    let register = "mutation($input: RegisterDeviceInput!) { registerDevice(input: $input) { device { id } } }";
    let data = owner.query(register, json!({"input": input})).await;
    let id = data["registerDevice"]["device"]["id"].clone();
    let topic = format!("{}/{}/24:6F:28:AA:BB:CC/telemetry", app.prefix(), home.id);
    app.mqtt().await.publish(&topic, r#"{"sensors":{"temperature":7}}"#).await.expect("PUBACK");
    let latest = "query($id: ID!) { device(id: $id) { latestTelemetry { sensors { temperature } } } }";
    let reading = eventually("the device with that MAC address has a reading", || async {
        let data = owner.query(latest, json!({"id": id})).await;
        let reading = data["device"]["latestTelemetry"].clone();
        (!reading.is_null()).then_some(reading)
    })
    .await;
    assert_eq!(reading, json!({"sensors": {"temperature": 7.0}}));
    let data = owner.query(latest, json!({"id": "24"})).await;
    assert_eq!(data["device"]["latestTelemetry"], Value::Null);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retained_telemetry_is_rejected_and_a_retained_status_is_stored() {
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "probe").await;
    let mqtt = app.another_mqtt().await;
    let status = device.topic("status");
    mqtt.publish_retained(&status, r#"{"online":true}"#).await.expect("PUBACK");
    mqtt.publish_retained(&device.topic("telemetry"), r#"{"sensors":{"humidity":5}}"#).await.expect("PUBACK");
    let metrics = &app.app().services().metrics;
    until("both are stored when they are published", || metrics.mqtt_stored.get() == 2).await;

    // A server with a session of its own gets both again, as retained messages.
    let prefix = app.prefix().to_owned();
    let database = app.stop().await;
    database.forget_broker_session().await;
    let app = TestApp::builder().set("MQTT_TOPIC_PREFIX", prefix).start_on(database).await;
    let owner = owner.at(app.addr());
    let rejected = eventually("the retained telemetry is rejected", || async {
        let nodes = owner.query(REJECTED, json!({"home": home.id})).await["rejectedMessages"]["nodes"].clone();
        (!nodes.as_array().expect("nodes").is_empty()).then_some(nodes)
    })
    .await;
    assert_eq!(rejected[0]["reason"], "RETAINED");
    assert_eq!(rejected.as_array().map(Vec::len), Some(1));
    let history = "query($id: ID!) { device(id: $id) { telemetry { nodes { id } } } }";
    let data = owner.query(history, json!({"id": device.id})).await;
    assert_eq!(data["device"]["telemetry"]["nodes"].as_array().map(Vec::len), Some(1));
    for kind in ["status", "telemetry"] {
        mqtt.publish_retained(&device.topic(kind), "").await.expect("the broker deletes it");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_refused_row_is_quarantined_and_a_failing_database_is_retried() {
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "probe").await;
    let (mqtt, topic) = (app.mqtt().await, device.topic("telemetry"));
    let client = app.database().client().await;
    let count = async |n: i64| {
        let client = app.database().client().await;
        eventually(&format!("{n} readings are stored"), || async {
            let row = client.query_one("select count(*) from telemetry", &[]).await.ok()?;
            (row.get::<_, i64>(0) == n).then_some(())
        })
        .await;
    };
    // An example of a refusal that the server does not know.
    client.batch_execute("alter table telemetry add check (temperature < 1000)").await.expect("a constraint");
    let burst: Vec<String> = (0..20)
        .map(|n| format!(r#"{{"sensors":{{"n":{n},"temperature":{}}}}}"#, if n == 7 { 5_000 } else { n }))
        .collect();
    for payload in &burst {
        mqtt.publish(&topic, payload).await.expect("PUBACK");
    }
    count(19).await;
    until("the refused reading is rejected", || rejected(&app, "NOT_STORABLE") == 1).await;
    let nodes = owner.query(REJECTED, json!({"home": home.id})).await["rejectedMessages"]["nodes"].clone();
    assert_eq!((nodes.as_array().map(Vec::len), &nodes[0]["payloadPreview"]), (Some(1), &json!(burst[7])));

    // Every reading is refused with an unknown error: the cause is not a message, and the reading is parked.
    client
        .batch_execute(
            "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'refused'; end $$;
             create trigger refuse before insert on telemetry for each row execute function refuse()",
        )
        .await
        .expect("a trigger");
    mqtt.publish(&topic, r#"{"sensors":{"n":100}}"#).await.expect("PUBACK");
    let metrics = &app.app().services().metrics;
    until("it is parked", || metrics.ingest_parked.get() == 1).await;
    client.batch_execute("drop trigger refuse on telemetry").await.expect("dropped");
    count(20).await;
    assert_eq!(rejected(&app, "NOT_STORABLE"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_or_status_is_rejected_when_the_database_fails() {
    const SEND: &str = "mutation($id: ID!) { sendCommand(input: {deviceId: $id, type: \"PING\", payload: {}}) { id } }";
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "probe").await;
    let listener = app.another_mqtt().await;
    listener.subscribe(&device.topic("commands")).await.expect("SUBACK");
    let client = app.database().client().await;
    let metrics = &app.app().services().metrics;
    let send = async || {
        let id = owner.query(SEND, json!({"id": device.id})).await["sendCommand"]["id"].take();
        sent(&owner, &id).await;
        id
    };
    let ack = |id: &Value| json!({"commandId": id, "status": "SUCCEEDED", "result": {"n": 1}}).to_string();
    let (first, second) = (send().await, send().await);
    client
        .batch_execute(
            "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'refused'; end $$",
        )
        .await
        .expect("a function");

    for (table, kind, payload) in [
        ("commands", "ack", ack(&first)),
        ("device_states", "status", r#"{"online":true,"status":{"uptime":7}}"#.to_owned()),
    ] {
        let trigger =
            format!("create trigger refuse before insert or update on {table} for each row execute function refuse()");
        client.batch_execute(&trigger).await.expect("a trigger");
        let (retries, stored) = (metrics.ingest_retries.get(), metrics.mqtt_stored.get());
        app.publish(&device, kind, payload).await;
        // Two attempts of the batch, two of its half, and more after the failed probe.
        until("the batch is retried", || metrics.ingest_retries.get() >= retries + 6).await;
        client.batch_execute(&format!("drop trigger refuse on {table}")).await.expect("dropped");
        until("it is stored", || metrics.mqtt_stored.get() > stored).await;
    }
    let state = "query($id: ID!) { device(id: $id) { metadata } }";
    let status = owner.query(state, json!({"id": device.id})).await["device"]["metadata"]["lastStatus"].take();
    assert_eq!(status["status"]["uptime"], 7, "the whole status is stored");
    assert_eq!(command(&owner, &first).await, json!({"status": "SUCCEEDED", "result": {"n": 1}}));
    assert_eq!(rejected(&app, "NOT_STORABLE"), 0);

    // PostgreSQL refuses the values of this answer and accepts it without them.
    client.batch_execute("alter table commands add check (result->>'n' <> '1') not valid").await.expect("a constraint");
    app.publish(&device, "ack", ack(&second)).await;
    until("it is rejected", || rejected(&app, "NOT_STORABLE") == 1).await;
    assert!(command(&owner, &second).await["result"].is_null());
}

async fn command(owner: &User, id: &Value) -> Value {
    owner.query("query($id: ID!) { command(id: $id) { status result } }", json!({ "id": id })).await["command"].take()
}

async fn sent(owner: &User, id: &Value) {
    eventually("it is sent", || async { (command(owner, id).await["status"] == "SENT").then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_home_keeps_its_newest_rejected_messages() {
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "probe").await;
    let sql = app.database().client().await;
    let insert = format!(
        "insert into rejected_messages (home_id, topic, reason, payload_preview, received_at)
         select {}, 't', 'OLD', '', now() from generate_series(1, 11500)",
        home.id
    );
    sql.batch_execute(&insert).await.expect("inserted");
    app.publish(&device, "telemetry", "no JSON").await;
    let count = async |what: &str| -> i64 {
        let count = format!("select count(*) from rejected_messages where {what}");
        sql.query_one(&count, &[]).await.expect("counted").get(0)
    };
    eventually("the oldest are deleted", || async { (count("true").await == 10_000).then_some(()) }).await;
    assert_eq!(count("reason = 'BAD_JSON'").await, 1);
    assert_eq!(app.app().services().metrics.rejected_pruned.get(), 1_501);
    owner.query("mutation($id: ID!) { deleteHome(id: $id) }", json!({"id": home.id})).await;
    assert_eq!(count("true").await, 0);
}

fn rejected(app: &TestApp, reason: &str) -> u64 {
    let line = format!("reason=\"{reason}\"}} ");
    let text = app.app().services().metrics.render();
    text.lines().find_map(|l| l.split_once(&line)).map_or(0, |(_, n)| n.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejected_message_says_what_to_change() {
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "board").await;
    for (kind, payload, expected) in [
        ("ack", r#"{"status":"APPLIED"}"#, "ack: give commandId"),
        ("ack", r#"{"configVersion":1,"status":"OK"}"#, "APPLIED or REJECTED"),
        ("status", r#"{"online":"true"}"#, "true or false"),
        ("telemetry", r#"{"temperature":21}"#, "give `sensors`"),
        ("telemetry", r#"{"sensors":{"temperature":21"#, "cut off"),
    ] {
        app.publish(&device, kind, payload).await;
        eventually(&format!("{kind} {payload} is listed with its cure"), async || {
            let listed = owner.query(REJECTED, json!({"home": home.id})).await;
            let newest = &listed["rejectedMessages"]["nodes"][0];
            let is_it = newest["payloadPreview"] == payload;
            (is_it && newest["detail"].as_str().is_some_and(|detail| detail.contains(expected))).then_some(())
        })
        .await;
    }
    app.stop().await;
}

/// The texts know the reasons by their names only: features import nothing of MQTT.
#[test]
fn every_reason_has_a_text_and_every_text_a_reason() {
    let detail = |reason: &str| {
        let (topic, reason) = ("smarthome/1/board/telemetry".to_owned(), reason.to_owned());
        let (id, received_at) = (RejectedMessageId::from_database(1), DateTime::UNIX_EPOCH);
        RejectedMessage { id, topic, reason, payload_preview: String::new(), received_at }.detail()
    };
    let default = detail("UNKNOWN_REASON");
    for reason in Rejection::ALL {
        assert_ne!(detail(reason.as_str()), default, "{reason}");
    }
    let source = include_str!("../../src/homes/rejected_messages.rs");
    let known = source.split("(\"").skip(1).filter_map(|rest| rest.split_once("\", ")).map(|(reason, _)| reason);
    let mut n_known = 0;
    for reason in known {
        assert!(reason.parse::<Rejection>().is_ok(), "{reason}");
        n_known += 1;
    }
    assert!(n_known >= Rejection::ALL.len(), "only {n_known} texts were found");
}
