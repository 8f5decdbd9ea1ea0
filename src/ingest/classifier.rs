//! From messages to a batch. Each message is classified, admitted by its device's limit, and turned into a row
//! and perhaps a change of its device's state. Nothing is written here.

mod outcomes;

use std::collections::HashSet;
use std::time::Instant;

use chrono::{DateTime, Utc};
use diesel::QueryResult;

use super::batch::{Batch, BatchBuilder, ClassifiedMessage, Outcome};
use super::committed_packets::CommittedPackets;
use super::daily_storage::DailyStorage;
use super::device_limits::DeviceLimits;
use super::envelope::Envelope;
use super::message::{Message, Rejected, classify};
use super::pending_updates::PendingUpdates;
use super::rejection_recorder::{NewRejected, RejectionRecorder};
use super::saturation::Saturation;
use super::uptime_clocks::UptimeClocks;
use super::writer::LONG_OUTAGE;
use crate::commands::Expectations;
use crate::db;
use crate::devices::{self, Directory, PresenceTracker, Resolved, StateChange};
use crate::ids::{DeviceId, HomeId};
use crate::metrics::Metrics;
use crate::mqtt::payload::Content;
use crate::mqtt::{BrokerEvent, ReceivedMessage, Rejection, topic};

/// Devices that one batch takes offline. All devices may be due in the same moment: one presence timeout after a start, or after
/// an outage of the broker.
const MAX_TIME_OUTS: usize = 256;

/// Owned by the writer.
pub(super) struct Classifier {
    pub(super) directory: Directory,
    pub(super) presence: PresenceTracker,
    pub(super) limits: DeviceLimits,
    pub(super) storage: DailyStorage,
    pub(super) pending: PendingUpdates,
    pub(super) rejections: RejectionRecorder,
    pub(super) uptime_clocks: UptimeClocks,
    /// Since when messages pile up before the writer.
    pub(super) behind_since: Option<Instant>,
    pub(super) saturation: Saturation,
    pub(super) expectations: Expectations,
    pub(super) metrics: Metrics,
}

impl Classifier {
    /// Looks up the devices that the messages name, in one statement at most.
    pub(super) async fn look_up(&mut self, conn: &mut db::Connection, inbox: &[BrokerEvent]) -> QueryResult<()> {
        let addresses = inbox.iter().filter_map(|item| match item {
            BrokerEvent::Message(message) => message.topic.address(),
            BrokerEvent::SessionLost(_) => None,
        });
        self.directory.refresh(conn, addresses, topic::address).await
    }

    /// Looks up again some names that were used although they were looked up long ago, and now and then removes deleted
    /// devices from the presence tracker.
    pub(super) async fn revalidate(&mut self, conn: &mut db::Connection) -> QueryResult<()> {
        self.directory.revalidate(conn, topic::address).await?;
        if let Some(offline) = self.presence.removal_candidates() {
            self.presence.remove(&devices::find_deleted(conn, &offline).await?);
        }
        Ok(())
    }

    /// Makes a batch of the messages. The names were looked up before.
    pub(super) fn batch(
        &mut self,
        inbox: impl ExactSizeIterator<Item = BrokerEvent>,
        committed: &mut CommittedPackets,
    ) -> Batch {
        let n_messages = inbox.len();
        let mut batch = BatchBuilder::with_capacity(n_messages);
        for item in inbox {
            match item {
                BrokerEvent::Message(message) => self.add_message(message, committed, &mut batch),
                BrokerEvent::SessionLost(loss) => {
                    committed.clear();
                    batch.lose_session(loss);
                }
            }
        }
        let pending = self.pending.take_beside(n_messages, Instant::now());
        pending.into_iter().for_each(|change| batch.add_change(change));
        self.with_sums(batch.finish())
    }

    fn add_message(
        &mut self,
        message: Box<ReceivedMessage>,
        committed: &mut CommittedPackets,
        batch: &mut BatchBuilder,
    ) {
        let resolved = message.topic.address().map_or(Resolved::NoHome, |address| self.directory.get(address));
        let (mut envelope, content) = Envelope::split(*message);
        if let Some(packet) = envelope.packet {
            if committed.is_repeat(packet) {
                envelope.packet = None;
                return batch.add_message(ClassifiedMessage { outcome: Outcome::Duplicate, device: None, envelope });
            }
            committed.insert(packet);
        }
        if envelope.is_clearing {
            return batch.add_message(ClassifiedMessage { outcome: Outcome::Clearing, device: None, envelope });
        }
        let is_seen = |device| self.presence.is_seen(device);
        let classified = classify(content, resolved, envelope.retained, is_seen);
        let (message, change) = match classified.map(|message| self.without_uptime(message, &envelope)) {
            Err(rejected) => (self.reject(rejected, envelope), None),
            Ok(message) if !self.is_within_limit(&message, &envelope) => {
                let is_reported = self.limits.is_reported(message.device.device, envelope.received_at);
                self.drop_over_limit(message.device, envelope, Rejection::RateLimited, is_reported)
            }
            Ok(message) if !self.is_within_day(&message, &envelope) => {
                let is_reported = self.storage.is_reported(message.device.device, envelope.received_at);
                self.drop_over_limit(message.device, envelope, Rejection::DailyLimit, is_reported)
            }
            Ok(message) => self.accept(message, envelope, batch.effects()),
        };
        batch.add_message(message);
        if let Some(mut change) = change {
            if let Some(mut earlier) = self.pending.remove(change.device) {
                earlier.merge(change);
                change = earlier;
            }
            batch.add_change(change);
        }
    }

    /// The message without a timestamp that counts milliseconds since boot.
    fn without_uptime(&mut self, mut message: Message, envelope: &Envelope) -> Message {
        let timestamp = match &mut message.content {
            Content::Telemetry { timestamp, .. } => timestamp,
            Content::Status(status) => &mut status.timestamp,
            _ => return message,
        };
        let (device, at) = (message.device.device, envelope.received_at);
        *timestamp = timestamp.and_then(|timestamp| self.uptime_clocks.check(device, timestamp, at));
        message
    }

    /// Whether the message is within its device's limit. An offline status always is, so that no flood hides it; so is
    /// a retained message, which the device did not send now.
    fn is_within_limit(&mut self, message: &Message, envelope: &Envelope) -> bool {
        let (device, at) = (message.device, envelope.received_at);
        match &message.content {
            _ if envelope.retained => true,
            Content::Status(status) if !status.online => true,
            Content::CommandAnswer(..) | Content::ConfigAnswer(..) => self.limits.admit_answer(device, at),
            Content::Telemetry { timestamp, .. } => self.limits.admit(device, at, *timestamp),
            Content::Status(_) | Content::Heartbeat(_) => self.limits.admit(device, at, None),
        }
    }

    /// Whether the device may store this message today. Only readings are stored for good.
    fn is_within_day(&mut self, message: &Message, envelope: &Envelope) -> bool {
        !matches!(message.content, Content::Telemetry { .. })
            || self.storage.admit(message.device, envelope.payload.len(), envelope.received_at)
    }

    /// The batch with what each of its devices has stored today, which is written with the changes.
    fn with_sums(&mut self, mut batch: Batch) -> Batch {
        for change in &mut batch.states {
            change.stored = self.storage.take_unwritten(change.device);
        }
        batch
    }

    fn reject(&mut self, Rejected { reason, home }: Rejected, envelope: Envelope) -> ClassifiedMessage {
        let row = self.rejections.record(reason, home, &envelope, &self.metrics);
        ClassifiedMessage { outcome: Outcome::Rejected { reason, row }, device: None, envelope }
    }

    /// The row to store for a message that the database refuses.
    pub(super) fn quarantined(&self, home: HomeId, envelope: &Envelope) -> NewRejected {
        RejectionRecorder::default()
            .record(Rejection::NotStorable, Some(home), envelope, &self.metrics)
            .expect("an empty window has room")
    }

    /// Turns messages of deleted devices back into received ones: their topics may name other devices now.
    pub(super) fn reclassify(
        &mut self,
        deleted: &HashSet<DeviceId>,
        messages: Vec<ClassifiedMessage>,
    ) -> Vec<BrokerEvent> {
        self.directory.evict(deleted);
        let messages = messages.into_iter().filter_map(|message| message.envelope.into_message());
        messages.map(|message| BrokerEvent::Message(Box::new(message))).collect()
    }

    /// Called before each batch with the number of messages that wait behind it. Devices were not silent while the
    /// writer was behind for long: their messages waited, perhaps at the broker.
    pub(super) fn observe_queue(&mut self, n: usize, capacity: usize, at: DateTime<Utc>) {
        self.limits.observe_queue(n, capacity, at);
        if self.limits.is_behind() {
            self.behind_since.get_or_insert_with(Instant::now);
            return;
        }
        if self.is_long_behind() {
            self.presence.restart(Instant::now());
        }
        self.behind_since = None;
    }

    /// Called after each commit: see [`Saturation`]. Devices were not silent while their messages waited at the broker.
    pub(super) fn observe_in_flight(&mut self, n: usize) {
        let now = Instant::now();
        if self.saturation.observe(n, now) {
            self.presence.restart(now);
        }
    }

    /// A burst of one device does not count: with some of them it could keep all others from going offline.
    fn is_long_behind(&self) -> bool {
        self.behind_since.is_some_and(|since| since.elapsed() > LONG_OUTAGE)
    }

    /// Whether a device that misses its deadline is offline.
    fn silence_counts(&self, link_is_up: bool) -> bool {
        link_is_up && !self.is_long_behind() && !self.saturation.is_long(Instant::now())
    }

    /// Changes that are due without a message: devices that timed out, and pending updates. Those that do not fit stay due.
    pub(super) fn due_changes(&mut self, at: DateTime<Utc>, link_is_up: bool) -> Batch {
        let now = Instant::now();
        let mut states = Vec::new();
        if self.saturation.end_if_idle(now) {
            self.presence.restart(now);
        }
        let expired =
            if self.silence_counts(link_is_up) { self.presence.expired(now, MAX_TIME_OUTS) } else { Vec::new() };
        for (home, device) in expired {
            let report = self.pending.remove(device).map(|pending| pending.report).unwrap_or_default();
            let timed_out = StateChange::timed_out(home, device, at, self.presence.timeout());
            states.push(StateChange { report, ..timed_out });
        }
        states.extend(self.pending.take(now));
        self.with_sums(Batch::of_states(states))
    }

    /// All pending updates, for the shutdown.
    pub(super) fn all_pending(&mut self) -> Batch {
        let states = self.pending.take_all();
        self.with_sums(Batch::of_states(states))
    }

    /// When [`Classifier::due_changes`] and [`Classifier::revalidate`] are to be called next. Devices only time out while
    /// the link is up and the writer keeps up with it.
    pub(super) fn next_deadline(&self, link_is_up: bool) -> Option<Instant> {
        let offline = self.presence.next_deadline().filter(|_| self.silence_counts(link_is_up));
        let saturated = self.saturation.ends_at().filter(|_| self.saturation.is_long(Instant::now()));
        [offline, saturated, self.pending.due_at(), self.directory.revalidation_due_at()].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests;
