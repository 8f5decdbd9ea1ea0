//! One end-to-end flow per status of a command.

use serde_json::json;

use super::super::support::app::TestApp;
use super::super::support::broker::Broker;
use super::super::support::eventually;
use super::super::support::proxy::{Mode, Proxy, Target};
use super::super::support::services::services;
use super::Rig;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sent_acked_succeeded_with_a_message_of_the_device_protocol() {
    let mut rig = Rig::start().await;
    let payload = json!({"power": true, "brightness": 80, "color": "#FF5733"});
    let id = rig.send(json!({"type": "SET_POWER", "payload": payload, "correlationId": "corr_987654321"})).await;
    let (kind, message) = rig.received().await;
    assert_eq!(kind, "commands");
    assert_eq!(message["commandId"], id);
    assert_eq!((&message["type"], &message["payload"]), (&json!("SET_POWER"), &payload));
    assert_eq!((&message["source"], &message["correlationId"]), (&json!("USER"), &json!("corr_987654321")));
    for field in ["timestamp", "expiresAt"] {
        let text = message[field].as_str().expect("a time");
        assert!(text.ends_with('Z') && text.parse::<chrono::DateTime<chrono::Utc>>().is_ok(), "{field}: {text}");
    }
    assert_eq!(message.as_object().map(serde_json::Map::len), Some(7));

    rig.until(&id, "SENT").await;
    let mut updates = rig.updates(&id).await;
    assert_eq!(updates.next().await["commandUpdates"]["status"], "SENT");
    rig.answer(&id, "ACKED", json!({})).await;
    assert_eq!(updates.next().await["commandUpdates"]["status"], "ACKED");
    rig.answer(&id, "SUCCEEDED", json!({"result": {"power": true}})).await;
    let done = updates.next().await["commandUpdates"].take();
    assert_eq!(
        done,
        json!({"id": id, "status": "SUCCEEDED", "result": {"power": true}, "error": null, "confirmedBy": "ACK"})
    );
    let command = rig.command(&id).await;
    assert!(["sentAt", "ackedAt", "finishedAt"].iter().all(|field| command[field].is_string()), "{command}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_with_the_devices_reason_and_then_final() {
    let mut rig = Rig::start().await;
    let other = rig.app.device(&rig.owner, &rig.home, "other").await;
    let id = rig.send(json!({"type": "SET_POWER", "payload": {"power": true}})).await;
    rig.received().await;
    // Answers of another device and answers to unknown commands are ignored.
    let ack = json!({"commandId": id, "status": "SUCCEEDED"}).to_string();
    rig.app.publish(&other, "ack", ack).await;
    rig.answer("cmd_01J00000000000000000000000", "SUCCEEDED", json!({})).await;
    rig.answer("test_123", "SUCCEEDED", json!({})).await;
    rig.answer(&id, "FAILED", json!({"error": "no power"})).await;
    let failed = rig.until(&id, "FAILED").await;
    assert_eq!(failed["error"], "no power");
    rig.answer(&id, "SUCCEEDED", json!({})).await;
    rig.answer(&id, "FAILED", json!({"error": "again"})).await;
    rig.until_processed(6).await;
    assert_eq!(rig.command(&id).await, failed);
    let m = &rig.app.app().services().metrics;
    assert_eq!((m.mqtt_stored.get(), m.mqtt_duplicate.get(), m.mqtt_rejected_total.get()), (1, 2, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timed_out_without_an_answer_then_corrected_by_a_late_one() {
    let mut rig = Rig::start().await;
    let silent = rig.send(json!({"type": "BEEP", "timeoutSeconds": 1})).await;
    let acked = rig.send(json!({"type": "BEEP", "timeoutSeconds": 1})).await;
    rig.received().await;
    rig.received().await;
    rig.answer(&acked, "ACKED", json!({})).await;
    let timed_out = rig.until(&silent, "TIMED_OUT").await;
    assert!(timed_out["error"].is_string() && timed_out["ackedAt"].is_null() && timed_out["sentAt"].is_string());
    let acked_only = rig.until(&acked, "TIMED_OUT").await;
    assert!(acked_only["ackedAt"].is_string() && acked_only["error"] != timed_out["error"], "{acked_only}");
    rig.answer(&silent, "SUCCEEDED", json!({"result": 1})).await;
    let late = rig.until(&silent, "SUCCEEDED").await;
    assert_eq!((&late["result"], &late["error"]), (&json!(1), &json!(null)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expired_while_the_broker_was_unreachable_and_never_published() {
    // The server loses its connection to the broker; the device keeps its own.
    let port = services().mqtt_port();
    let proxy = Proxy::start(Target::Tcp(([127, 0, 0, 1], port).into())).await;
    let url = format!("mqtt://{}", proxy.addr());
    let mut rig = Rig::with(TestApp::builder().set("MQTT_BROKER_URL", url)).await;
    proxy.set(Mode::Cut);
    let lost = rig.send(json!({"type": "SET_POWER", "payload": {"power": true}, "expiresInSeconds": 1})).await;
    let waiting = rig.send(json!({"type": "RESET", "payload": {}})).await;
    let expired = rig.until(&lost, "EXPIRED").await;
    assert!(expired["sentAt"].is_null() && expired["error"].is_string(), "{expired}");
    assert_eq!(rig.command(&waiting).await["status"], "PENDING");
    proxy.set(Mode::Pass);
    let (_, message) = rig.received().await;
    assert_eq!(message["commandId"], waiting);
    rig.until(&waiting, "SENT").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_before_it_is_dispatched_and_not_after() {
    const CANCEL: &str = "mutation($id: ID!) { cancelCommand(id: $id) { status } }";
    let mut rig = Rig::start().await;
    rig.publish("status", json!({"online": false})).await;
    rig.until_processed(1).await;
    let id = rig.send(json!({"type": "BEEP"})).await;
    assert_eq!(rig.owner.query(CANCEL, json!({ "id": id })).await["cancelCommand"]["status"], "CANCELLED");
    assert_eq!(rig.owner.query(CANCEL, json!({ "id": id })).await["cancelCommand"]["status"], "CANCELLED");
    // The device is back and gets the command that was not cancelled.
    rig.publish("status", json!({"online": true})).await;
    let sent = rig.send(json!({"type": "BEEP"})).await;
    assert_eq!(rig.received().await.1["commandId"], sent);
    rig.until(&sent, "SENT").await;
    assert_eq!(rig.owner.error_code(CANCEL, json!({ "id": sent })).await, "CONFLICT");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_light_that_was_switched_five_times_while_offline_gets_one_command() {
    let mut rig = Rig::start().await;
    rig.publish("status", json!({"online": false})).await;
    rig.until_processed(1).await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(rig.send(json!({"type": "SET_POWER", "payload": {"power": n % 2 == 0}})).await);
    }
    let beep = rig.send(json!({"type": "BEEP"})).await;
    for (older, newer) in ids.iter().zip(&ids[1..]) {
        let command = rig.command(older).await;
        assert_eq!((&command["status"], &command["supersededBy"]["id"]), (&json!("CANCELLED"), &json!(newer)));
    }
    assert_eq!(rig.command(&ids[4]).await["status"], "PENDING");
    // Any message of the device is enough.
    rig.publish("telemetry", json!({"sensors": {"temperature": 20}})).await;
    assert_eq!(rig.received().await.1["commandId"], ids[4]);
    assert_eq!(rig.received().await.1["commandId"], beep);
    rig.until(&beep, "SENT").await;
    assert!(rig.mqtt.try_next().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_never_answers_is_confirmed_by_its_readings() {
    let mut rig = Rig::start().await;
    let expect = json!({"powerW": {"min": 5}, "mode": "heat"});
    let id = rig.send(json!({"type": "SET_POWER", "payload": {"power": true}, "expect": expect})).await;
    let light = rig.send(json!({"type": "SWITCH", "expect": {"relay": true}})).await;
    rig.received().await;
    rig.received().await;
    rig.until(&light, "SENT").await;
    // Half of it, a value too small, and a reading from long ago: none is what was expected.
    rig.publish("telemetry", json!({"sensors": {"powerW": 7}})).await;
    rig.publish("telemetry", json!({"sensors": {"powerW": 4, "mode": "heat"}})).await;
    rig.publish("telemetry", json!({"timestamp": "2026-01-01T00:00:00Z", "sensors": {"powerW": 7, "mode": "heat"}}))
        .await;
    rig.until_processed(3).await;
    assert_eq!(rig.command(&id).await["status"], "SENT");
    rig.publish("telemetry", json!({"sensors": {"powerW": 7, "mode": "heat"}})).await;
    assert_eq!(rig.until(&id, "SUCCEEDED").await["confirmedBy"], "EFFECT");
    rig.publish("status", json!({"online": true, "status": {"relay": true}})).await;
    assert_eq!(rig.until(&light, "SUCCEEDED").await["confirmedBy"], "EFFECT");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_spells_its_topics_by_ids_gets_commands_and_configuration_there() {
    let mut rig = Rig::start().await;
    // It spells its home by the id, and never answers.
    let names = format!("{}/{}/{}", rig.app.prefix(), rig.home.id, rig.device.key);
    let topic = |kind: &str| format!("{names}/{kind}");
    let mut device = rig.app.another_mqtt().await;
    device.subscribe(&topic("commands")).await.expect("SUBACK");
    device.subscribe(&topic("config")).await.expect("SUBACK");
    // Pushed before the device's first message: published under the expected topic, then moved to the device's own.
    rig.push(json!({"sampleRate": 30})).await;
    rig.until_config(1, "SENT").await;
    assert_eq!(rig.received().await.0, "config");
    let status = json!({"timestamp": "1234", "deviceId": rig.device.key, "online": true, "status": {"uptime": 1}});
    device.publish(&topic("status"), status.to_string()).await.expect("PUBACK");
    let (kind, config) = device.next().await;
    assert_eq!(kind, topic("config"));
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&config).unwrap()["config"], json!({"sampleRate": 30}));
    // The retained message of the old topic is deleted.
    assert_eq!(rig.mqtt.next().await, (rig.device.topic("config"), Vec::new()));
    let id = rig.send(json!({"type": "SET_POWER", "payload": {"power": true}})).await;
    let (kind, command) = device.next().await;
    assert_eq!(kind, topic("commands"));
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&command).unwrap()["commandId"], id);
    rig.until(&id, "SENT").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_by_the_broker_shows_the_reason_until_it_expires() {
    let broker = Broker::with_accounts(&[("somebody", "else")]).await;
    // An account without any permission: it can connect, but not publish to the device's topic.
    let builder = TestApp::builder().broker(broker.port()).set("MQTT_TOPIC_PREFIX", "smarthome");
    let app = builder.set("MQTT_USERNAME", "somebody").set("MQTT_PASSWORD", "else").start().await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "a").await;
    let input = json!({"deviceId": device.id, "type": "BEEP", "expiresInSeconds": 2});
    let data = owner.query(super::SEND, json!({ "input": input })).await;
    let id = data["sendCommand"]["id"].clone();
    let command = |status: &'static str| {
        let (owner, id) = (owner.clone(), id.clone());
        eventually(status, move || {
            let (owner, id) = (owner.clone(), id.clone());
            async move {
                let command = owner.query(super::COMMAND, json!({ "id": id })).await["command"].take();
                (command["status"] == status && command["error"].is_string()).then_some(command)
            }
        })
    };
    let pending = command("PENDING").await;
    assert!(pending["error"].as_str().is_some_and(|error| error.contains("ACL")), "{pending}");
    assert!(command("EXPIRED").await["sentAt"].is_null());
}

/// A time that the clock showed before it was set back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_of_the_database_that_was_ahead_hides_no_change() {
    let mut rig = Rig::start().await;
    let id = rig.send(json!({"type": "BEEP"})).await;
    let version = rig.push(json!({"interval": 60})).await;
    rig.received().await;
    rig.received().await;
    rig.until(&id, "SENT").await;
    rig.until_config(version, "SENT").await;
    let client = rig.app.database().client().await;
    for table in ["commands", "device_configs"] {
        let ahead = format!("update {table} set updated_at = updated_at + interval '1 hour'");
        client.batch_execute(&ahead).await.expect("an update");
    }
    let mut updates = rig.updates(&id).await;
    assert_eq!(updates.next().await["commandUpdates"]["status"], "SENT");
    rig.answer(&id, "ACKED", json!({})).await;
    assert_eq!(updates.next().await["commandUpdates"]["status"], "ACKED");
    rig.answer(&id, "SUCCEEDED", json!({})).await;
    assert_eq!(updates.next().await["commandUpdates"]["status"], "SUCCEEDED");
    rig.publish("ack", json!({"configVersion": version, "status": "APPLIED"})).await;
    rig.until_config(version, "APPLIED").await;
    let times = "select from device_configs where updated_at > now() + interval '59 minutes'";
    assert_eq!(client.query(times, &[]).await.expect("a query").len(), 1, "its changes keep their order");
}
