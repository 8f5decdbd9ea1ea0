//! Commands that the broker dropped because nobody was subscribed: they are sent again in order once the device is
//! active, or cancelled.

use serde_json::{Value, json};

use super::Rig;

const CANCEL: &str = "mutation($id: ID!) { cancelCommand(id: $id) { status } }";

/// A device that has not subscribed.
async fn with_unsubscribed_device() -> Rig {
    let mut rig = Rig::start().await;
    rig.device = rig.app.device(&rig.owner, &rig.home, "absent").await;
    rig
}

/// A command that no newer one supersedes.
fn beep() -> Value {
    json!({"type": "BEEP", "timeoutSeconds": 1})
}

impl Rig {
    async fn subscribe(&self) {
        self.mqtt.subscribe(&self.device.topic("commands")).await.expect("SUBACK");
    }

    /// Changes the row of the oldest command.
    async fn change_oldest(&self, columns: &str) {
        let change = format!("update commands set {columns} where seq = (select min(seq) from commands)");
        let n_changed = self.app.database().client().await.execute(&change, &[]).await.expect("an update");
        assert_eq!(n_changed, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_timed_out_is_sent_before_a_newer_one() {
    let mut rig = with_unsubscribed_device().await;
    let older = rig.send(beep()).await;
    rig.until(&older, "TIMED_OUT").await;
    rig.subscribe().await;
    let newer = rig.send(beep()).await;
    assert_eq!(rig.received().await.1["commandId"], older);
    assert_eq!(rig.received().await.1["commandId"], newer);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_is_not_sent_after_a_newer_one() {
    let mut rig = with_unsubscribed_device().await;
    let overtaken = rig.send(beep()).await;
    rig.until(&overtaken, "TIMED_OUT").await;
    // As if it had been tried once more after the newer one came.
    rig.change_oldest("sent_at = now() + interval '1 hour'").await;
    rig.subscribe().await;
    let newer = rig.send(beep()).await;
    assert_eq!(rig.received().await.1["commandId"], newer);
    rig.answer(&newer, "SUCCEEDED", json!({})).await;
    rig.until(&newer, "SUCCEEDED").await;
    rig.change_oldest("sent_at = created_at").await;
    rig.publish("status", json!({"online": true})).await;
    rig.until_processed(2).await;
    let newest = rig.send(beep()).await;
    assert_eq!(rig.received().await.1["commandId"], newest);
    assert_eq!(rig.command(&overtaken).await["status"], "TIMED_OUT");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_without_subscribers_can_be_cancelled_until_it_expires() {
    let mut rig = with_unsubscribed_device().await;
    let sent = rig.send(json!({"type": "BEEP"})).await;
    rig.until(&sent, "SENT").await;
    assert_eq!(rig.owner.query(CANCEL, json!({ "id": sent })).await["cancelCommand"]["status"], "CANCELLED");
    let timed_out = rig.send(beep()).await;
    rig.until(&timed_out, "TIMED_OUT").await;
    assert_eq!(rig.owner.query(CANCEL, json!({ "id": timed_out })).await["cancelCommand"]["status"], "CANCELLED");
    let expired = rig.send(json!({"type": "BEEP", "timeoutSeconds": 1, "expiresInSeconds": 60})).await;
    rig.until(&expired, "TIMED_OUT").await;
    rig.app.clock().advance(chrono::TimeDelta::seconds(60));
    assert_eq!(rig.owner.error_code(CANCEL, json!({ "id": expired })).await, "CONFLICT");
    rig.subscribe().await;
    rig.publish("status", json!({"online": true})).await;
    let newest = rig.send(beep()).await;
    assert_eq!(rig.received().await.1["commandId"], newest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_never_counted_as_offline_gets_it_after_its_next_message() {
    let mut rig = with_unsubscribed_device().await;
    let database = rig.app.database().client().await;
    let online = format!("insert into device_states (device_id, online) values ({}, true)", rig.device.id);
    database.execute(&online, &[]).await.expect("a row");
    let id = rig.send(json!({"type": "BEEP"})).await;
    rig.until(&id, "SENT").await;
    rig.subscribe().await;
    rig.publish("heartbeat", json!({})).await;
    assert_eq!(rig.received().await.1["commandId"], id);
    rig.until(&id, "SENT").await;
}
