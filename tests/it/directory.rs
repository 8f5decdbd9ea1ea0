//! Changes that another server makes to a device apply to the messages that follow.

use std::time::Duration;

use serde_json::json;
use smarthome::db;
use smarthome::devices::{DeviceName, Directory, RegistryChanges, RegistryListener, Resolved, TopicAddress};
use smarthome::ids::HomeId;

use super::support::app::TestApp;
use super::support::{eventually, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_registered_again_by_another_server_receives_its_messages_at_once() {
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let second = TestApp::builder().second(&app).await;
    let owner_there = owner.at(second.http_addr());
    let m = app.app().services().metrics.clone();
    let stored = async |n: u64| {
        until("so many are stored", || m.mqtt_stored.get() == n).await;
    };
    let mut devices = Vec::new();
    for key in ["a", "b"] {
        let old = app.device(&owner, &home, key).await;
        app.publish(&old, "telemetry", r#"{"sensors":{"n":0}}"#).await;
        devices.push(old);
    }
    stored(2).await;
    for old in &mut devices {
        let delete = "mutation($id: ID!) { deleteDevice(id: $id) }";
        owner_there.query(delete, json!({"id": old.id})).await;
        *old = owner_there.device(app.prefix(), &home, &old.key).await;
    }

    // The first message of one device is a status, of the other a reading: neither goes to the deleted device.
    let [a, b] = &devices[..] else { panic!("two devices") };
    app.publish(a, "status", r#"{"online":true,"status":{"uptime":7}}"#).await;
    for n in 1..=20 {
        app.publish(b, "telemetry", format!(r#"{{"sensors":{{"n":{n}}}}}"#)).await;
    }
    stored(23).await;
    assert_eq!((m.mqtt_rejected_total.get(), m.mqtt_received.get()), (0, 23));
    let query = "query($id: ID!) { device(id: $id) { online metadata telemetry(first: 50) { nodes { extra } } } }";
    let state = owner.query(query, json!({"id": a.id})).await["device"].take();
    assert_eq!((&state["online"], &state["metadata"]["lastStatus"]["status"]["uptime"]), (&json!(true), &json!(7)));
    let readings = owner.query(query, json!({"id": b.id})).await["device"]["telemetry"]["nodes"].take();
    let mut numbers: Vec<_> = readings.as_array().expect("nodes").iter().map(|r| r["extra"]["n"].as_u64()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=20).map(Some).collect::<Vec<_>>());

    // Each packet is remembered only once its message is stored: else a crash in between would lose the message. Eight
    // more are the server's own, which delete what the broker may have retained of the two deleted devices.
    let client = app.database().client().await;
    let packets = "select count(*), count(distinct packet) from committed_packets, unnest(packet_ids) packet";
    eventually("the packets of 23 messages and 8 clearings are remembered", || async {
        let row = client.query_one(packets, &[]).await.expect("counted");
        ((row.get::<_, i64>(0), row.get::<_, i64>(1)) == (31, 31)).then_some(())
    })
    .await;

    // A message of a deleted device is rejected as that of an unknown device.
    owner_there.query("mutation($id: ID!) { deleteDevice(id: $id) }", json!({"id": a.id})).await;
    app.publish(a, "telemetry", r#"{"sensors":{"n":1}}"#).await;
    let rejected = "query($id: ID!) { rejectedMessages(homeId: $id) { nodes { reason } } }";
    let nodes = eventually("the message is rejected", || async {
        let nodes = owner.query(rejected, json!({"id": home.id})).await["rejectedMessages"]["nodes"].take();
        (nodes != json!([])).then_some(nodes)
    })
    .await;
    assert_eq!(nodes, json!([{"reason": "UNKNOWN_DEVICE"}]));
    assert_eq!(m.mqtt_received.get(), m.mqtt_stored.get() + m.mqtt_rejected_total.get());
    second.stop().await;
}

/// Each home is asked for by its key, each device by its own.
fn address(text: &str) -> TopicAddress<'_> {
    let (home, device) = text.split_once('/').expect("two parts");
    TopicAddress { home: Err(home), device: Some(DeviceName::Key(device)) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_in_one_home_leaves_the_answers_for_others_usable() {
    let app = TestApp::start().await;
    let mut conn = db::connect(&app.database().url(), Some(Duration::from_secs(5))).await.expect("a connection");
    let (changed, owner) = app.home().await;
    let (other, other_owner) = app.home().await;
    app.device(&owner, &changed, "a").await;
    app.device(&other_owner, &other, "b").await;
    let texts = [format!("{}/a", changed.key), format!("{}/b", other.key), "nobody/c".to_owned()];
    let changes = RegistryChanges::default();
    let mut directory = Directory::new(changes.clone());
    let mut resolved = async || {
        directory.refresh(&mut conn, texts.iter().map(String::as_str), address).await.expect("resolved");
        [0, 1, 2].map(|n| directory.get(&texts[n]))
    };
    let before = resolved().await;
    assert!(matches!(before, [Resolved::Device(_), Resolved::Device(_), Resolved::NoHome]), "{before:?}");

    // Behind the cache's back, so that an answer tells whether the database was asked.
    app.database().client().await.batch_execute("delete from devices").await.expect("deleted");
    let id = |text: &str| text.parse::<HomeId>().expect("an id");
    changes.device_changed(id(&changed.id), "1".parse().expect("an id"));
    let after = resolved().await;
    assert_eq!(after, [Resolved::NoDevice(id(&changed.id)), before[1], Resolved::NoHome]);
    let rename = format!("update homes set key = 'nobody' where id = {}", changed.id);
    app.database().client().await.batch_execute(&rename).await.expect("renamed");
    changes.home_changed(id(&changed.id));
    let renamed = resolved().await;
    assert_eq!(renamed, [Resolved::NoHome, before[1], Resolved::NoDevice(id(&changed.id))]);
}

/// No change is announced here, as none is that another server makes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_did_not_exist_a_moment_ago_is_found_at_once() {
    let app = TestApp::start().await;
    let mut conn = db::connect(&app.database().url(), Some(Duration::from_secs(5))).await.expect("a connection");
    let (home, owner) = app.home().await;
    let text = format!("{}/a", home.key);
    let mut directory = Directory::new(RegistryChanges::default());
    let mut resolved = async || {
        directory.refresh(&mut conn, [&*text].into_iter(), address).await.expect("resolved");
        directory.get(&text)
    };
    assert!(matches!(resolved().await, Resolved::NoDevice(_)));
    let device = app.device(&owner, &home, "a").await;
    let Resolved::Device(found) = resolved().await else { panic!("its first message would be rejected") };
    assert_eq!(found.device.to_string(), device.id);
}

/// Addresses that name no device may be any number: they must not displace those of devices.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_without_a_device_are_not_cached() {
    let app = TestApp::start().await;
    let mut conn = db::connect(&app.database().url(), Some(Duration::from_secs(5))).await.expect("a connection");
    let (home, owner) = app.home().await;
    app.device(&owner, &home, "a").await;
    let [known, unknown] = ["a", "b"].map(|key| format!("{}/{key}", home.key));
    let mut directory = Directory::new(RegistryChanges::default());
    directory.refresh(&mut conn, [&*known, &*unknown].into_iter(), address).await.expect("resolved");
    assert!(matches!(directory.get(&unknown), Resolved::NoDevice(_)));
    directory.refresh(&mut conn, [].into_iter(), address).await.expect("nothing to do");
    assert!(matches!([&known, &unknown].map(|text| directory.get(text)), [Resolved::Device(_), Resolved::NoHome]));
}
