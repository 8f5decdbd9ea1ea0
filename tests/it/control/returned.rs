//! Commands that a device missed while it was away. An observer subscribes to every topic, so the broker never reports
//! "no matching subscribers".

use chrono::TimeDelta;
use serde_json::{Value, json};

use super::super::support::broker::Broker;
use super::super::support::eventually;
use super::super::support::mqtt::Mqtt;
use super::{Rig, TestApp};

/// A device that has not connected yet, and what keeps its broker busy.
struct Observed {
    rig: Rig,
    _observer: Mqtt,
    _broker: Broker,
}

impl Observed {
    async fn start() -> Self {
        let broker = Broker::start().await;
        let mut rig = Rig::with(TestApp::builder().broker(broker.port())).await;
        rig.device = rig.app.device(&rig.owner, &rig.home, "away").await;
        let observer = rig.app.another_mqtt().await;
        observer.subscribe("#").await.expect("SUBACK");
        Self { rig, _observer: observer, _broker: broker }
    }

    /// With a device that has reported its status and then lost its connection.
    async fn with_silent_device() -> Self {
        let observed = Self::start().await;
        observed.rig.status(true).await;
        observed.rig.later().await;
        observed
    }
}

impl Rig {
    /// Lets two seconds pass by the server's clock.
    async fn later(&self) {
        self.app.clock().advance(TimeDelta::seconds(2));
    }

    /// Publishes a message of the device and waits until it is processed.
    async fn report(&self, kind: &str, message: Value) {
        let metrics = self.app.app().services().metrics.clone();
        let n_before = metrics.mqtt_stored.get();
        self.publish(kind, message).await;
        super::until("the message is stored", || metrics.mqtt_stored.get() > n_before).await;
    }

    async fn status(&self, online: bool) {
        self.report("status", json!({ "online": online })).await;
    }

    /// The device connects and subscribes.
    async fn connect(&mut self) {
        self.mqtt = self.app.another_mqtt().await;
        self.mqtt.subscribe(&self.device.topic("commands")).await.expect("SUBACK");
    }

    /// The device connects, subscribes and reports that it is online.
    async fn come_back(&mut self) {
        self.connect().await;
        self.status(true).await;
    }

    async fn send_until_sent(&self, fields: Value) -> String {
        let id = self.send(fields).await;
        self.until(&id, "SENT").await;
        id
    }

    /// Waits until the broker has confirmed the command once more.
    async fn until_sent_again(&self, id: &str, before: &Value) {
        eventually("it was sent again", || async {
            let command = self.command(id).await;
            (command["status"] == "SENT" && command["sentAt"] != before["sentAt"]).then_some(())
        })
        .await;
    }

    async fn receives(&mut self, id: &str) {
        assert_eq!(self.received().await.1["commandId"], id);
    }

    /// Sends another command, which the device receives next.
    async fn receives_nothing_but_a_new_one(&mut self) {
        let id = self.send(json!({"type": "PING"})).await;
        self.receives(&id).await;
    }
}

fn beep(timeout_seconds: i64) -> Value {
    json!({"type": "BEEP", "timeoutSeconds": timeout_seconds})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_comes_back_gets_the_commands_it_missed_in_their_order() {
    let Observed { mut rig, _broker, _observer } = Observed::start().await;
    let timed_out = rig.send(beep(1)).await;
    rig.until(&timed_out, "TIMED_OUT").await;
    let sent = rig.send_until_sent(beep(600)).await;
    rig.come_back().await;
    rig.receives(&timed_out).await;
    rig.receives(&sent).await;
    rig.answer(&timed_out, "SUCCEEDED", json!({})).await;
    rig.until(&timed_out, "SUCCEEDED").await;
    rig.until(&sent, "SENT").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_still_makes_sense_is_sent_again() {
    let Observed { mut rig, _broker, _observer } = Observed::start().await;
    let power = |on: bool| json!({"type": "SET_POWER", "payload": {"power": on}});
    rig.send_until_sent(power(true)).await;
    let off = rig.send_until_sent(power(false)).await;
    let beep = rig.send_until_sent(beep(600)).await;
    rig.send_until_sent(json!({"type": "RESET", "expiresInSeconds": 600})).await;
    rig.send_until_sent(json!({"type": "BLINK", "expiresInSeconds": 3, "timeoutSeconds": 600})).await;
    rig.later().await;
    rig.later().await;
    rig.come_back().await;
    rig.receives(&off).await;
    rig.receives(&beep).await;
    rig.receives_nothing_but_a_new_one().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_of_a_device_that_counted_as_online_repeats_a_command_once() {
    let Observed { mut rig, _broker, _observer } = Observed::with_silent_device().await;
    let id = rig.send_until_sent(beep(600)).await;
    let first = rig.command(&id).await;
    rig.later().await;
    rig.come_back().await;
    rig.receives(&id).await;
    rig.until_sent_again(&id, &first).await;
    rig.later().await;
    rig.status(true).await;
    rig.receives_nothing_but_a_new_one().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_sent_something_after_a_command_does_not_get_it_again() {
    let Observed { mut rig, _broker, _observer } = Observed::with_silent_device().await;
    rig.send_until_sent(beep(600)).await;
    rig.later().await;
    rig.report("heartbeat", json!({})).await;
    rig.status(false).await;
    rig.come_back().await;
    rig.receives_nothing_but_a_new_one().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_is_lost_again_and_again_gets_a_command_at_most_four_times() {
    let Observed { mut rig, _broker, _observer } = Observed::with_silent_device().await;
    let id = rig.send_until_sent(beep(600)).await;
    for _ in 0..3 {
        let before = rig.command(&id).await;
        rig.later().await;
        rig.status(false).await;
        rig.connect().await;
        // What it could not send before comes first.
        rig.report("heartbeat", json!({})).await;
        rig.status(true).await;
        rig.receives(&id).await;
        rig.until_sent_again(&id, &before).await;
    }
    rig.later().await;
    rig.status(false).await;
    rig.come_back().await;
    rig.receives_nothing_but_a_new_one().await;
}
