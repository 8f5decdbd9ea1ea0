//! The broker stops, comes back, comes back empty; the database goes: the rows say what is true and
//! delivery goes on under the same ids.

use serde_json::json;

use super::super::support::app::TestApp;
use super::super::support::broker::Broker;
use super::super::support::eventually;
use super::Rig;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_away_makes_commands_late_not_lost() {
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
    // The test's own client has a clean session: it hears once it has subscribed anew.
    rig.mqtt = rig.app.another_mqtt().await;
    rig.mqtt.subscribe(&rig.device.topic("commands")).await.expect("SUBACK");
    rig.until(&ids[19], "SENT").await;
    rig.until_config(1, "SENT").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_emptied_broker_lost_is_put_back() {
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
    // Either may be there before the subscription is: so what counts is that the broker keeps it again.
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
async fn a_command_that_an_emptied_broker_lost_goes_again_under_its_id() {
    let mut broker = Broker::start().await;
    let mut rig = Rig::with(TestApp::builder().broker(broker.port())).await;
    let id = rig.send(json!({"type": "BEEP", "timeoutSeconds": 120})).await;
    assert_eq!(rig.received().await.1["commandId"], id);
    let first = rig.until(&id, "SENT").await;
    broker.kill();
    broker.empty();
    // Nobody reaches the broker's device before the server does: it is there, and listens, from the start.
    broker.restart().await;
    let again = eventually("it is sent again", || async {
        let command = rig.command(&id).await;
        (command["status"] == "SENT" && command["sentAt"] != first["sentAt"]).then_some(command)
    })
    .await;
    assert!(again["ackedAt"].is_null());
}
