//! After a commit: session, counters, hubs. The acknowledgements follow.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use super::RunningWriter;
use super::transaction::{Committed, Pruned};
use crate::commands;
use crate::device_config::{self, ConfigStatus};
use crate::devices::{DeviceState, StateChange};
use crate::ids::{DeviceId, HomeId, TelemetryId};
use crate::ingest::answers::RecordedAnswers;
use crate::ingest::batch::{Batch, ClassifiedMessage, Outcome};
use crate::mqtt::PendingPubAck;
use crate::outbox::Wake;
use crate::telemetry::{NewReading, Reading};
use crate::traces::TraceContext;

/// Devices of a committed batch that turned out to be deleted, and their messages, of which nothing was written.
pub(super) struct DeletedDevices {
    pub(super) devices: HashSet<DeviceId>,
    pub(super) messages: Vec<ClassifiedMessage>,
}

impl DeletedDevices {
    fn has_message(&self, message: &ClassifiedMessage) -> bool {
        message.device.is_some_and(|device| self.devices.contains(&device))
    }
}

impl RunningWriter {
    /// Adds the acknowledgements of all messages, in the order of receipt, and returns the messages of deleted devices.
    pub(super) fn after_commit(
        &mut self,
        batch: Batch,
        committed: Committed,
        pending_acks: &mut Vec<PendingPubAck>,
    ) -> DeletedDevices {
        let Committed { deleted, heard_elsewhere, states, answers, packets_row, pruned } = committed;
        let mut deleted = DeletedDevices { devices: deleted, messages: Vec::new() };
        self.advance_packets(&batch, packets_row, &deleted);
        self.count_pruned(&batch, &pruned);
        heard_elsewhere.into_iter().for_each(|device| self.classifier.presence.rearm(device, Instant::now()));
        let is_awaited = self.report_active(&batch);
        pending_acks.reserve(batch.messages.len());
        for mut message in batch.messages {
            pending_acks.extend(message.envelope.pending_ack.take());
            if deleted.has_message(&message) {
                deleted.messages.push(message);
            } else {
                self.publish_outcome(message.outcome, message.envelope.trace, &answers);
            }
        }
        self.publish_answers(answers);
        self.wake_outboxes(&batch.states, is_awaited);
        self.publish_states(&batch.states, states);
        deleted
    }

    /// Adds the committed packets to the session, and reports to the link that a lost session is recorded.
    fn advance_packets(&mut self, batch: &Batch, packets_row: Option<i64>, deleted: &DeletedDevices) {
        let recorded =
            batch.messages.iter().filter(|message| message.envelope.packet.is_some() && !deleted.has_message(message));
        self.committed_packets.committed(batch.lost.is_some(), packets_row, recorded.count());
        if let Some(loss) = batch.lost {
            self.recorded_losses.send_replace(loss.number);
        }
    }

    fn count_pruned(&mut self, batch: &Batch, pruned: &Pruned) {
        self.retention.committed(batch, &pruned.homes);
        self.metrics.rejected_pruned.inc_by(pruned.n_messages as u64);
    }

    /// Counts a message and publishes it if it is a new reading.
    fn publish_outcome(&self, outcome: Outcome, trace: Option<TraceContext>, answers: &RecordedAnswers) {
        match outcome {
            Outcome::Reading { reading, id: Some(id), .. } => self.publish_reading(id, &reading, trace),
            Outcome::Reading { is_parked: true, .. } => _ = self.metrics.mqtt_stored.inc(),
            Outcome::Reading { .. } | Outcome::Duplicate => _ = self.metrics.mqtt_duplicate.inc(),
            Outcome::Clearing => {}
            Outcome::State => _ = self.metrics.mqtt_stored.inc(),
            Outcome::CommandAnswer(..) | Outcome::ConfigAnswer(..) => answers.count(&outcome, &self.metrics),
            Outcome::Rejected { reason, .. } => self.metrics.count_rejected(reason.as_str()),
        }
    }

    fn publish_reading(&self, id: TelemetryId, reading: &NewReading, trace: Option<TraceContext>) {
        self.metrics.mqtt_stored.inc();
        if self.readings.has_subscriber(reading.home, reading.device) {
            self.readings.publish_traced(Reading::committed(id, reading), trace);
        } else {
            self.readings.advance(id);
        }
    }

    fn publish_answers(&self, answers: RecordedAnswers) {
        for command in &answers.commands {
            self.metrics.count_command(command.status.as_str());
        }
        self.expectations.update(&answers.commands);
        // The broker must not keep a rejected version.
        if answers.configs.iter().any(|config| config.status == ConfigStatus::Rejected) {
            self.outboxes.iter().for_each(Wake::wake);
        }
        commands::notify(&self.commands, answers.commands);
        device_config::notify(&self.configs, answers.configs);
    }

    /// Reports who has sent something. Returns whether a command waits for one of them.
    fn report_active(&self, batch: &Batch) -> bool {
        // A retained message may be old.
        let sent_now = batch.messages.iter().filter(|message| !message.envelope.retained);
        self.returned_devices.report_active(sent_now.filter_map(|message| message.device))
    }

    /// Wakes the outboxes where a device is back, or is awaited. Otherwise their next regular poll is enough.
    fn wake_outboxes(&self, changes: &[StateChange], is_awaited: bool) {
        let returned = changes.iter().filter(|change| change.returned.is_some());
        self.returned_devices.add(returned.map(|change| change.device));
        if is_awaited || changes.iter().any(|change| change.contact.is_seen() && change.notify) {
            self.outboxes.iter().for_each(Wake::wake);
        }
    }

    fn publish_states(&self, changes: &[StateChange], states: Vec<DeviceState>) {
        let notified = changes.iter().filter(|change| change.notify);
        let homes: HashMap<DeviceId, HomeId> = notified.map(|change| (change.device, change.home)).collect();
        for state in states {
            if let Some(home) = homes.get(&state.device) {
                self.states.publish(*home, state.device, &Arc::new(state));
            }
        }
    }
}
