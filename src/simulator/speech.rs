//! What a connection's devices say, and what becomes of it. Nothing here waits: a message goes into
//! the outbox, from there to the client while the window has room, and is settled when the broker
//! confirmed it or the link broke.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::FuturesUnordered;
use rumqttc::{AsyncClient, PublishNoticeError, PublishOptions, QoS};
use tokio::time::Instant;

use super::connection::{Connection, OnTheWay};
use super::outbox::Message;
use super::report::count;
use super::schedule::Due;

impl Connection {
    /// Every device's status, in place of one that never left.
    pub(super) fn announce(&mut self, online: bool) {
        let (now, retain) = (self.shared.config.clock.now(), self.shared.config.retain_status);
        self.outbox.drop_statuses();
        for device in &self.devices {
            let message = Message::new(&device.topics.status, device.status(now, online), QoS::AtLeastOnce);
            self.outbox.push(Message { retain, status: true, ..message });
            count(&self.shared.counters.other, 1);
        }
    }

    /// Sends what is due by the schedule.
    pub(super) fn speak(&mut self, on_the_way: usize) {
        let now = Instant::now();
        let window = usize::from(self.shared.config.window);
        while let Some(due) = self.schedule.take(now) {
            match due {
                Due::Telemetry { device, interval } => {
                    if on_the_way + self.outbox.len() >= 2 * window {
                        count(&self.shared.counters.skipped, 1);
                    } else {
                        self.measure(device, interval);
                    }
                    self.schedule.set_sample_rate(device, self.devices[device].sample_rate());
                }
                Due::Heartbeat { device } => {
                    let device = &self.devices[device];
                    let payload = device.heartbeat(self.shared.config.clock.now());
                    self.outbox.push(Message::new(&device.topics.heartbeat, payload, QoS::AtMostOnce));
                    count(&self.shared.counters.other, 1);
                }
            }
        }
    }

    /// Fills the window where there is no schedule.
    pub(super) fn speak_when_flooding(&mut self, waiting: usize) {
        for _ in waiting..usize::from(self.shared.config.window) {
            let Some((device, interval)) = self.schedule.flood() else { return };
            if !self.measure(device, interval) {
                return;
            }
        }
    }

    /// Takes one reading; `false` when the fleet has sent all it was to send.
    fn measure(&mut self, device: usize, interval: Duration) -> bool {
        let Some(seq) = self.shared.take_number() else { return false };
        let config = &self.shared.config;
        let device = &mut self.devices[device];
        let payload = device.telemetry(config.clock.now(), interval, config.numbered.then_some(seq));
        count(&self.shared.counters.telemetry, 1);
        if device.dice.loses() {
            count(&self.shared.counters.lost, 1);
            return true;
        }
        let message = Message {
            telemetry: true,
            seq: config.numbered.then_some(seq),
            ..Message::new(&device.topics.telemetry, payload, config.qos.into())
        };
        if device.dice.doubles() {
            count(&self.shared.counters.doubled, 1);
            self.outbox.push(message.copy());
        }
        self.outbox.push(message);
        true
    }

    /// Gives waiting messages to the client while the window has room. Never waits.
    pub(super) fn hand_over(&mut self, client: &AsyncClient, on_the_way: &mut FuturesUnordered<OnTheWay>) {
        let window = usize::from(self.shared.config.window);
        while on_the_way.len() < window
            && let Some(message) = self.outbox.pop()
        {
            let options = PublishOptions::new(message.qos).retain(message.retain);
            match client.try_publish_tracked(message.topic.as_str(), message.payload.clone(), options) {
                Ok(notice) => {
                    if let Some(seq) = message.seq {
                        self.shared.ledger.mark_sent(seq);
                    }
                    on_the_way.push(notice.wait_completion_async().map(|result| (message, result)).boxed());
                }
                // The channel is as wide as the window; a link that is gone shows in what is heard.
                Err(_) => {
                    self.outbox.put_back(message);
                    return;
                }
            }
        }
    }

    /// Learns what became of a message.
    pub(super) fn settle(&mut self, message: Message, result: &Result<(), PublishNoticeError>) {
        let counters = &self.shared.counters;
        match result {
            Ok(()) => {
                if message.telemetry {
                    count(&counters.confirmed, 1);
                }
                if let Some(seq) = message.seq {
                    self.shared.ledger.mark_confirmed(seq);
                }
            }
            Err(
                PublishNoticeError::V5PubAck(_)
                | PublishNoticeError::V5PubRec(_)
                | PublishNoticeError::V5PubComp(_)
                | PublishNoticeError::RetainNotSupported,
            ) => count(&counters.refused, 1),
            // Broken before it was confirmed. At QoS 0 nobody asks again.
            Err(_) if message.qos == QoS::AtMostOnce => {}
            Err(_) => {
                count(&counters.resent, 1);
                self.outbox.put_back(message);
            }
        }
    }
}
