//! Hostile messages: each is counted under its reason and kept where its home exists; none stops or
//! reconnects the link, and the good ones go on.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::support::app::TestApp;
use super::support::eventually;
use super::support::user::User;

const REJECTED: &str =
    "query($home: ID!) { rejectedMessages(homeId: $home, first: 100) { nodes { topic reason payloadPreview } } }";

fn random(len: usize) -> Vec<u8> {
    (0..len).map(|_| fastrand::u8(..)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_is_counted_by_reason_and_stops_nothing() {
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

    // Topic, payload, the reason it is rejected for; none where it is to be stored.
    let cases: Vec<(String, Vec<u8>, Option<&str>)> = vec![
        (telemetry.clone(), random(20 * 1024), Some("NOT_UTF8")),
        (telemetry.clone(), vec![b' '; 65_537], Some("TOO_LARGE")),
        (telemetry.clone(), vec![b'x'; 1_000_000], Some("TOO_LARGE")),
        (telemetry.clone(), b"\0".to_vec(), Some("BAD_JSON")),
        (telemetry.clone(), b"".to_vec(), Some("BAD_JSON")),
        (telemetry.clone(), b"\xef\xbb\xbf{}".to_vec(), Some("BAD_JSON")),
        (telemetry.clone(), br#"{"sensors":{"temperature":NaN}}"#.to_vec(), Some("BAD_JSON")),
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
        mqtt.publish(topic, payload).await.expect("the broker takes it");
        mqtt.publish(&telemetry, good).await.expect("the broker takes it");
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
    eventually("every good message is stored", || {
        std::future::ready((metrics.mqtt_stored.get() >= n_stored).then_some(()))
    })
    .await;
    eventually("everything is accounted for", || {
        let rejected: u64 = expected.keys().map(|reason| rejected(&app, reason)).sum();
        let done = metrics.mqtt_stored.get() + metrics.mqtt_duplicate.get() + rejected;
        std::future::ready((done == metrics.mqtt_received.get()).then_some(()))
    })
    .await;
    for (reason, n) in &expected {
        assert_eq!(rejected(&app, reason), *n, "{reason}");
    }
    assert_eq!(metrics.mqtt_stored.get(), n_stored);
    assert_eq!(metrics.mqtt_connection_errors.get(), connects, "the link never broke");

    let nodes = owner.query(REJECTED, json!({"home": home.id})).await;
    let nodes = nodes["rejectedMessages"]["nodes"].as_array().expect("nodes").clone();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for node in &nodes {
        *seen.entry(node["reason"].as_str().expect("a reason")).or_default() += 1;
        assert!(node["payloadPreview"].as_str().expect("a preview").chars().count() <= 512);
    }
    assert_eq!(seen, kept);
    let theirs = stranger.query(REJECTED, json!({"home": other_home.id})).await;
    assert_eq!(theirs["rejectedMessages"]["nodes"], json!([]), "nothing of it concerns the other home");
    let readings = stranger
        .query("query($id: ID!) { device(id: $id) { latestTelemetry { id } online } }", json!({"id": foreign.id}))
        .await;
    assert_eq!(readings["device"], json!({"latestTelemetry": null, "online": false}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mac_that_starts_with_24_never_lands_on_device_24() {
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
    app.mqtt().await.publish(&topic, r#"{"sensors":{"temperature":7}}"#).await.expect("the broker takes it");
    let latest = "query($id: ID!) { device(id: $id) { latestTelemetry { sensors { temperature } } } }";
    let reading = eventually("it is the MAC's device's", || async {
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
async fn what_the_broker_kept_from_earlier_tells_nothing_of_now() {
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "probe").await;
    let mqtt = app.mqtt().await;
    let status = device.topic("status");
    mqtt.publish_retained(&status, r#"{"online":true}"#).await.expect("the broker takes it");
    mqtt.publish_retained(&device.topic("telemetry"), r#"{"sensors":{"humidity":5}}"#).await.expect("taken");
    let metrics = &app.app().services().metrics;
    eventually("both are stored while they are news", || {
        std::future::ready((metrics.mqtt_stored.get() == 2).then_some(()))
    })
    .await;

    // A server with a session of its own gets both again, as what was kept.
    let database = app.database().url();
    let prefix = app.prefix().to_owned();
    let second = super::support::server::Server::start(
        &database,
        super::support::services::services().mqtt_port(),
        &[("MQTT_TOPIC_PREFIX", &prefix)],
    )
    .await;
    let rejected = eventually("the kept telemetry is rejected", || async {
        let nodes = owner.query(REJECTED, json!({"home": home.id})).await["rejectedMessages"]["nodes"].clone();
        (!nodes.as_array().expect("nodes").is_empty()).then_some(nodes)
    })
    .await;
    assert_eq!(rejected[0]["reason"], "RETAINED");
    assert_eq!(rejected.as_array().map(Vec::len), Some(1));
    let history = "query($id: ID!) { device(id: $id) { telemetry { nodes { id } } } }";
    let data = owner.query(history, json!({"id": device.id})).await;
    assert_eq!(data["device"]["telemetry"]["nodes"].as_array().map(Vec::len), Some(1));
    drop(second);
    for kind in ["status", "telemetry"] {
        mqtt.publish_retained(&device.topic(kind), "").await.expect("the broker forgets it");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_the_database_refuses_is_told_from_a_database_that_is_ill() {
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "probe").await;
    let (mqtt, topic) = (app.mqtt().await, device.topic("telemetry"));
    let client = app.database().client().await;
    let count = async |n: i64| {
        let client = app.database().client().await;
        eventually("so many are stored", || async {
            let row = client.query_one("select count(*) from telemetry", &[]).await.ok()?;
            (row.get::<_, i64>(0) == n).then_some(())
        })
        .await;
    };
    // Stands for whatever one row may hit that was not foreseen.
    client.batch_execute("alter table telemetry add check (temperature < 1000)").await.expect("a constraint");
    let burst: Vec<String> = (0..20)
        .map(|n| format!(r#"{{"sensors":{{"n":{n},"temperature":{}}}}}"#, if n == 7 { 5_000 } else { n }))
        .collect();
    for payload in &burst {
        mqtt.publish(&topic, payload).await.expect("the broker takes it");
    }
    count(19).await;
    eventually("the one to blame is rejected", || {
        std::future::ready((rejected(&app, "NOT_STORABLE") == 1).then_some(()))
    })
    .await;
    let nodes = owner.query(REJECTED, json!({"home": home.id})).await["rejectedMessages"]["nodes"].clone();
    assert_eq!((nodes.as_array().map(Vec::len), &nodes[0]["payloadPreview"]), (Some(1), &json!(burst[7])));

    // Refuses every reading, with an error of no known kind: nobody is to blame.
    client
        .batch_execute(
            "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'ill'; end $$;
             create trigger ill before insert on telemetry for each row execute function refuse()",
        )
        .await
        .expect("a trigger");
    let retries = app.app().services().metrics.ingest_retries.get();
    mqtt.publish(&topic, r#"{"sensors":{"n":100}}"#).await.expect("the broker takes it");
    let metrics = &app.app().services().metrics;
    eventually("it is tried again and again", || {
        std::future::ready((metrics.ingest_retries.get() >= retries + 4).then_some(()))
    })
    .await;
    client.batch_execute("drop trigger ill on telemetry").await.expect("dropped");
    count(20).await;
    assert_eq!(rejected(&app, "NOT_STORABLE"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_and_no_status_is_blamed_for_a_database_that_is_ill() {
    const SEND: &str = "mutation($id: ID!) { sendCommand(input: {deviceId: $id, type: \"PING\", payload: {}}) { id } }";
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "probe").await;
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
            "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'ill'; end $$",
        )
        .await
        .expect("a function");

    for (table, kind, payload) in [
        ("commands", "ack", ack(&first)),
        ("device_states", "status", r#"{"online":true,"status":{"uptime":7}}"#.to_owned()),
    ] {
        let trigger =
            format!("create trigger ill before insert or update on {table} for each row execute function refuse()");
        client.batch_execute(&trigger).await.expect("a trigger");
        let (retries, stored) = (metrics.ingest_retries.get(), metrics.mqtt_stored.get());
        app.publish(&device, kind, payload).await;
        // Once for all, once more, halved, once more alone, and what was taken for a fault of its own.
        eventually("it is tried again and again", || {
            std::future::ready((metrics.ingest_retries.get() >= retries + 6).then_some(()))
        })
        .await;
        client.batch_execute(&format!("drop trigger ill on {table}")).await.expect("dropped");
        eventually("it is stored", || std::future::ready((metrics.mqtt_stored.get() > stored).then_some(()))).await;
    }
    let state = "query($id: ID!) { device(id: $id) { metadata } }";
    let told = owner.query(state, json!({"id": device.id})).await["device"]["metadata"]["lastStatus"].take();
    assert_eq!(told["status"]["uptime"], 7, "as it came");
    assert_eq!(command(&owner, &first).await, json!({"status": "SUCCEEDED", "result": {"n": 1}}));
    assert_eq!(rejected(&app, "NOT_STORABLE"), 0);

    // What it says is refused, and another that says less would be taken: this one is to blame.
    client.batch_execute("alter table commands add check (result->>'n' <> '1') not valid").await.expect("a constraint");
    app.publish(&device, "ack", ack(&second)).await;
    eventually("it is rejected", || std::future::ready((rejected(&app, "NOT_STORABLE") == 1).then_some(()))).await;
    assert!(command(&owner, &second).await["result"].is_null());
}

/// A command as it stands.
async fn command(owner: &User, id: &Value) -> Value {
    owner.query("query($id: ID!) { command(id: $id) { status result } }", json!({ "id": id })).await["command"].take()
}

async fn sent(owner: &User, id: &Value) {
    eventually("it is sent", || async { (command(owner, id).await["status"] == "SENT").then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_home_keeps_its_newest_rejected_messages_and_goes_with_all_of_them() {
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
    eventually("the oldest are gone", || async { (count("true").await == 10_000).then_some(()) }).await;
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
