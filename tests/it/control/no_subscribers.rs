//! Commands to whose topic nobody is subscribed: they stay `PENDING` and are tried again until somebody is, or are
//! cancelled, superseded or expire.

use serde_json::{Value, json};

use super::{Rig, eventually};

const CANCEL: &str = "mutation($id: ID!) { cancelCommand(id: $id) { status } }";

/// A device that has not subscribed.
async fn with_unsubscribed_device() -> Rig {
    let mut rig = Rig::start().await;
    rig.device = rig.app.device(&rig.owner, &rig.home, "absent").await;
    rig
}

/// A command that no newer one supersedes.
fn beep() -> Value {
    json!({"type": "BEEP"})
}

impl Rig {
    async fn subscribe(&self) {
        self.mqtt.subscribe(&self.device.topic("commands")).await.expect("SUBACK");
    }

    /// Waits until an attempt found no subscriber.
    pub(super) async fn until_tried(&self, id: &str) {
        eventually(&format!("{id} was tried"), || async {
            let command = self.command(id).await;
            let is_tried = command["error"].as_str()?.contains("nobody is subscribed");
            (is_tried && command["status"] == "PENDING" && command["sentAt"].is_null()).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_subscribes_and_says_nothing_gets_its_commands_in_order() {
    let mut rig = with_unsubscribed_device().await;
    let older = rig.send(beep()).await;
    let mut updates = rig.updates(&older).await;
    rig.until_tried(&older).await;
    rig.subscribe().await;
    let newer = rig.send(beep()).await;
    assert_eq!(rig.received().await.1["commandId"], older);
    assert_eq!(rig.received().await.1["commandId"], newer);
    let sent = rig.until(&older, "SENT").await;
    assert!(sent["error"].is_null() && sent["sentAt"].is_string(), "{sent}");
    // Beside the present state, attempts without a subscriber are one change, however many there are.
    let mut pending = 0;
    while updates.next().await["commandUpdates"]["status"] == "PENDING" {
        pending += 1;
    }
    assert!(pending <= 2, "{pending}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_command_supersedes_one_without_subscribers() {
    let mut rig = with_unsubscribed_device().await;
    let brightness = |n: u8| json!({"type": "SET_BRIGHTNESS", "payload": {"brightness": n}});
    let older = rig.send(brightness(1)).await;
    rig.until_tried(&older).await;
    let newer = rig.send(brightness(2)).await;
    rig.until(&older, "CANCELLED").await;
    rig.until_tried(&newer).await;
    rig.subscribe().await;
    assert_eq!(rig.received().await.1["commandId"], newer);
    rig.until(&newer, "SENT").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_without_subscribers_can_be_cancelled_until_it_expires() {
    let mut rig = with_unsubscribed_device().await;
    let cancelled = rig.send(beep()).await;
    rig.until_tried(&cancelled).await;
    assert_eq!(rig.owner.query(CANCEL, json!({ "id": cancelled })).await["cancelCommand"]["status"], "CANCELLED");
    let expired = rig.send(json!({"type": "BEEP", "expiresInSeconds": 60})).await;
    rig.until_tried(&expired).await;
    rig.app.clock().advance(chrono::TimeDelta::seconds(60));
    let command = rig.until(&expired, "EXPIRED").await;
    assert!(command["error"].as_str().is_some_and(|error| error.contains("nobody was subscribed")), "{command}");
    assert_eq!(rig.owner.error_code(CANCEL, json!({ "id": expired })).await, "CONFLICT");
    rig.subscribe().await;
    let newest = rig.send(beep()).await;
    assert_eq!(rig.received().await.1["commandId"], newest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_sends_something_is_tried_at_once() {
    let mut rig = with_unsubscribed_device().await;
    let database = rig.app.database().client().await;
    // Its next message is no news: it counts as online, and its row was written just now.
    rig.publish("heartbeat", json!({})).await;
    eventually("the device is online", || async {
        database.query_opt("select from device_states where online", &[]).await.expect("a query").map(drop)
    })
    .await;
    let id = rig.send(beep()).await;
    rig.until_tried(&id).await;
    let later = "update command_queue set is_held = true, retry_at = now() + interval '1 hour'";
    eventually("the next attempt is far away", || async {
        let is_paused = "select from command_queue where is_held and retry_at > now()";
        database.query_opt(is_paused, &[]).await.expect("a query")?;
        (database.execute(later, &[]).await.expect("an update") == 1).then_some(())
    })
    .await;
    rig.subscribe().await;
    rig.publish("heartbeat", json!({})).await;
    assert_eq!(rig.received().await.1["commandId"], id);
    rig.until(&id, "SENT").await;
}
