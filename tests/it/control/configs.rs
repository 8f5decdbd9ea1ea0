//! One flow for each state of a configuration.

use serde_json::{Value, json};

use super::super::support::app::TestApp;
use super::super::support::eventually;
use super::Rig;

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_is_sent_and_applied_and_a_second_answer_changes_nothing() {
    let mut rig = Rig::start().await;
    let config = json!({"sampleRate": 30, "alertThresholds": {"gas": 800, "temperature": 35, "humidity": 80},
        "powerSaving": true, "wifiConfig": {"ssid": "SmartHome_Network", "reconnectInterval": 30},
        "mqttConfig": {"keepAlive": 60, "qos": 1}});
    assert_eq!(rig.push(config.clone()).await, 1);
    let (kind, message) = rig.received().await;
    assert_eq!((kind.as_str(), &message["config"], &message["version"]), ("config", &config, &json!(1)));
    assert!(message["timestamp"].is_string() && message.as_object().map(serde_json::Map::len) == Some(3));
    rig.until_config(1, "SENT").await;
    let updates = "subscription($id: ID!) { configUpdates(deviceId: $id) { version status errors appliedAt } }";
    let mut updates = rig.owner.subscribe(updates, json!({"id": rig.device.id})).await;
    rig.publish("ack", json!({"configVersion": 1, "status": "APPLIED"})).await;
    let applied = updates.next().await["configUpdates"].take();
    assert_eq!((&applied["version"], &applied["status"]), (&json!(1), &json!("APPLIED")));
    assert!(applied["appliedAt"].is_string());
    rig.publish("ack", json!({"configVersion": 1, "status": "REJECTED", "errors": {"sampleRate": "no"}})).await;
    rig.publish("ack", json!({"configVersion": 2, "status": "APPLIED"})).await;
    rig.until_processed(3).await;
    let now = rig.config().await["config"].take();
    assert_eq!((&now["status"], &now["errors"]), (&json!("APPLIED"), &json!(null)));
    let m = &rig.app.app().services().metrics;
    assert_eq!((m.mqtt_stored.get(), m.mqtt_duplicate.get(), m.mqtt_rejected_total.get()), (1, 1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_is_rejected_with_reasons_by_key_and_rolled_back() {
    let mut rig = Rig::start().await;
    rig.push(json!({"sampleRate": 30})).await;
    rig.received().await;
    rig.publish("ack", json!({"configVersion": 1, "status": "APPLIED"})).await;
    rig.until_config(1, "APPLIED").await;
    rig.push(json!({"sampleRate": 0.5})).await;
    rig.received().await;
    rig.publish("ack", json!({"configVersion": 2, "status": "REJECTED", "errors": {"sampleRate": "too fast"}})).await;
    let rejected = rig.until_config(2, "REJECTED").await;
    assert_eq!(rejected["errors"], json!({"sampleRate": "too fast"}));
    assert_eq!(rig.received().await.1["version"], 1, "the broker keeps the last one that was applied");
    let back = "mutation($id: ID!) { rollbackConfig(input: {deviceId: $id, toVersion: 1}) { version config } }";
    let data = rig.owner.query(back, json!({"id": rig.device.id})).await;
    assert_eq!(data["rollbackConfig"], json!({"version": 3, "config": {"sampleRate": 30}}));
    assert_eq!(rig.received().await.1["version"], 3);
    rig.until_config(3, "SENT").await;
    let history = rig.config().await["configHistory"]["nodes"].take();
    assert_eq!(
        history,
        json!([{"version": 3, "status": "SENT"}, {"version": 2, "status": "REJECTED"},
        {"version": 1, "status": "APPLIED"}])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_keeps_the_last_applied_version_and_never_a_rejected_one() {
    let mut rig = Rig::start().await;
    let topic = rig.device.topic("config");
    // Without an applied version the broker keeps none.
    assert_eq!(rig.push(json!({"sampleRate": 900})).await, 1);
    rig.received().await;
    rig.publish("ack", json!({"configVersion": 1, "status": "REJECTED", "errors": {"sampleRate": "too slow"}})).await;
    rig.until_config(1, "REJECTED").await;
    let (cleared, payload) = rig.mqtt.next().await;
    assert_eq!((cleared.as_str(), payload.len()), (topic.as_str(), 0));

    assert_eq!(rig.push(json!({"sampleRate": 30})).await, 2);
    assert_eq!(rig.received().await.1["version"], 2);
    rig.publish("ack", json!({"configVersion": 2, "status": "APPLIED"})).await;
    rig.until_config(2, "APPLIED").await;
    for version in [3, 4] {
        assert_eq!(rig.push(json!({"sampleRate": 900 + version})).await, version);
        assert_eq!(rig.received().await.1["version"], version);
        rig.publish("ack", json!({"configVersion": version, "status": "REJECTED", "errors": {"sampleRate": "no"}}))
            .await;
        rig.until_config(version, "REJECTED").await;
        let (_, kept) = rig.received().await;
        assert_eq!((&kept["version"], &kept["config"]), (&json!(2), &json!({"sampleRate": 30})), "after {version}");
    }
    let mut late = rig.app.another_mqtt().await;
    late.subscribe(&topic).await.expect("SUBACK");
    let kept: Value = serde_json::from_slice(&late.next().await.1).expect("JSON");
    assert_eq!(kept["version"], 2);
    // The newest version remains the desired one until the next push.
    assert_eq!(rig.config().await["config"]["version"], 4);
    assert_eq!(rig.push(json!({"sampleRate": 40})).await, 5);
    assert_eq!(rig.received().await.1["version"], 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_was_away_finds_only_the_newest_version() {
    let rig = Rig::start().await;
    for n in 1..=5 {
        rig.push(json!({"sampleRate": n})).await;
    }
    rig.until_config(5, "SENT").await;
    let history = rig.config().await["configHistory"]["nodes"].take();
    let older = history.as_array().expect("a list").iter().filter(|node| node["status"] == "SUPERSEDED").count();
    assert_eq!(older, 4, "{history}");
    let mut late = rig.app.another_mqtt().await;
    late.subscribe(&rig.device.topic("config")).await.expect("SUBACK");
    let (_, message) = late.next().await;
    let message: Value = serde_json::from_slice(&message).expect("JSON");
    assert_eq!((&message["version"], &message["config"]), (&json!(5), &json!({"sampleRate": 5})));
    // Commands are never retained, so the next message is the configuration.
    let id = rig.send(json!({"type": "BEEP"})).await;
    rig.until(&id, "SENT").await;
    let mut later = rig.app.another_mqtt().await;
    later.subscribe(&rig.device.topic("commands")).await.expect("SUBACK");
    later.subscribe(&rig.device.topic("config")).await.expect("SUBACK");
    assert_eq!(later.next().await.0, rig.device.topic("config"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_reaches_only_the_device() {
    let mut rig = Rig::with(TestApp::builder().set("ENCRYPTION_KEY", KEY)).await;
    let config = json!({"wifiConfig": {"ssid": "home", "password": "canary-in-a-coal-mine"}});
    rig.push(config.clone()).await;
    assert_eq!(rig.received().await.1["config"], config);
    let read = rig.until_config(1, "SENT").await;
    assert_eq!(read["config"], json!({"wifiConfig": {"ssid": "home", "password": "[secret]"}}));
    let database = rig.app.database().client().await;
    for table in ["device_configs", "retained_configs"] {
        let sql = format!("select count(*) from {table} t where t::text like '%canary%'");
        assert_eq!(database.query_one(&sql, &[]).await.expect("a count").get::<_, i64>(0), 0, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_device_leaves_no_configuration_at_the_broker() {
    let mut rig = Rig::start().await;
    rig.push(json!({"sampleRate": 30})).await;
    rig.received().await;
    rig.until_config(1, "SENT").await;
    rig.owner.query("mutation($id: ID!) { deleteDevice(id: $id) }", json!({"id": rig.device.id})).await;
    assert_eq!(rig.mqtt.next().await, (rig.device.topic("config"), Vec::new()));
    let database = rig.app.database().client().await;
    eventually("every topic is cleared", || async {
        let row =
            database.query_one("select count(*) from retained_clearings where confirmed_at is null", &[]).await.ok()?;
        (row.get::<_, i64>(0) == 0).then_some(())
    })
    .await;
}
