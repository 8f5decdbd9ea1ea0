//! Messages that a device sends. Nothing here waits: a message goes into the outbox, from there to the client while
//! fewer than [`MAX_IN_FLIGHT`] are unconfirmed, and is done when the broker confirms it.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::FuturesUnordered;
use rumqttc::{AsyncClient, PublishNoticeError, PublishOptions, QoS};
use tokio::time::Instant;

use super::client::MAX_IN_FLIGHT;
use super::device_connection::{DeviceConnection, InFlight};
use super::outbox::{Content, Message};
use super::report::count;
use super::schedule::Due;

impl DeviceConnection {
    /// Queues the device's status in place of one that was never sent.
    pub(super) fn publish_status(&mut self, online: bool) {
        let payload = self.device.status(self.shared.config.clock.now(), online);
        self.outbox.drop_statuses();
        self.outbox.push(Message::new(&self.device.topics.status, payload, QoS::AtLeastOnce, Content::Status));
        count(&self.shared.counters.other, 1);
    }

    /// Queues the readings and heartbeats that are due.
    pub(super) fn publish_due(&mut self, n_in_flight: usize) {
        let now = Instant::now();
        while let Some(due) = self.schedule.take(now) {
            match due {
                Due::Reading(_) if n_in_flight + self.outbox.len() >= 2 * usize::from(MAX_IN_FLIGHT) => {
                    count(&self.shared.counters.skipped, 1);
                }
                Due::Reading(interval) => self.publish_reading(interval),
                Due::Heartbeat => {
                    let payload = self.device.heartbeat(self.shared.config.clock.now());
                    let topic = &self.device.topics.heartbeat;
                    self.outbox.push(Message::new(topic, payload, QoS::AtMostOnce, Content::Other));
                    count(&self.shared.counters.other, 1);
                }
            }
        }
    }

    fn publish_reading(&mut self, interval: Duration) {
        let payload = self.device.telemetry(self.shared.config.clock.now(), interval);
        count(&self.shared.counters.telemetry, 1);
        if self.device.faults.loses_reading() {
            count(&self.shared.counters.lost, 1);
            return;
        }
        let message = Message::new(&self.device.topics.telemetry, payload, QoS::AtLeastOnce, Content::Reading);
        if self.device.faults.duplicates_message() {
            count(&self.shared.counters.duplicated, 1);
            self.outbox.push(message.duplicate());
        }
        self.outbox.push(message);
    }

    /// Gives queued messages to the client while it may have more in flight. Never waits.
    pub(super) fn send_queued(&mut self, client: &AsyncClient, in_flight: &mut FuturesUnordered<InFlight>) {
        while in_flight.len() < usize::from(MAX_IN_FLIGHT)
            && let Some(message) = self.outbox.pop()
        {
            let options = PublishOptions::new(message.qos);
            match client.try_publish_tracked(message.topic.as_str(), message.payload.clone(), options) {
                Ok(notice) => {
                    in_flight.push(notice.wait_completion_async().map(|result| (message, result)).boxed());
                }
                // The channel has room for every message in flight; a lost connection is reported as an event.
                Err(_) => {
                    self.outbox.put_back(message);
                    return;
                }
            }
        }
    }

    /// Counts a confirmed or refused message; queues it again where the connection broke.
    pub(super) fn record_outcome(&mut self, message: Message, result: &Result<(), PublishNoticeError>) {
        let counters = &self.shared.counters;
        match result {
            Ok(()) if message.content == Content::Reading => count(&counters.confirmed, 1),
            Ok(()) => {}
            Err(
                PublishNoticeError::V5PubAck(_)
                | PublishNoticeError::V5PubRec(_)
                | PublishNoticeError::V5PubComp(_)
                | PublishNoticeError::RetainNotSupported,
            ) => count(&counters.refused, 1),
            // The connection broke before the confirmation. A message of QoS 0 is not repeated.
            Err(_) if message.qos == QoS::AtMostOnce => {}
            Err(_) => {
                count(&counters.resent, 1);
                self.outbox.put_back(message);
            }
        }
    }
}
