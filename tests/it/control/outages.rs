//! The broker stops, restarts, or restarts without its data: the rows stay true and delivery continues under the
//! same ids.

use serde_json::json;

use super::super::support::app::TestApp;
use super::super::support::broker::Broker;
use super::super::support::eventually;
use super::Rig;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_broker_delays_commands_and_loses_none() {
    let mut broker = Broker::start().await;
    let mut rig = Rig::with(TestApp::builder().broker(broker.port())).await;
    broker.kill();
    let mut ids = Vec::new();
    for n in 0..20 {
        ids.push(rig.send(json!({"type": "BEEP", "payload": n})).await);
    }
    rig.push(json!({"sampleRate": 30})).await;
    assert_eq!(rig.command(&ids[0]).await["status"], "PENDING");
    broker.restart().await;
    // The test's client has a clean session, so it subscribes again.
    rig.mqtt = rig.app.another_mqtt().await;
    rig.mqtt.subscribe(&rig.device.topic("commands")).await.expect("SUBACK");
    rig.until(&ids[19], "SENT").await;
    rig.until_config(1, "SENT").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_lost_its_data_gets_configurations_and_unanswered_commands_again() {
    let mut broker = Broker::start().await;
    let rig = Rig::with(TestApp::builder().broker(broker.port())).await;
    let answered = rig.send(json!({"type": "BEEP"})).await;
    let waiting = rig.send(json!({"type": "BEEP", "timeoutSeconds": 60})).await;
    rig.push(json!({"sampleRate": 30})).await;
    rig.until(&waiting, "SENT").await;
    rig.answer(&answered, "SUCCEEDED", json!({})).await;
    rig.until(&answered, "SUCCEEDED").await;
    rig.until_config(1, "SENT").await;
    broker.kill();
    broker.empty();
    broker.restart().await;
    let mut device = rig.app.another_mqtt().await;
    device.subscribe(&rig.device.topic("commands")).await.expect("SUBACK");
    device.subscribe(&rig.device.topic("config")).await.expect("SUBACK");
    // The configuration may be published before the subscription. The broker retains it again either way.
    let kept = eventually("the configuration is back", || {
        let message = device.try_next().filter(|(topic, _)| topic.ends_with("/config"));
        std::future::ready(message)
    })
    .await;
    assert!(String::from_utf8_lossy(&kept.1).contains("\"version\":1"));
    rig.until(&waiting, "SENT").await;
    assert_eq!(rig.command(&answered).await["status"], "SUCCEEDED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_the_broker_lost_is_sent_again_under_its_id() {
    let mut broker = Broker::start().await;
    let mut rig = Rig::with(TestApp::builder().broker(broker.port())).await;
    let id = rig.send(json!({"type": "BEEP", "timeoutSeconds": 120})).await;
    assert_eq!(rig.received().await.1["commandId"], id);
    rig.until(&id, "SENT").await;
    broker.kill();
    broker.empty();
    broker.restart().await;
    // The broker has lost every subscription: it drops the command until the device subscribes.
    rig.until_tried(&id).await;
    rig.mqtt.subscribe(&rig.device.topic("commands")).await.expect("SUBACK");
    assert_eq!(rig.received().await.1["commandId"], id);
    rig.answer(&id, "SUCCEEDED", json!({})).await;
    rig.until(&id, "SUCCEEDED").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_crashed_gets_configurations_again_that_it_had_not_saved() {
    let mut broker = Broker::start().await;
    let rig = Rig::with(TestApp::builder().broker(broker.port())).await;
    let gone = rig.app.device(&rig.owner, &rig.home, "gone").await;
    let push = "mutation($id: ID!) { pushConfig(input: {deviceId: $id, config: {sampleRate: 5}}) { version } }";
    rig.owner.query(push, json!({"id": gone.id})).await;
    rig.push(json!({"sampleRate": 30})).await;
    rig.until_config(1, "SENT").await;
    let sent = "query($id: ID!) { device(id: $id) { config { status } } }";
    eventually("both are sent", || async {
        let data = rig.owner.query(sent, json!({"id": gone.id})).await;
        (data["device"]["config"]["status"] == "SENT").then_some(())
    })
    .await;
    // The broker saves our session, so only the crash shows that later messages are lost.
    broker.stop();
    broker.restart().await;
    rig.push(json!({"sampleRate": 60})).await;
    rig.until_config(2, "SENT").await;
    rig.owner.query("mutation($id: ID!) { deleteDevice(id: $id) }", json!({"id": gone.id})).await;
    let database = rig.app.database().client().await;
    let done = "select count(*) from retained_clearings where confirmed_at is not null";
    eventually("it is cleared", || async {
        (database.query_one(done, &[]).await.ok()?.get::<_, i64>(0) == 1).then_some(())
    })
    .await;
    broker.kill();
    broker.restart().await;
    eventually("the broker retains the newest version, and nothing of the deleted device", || async {
        let mut reader = rig.app.another_mqtt().await;
        reader.subscribe(&format!("{}/+/+/config", rig.app.prefix())).await.ok()?;
        reader.subscribe("nothing/at/all").await.ok()?;
        let mut kept = Vec::new();
        while let Some((topic, payload)) = reader.try_next() {
            kept.push((topic, String::from_utf8_lossy(&payload).contains("\"version\":2")));
        }
        (kept == [(rig.device.topic("config"), true)]).then_some(())
    })
    .await;
}
