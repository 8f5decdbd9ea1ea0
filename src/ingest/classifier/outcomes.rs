//! What a message of each kind writes: its outcome, and perhaps a change of its device's state.

use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};

use super::Classifier;
use crate::commands::{Answer, AnswerKind, Observation};
use crate::device_config::ConfigAnswer;
use crate::devices::{
    PresenceChange, PresenceEvent, Report, ResolvedDevice, Return, StateChange, StateReport, StatusReport,
};
use crate::ingest::batch::{ClassifiedMessage, Outcome};
use crate::ingest::envelope::Envelope;
use crate::ingest::message::{Message, Rejected};
use crate::mqtt::Rejection;
use crate::mqtt::payload::Content;
use crate::telemetry::{Measurement, NewReading, TimeSource};

/// A reading that is older than this by its own clock does not show the effect of a command.
const MAX_READING_AGE: TimeDelta = TimeDelta::minutes(1);

impl Classifier {
    /// Adds to `effects` the commands whose expected effect the message shows.
    pub(super) fn accept(
        &mut self,
        Message { device, content }: Message,
        envelope: Envelope,
        effects: &mut Vec<Answer>,
    ) -> (ClassifiedMessage, Option<StateChange>) {
        let at = envelope.received_at;
        let (outcome, change) = match content {
            Content::Telemetry { timestamp, measurement, n_dropped } => {
                self.metrics.readings_dropped.inc_by(n_dropped as u64);
                if timestamp.is_none_or(|measured_at| at - measured_at < MAX_READING_AGE) {
                    let value = |name: &str| measurement.value(name);
                    effects.extend(self.effects_of(device, at, &Observation::readings(&value)));
                }
                let change = self.seen(device, &envelope, &measurement.report);
                let reading = reading(device, &envelope, timestamp, measurement);
                (Outcome::Reading { reading, id: None, is_parked: false }, change)
            }
            Content::Status(status) => {
                self.metrics.readings_dropped.inc_by(status.n_dropped as u64);
                if !envelope.retained {
                    effects.extend(self.effects_of(device, at, &Observation::status(&status.last_status)));
                }
                (Outcome::State, Some(self.status(device, &envelope, *status)))
            }
            Content::Heartbeat(report) => (Outcome::State, self.seen(device, &envelope, &report)),
            Content::CommandAnswer(command, kind) => {
                let answer = Box::new(Answer { command, device: device.device, kind, at });
                (Outcome::CommandAnswer(device.home, answer), self.seen(device, &envelope, &Report::default()))
            }
            Content::ConfigAnswer(version, kind) => {
                let answer = Box::new(ConfigAnswer { device: device.device, version, kind, at });
                (Outcome::ConfigAnswer(device.home, answer), self.seen(device, &envelope, &Report::default()))
            }
        };
        let device = (!envelope.retained).then_some(device.device);
        (ClassifiedMessage { outcome, device, envelope }, change)
    }

    /// Drops a message that is over a limit of its device. It shows that the device is there, and the device's state
    /// counts it.
    pub(super) fn drop_over_limit(
        &mut self,
        device: ResolvedDevice,
        envelope: Envelope,
        reason: Rejection,
        is_reported: bool,
    ) -> (ClassifiedMessage, Option<StateChange>) {
        let at = envelope.received_at;
        let presence = self.observe(device, PresenceEvent::Seen, at);
        let seen = self.seen_change(device, &envelope, presence);
        // Subscribers learn once a minute that the device is over its limit, not with every batch.
        let notify = seen.notify || is_reported;
        let change = StateChange { notify, n_rate_limited: 1, rate_limited_at: Some(at), ..seen };
        let message = if is_reported {
            self.reject(Rejected { reason, home: Some(device.home) }, envelope)
        } else {
            ClassifiedMessage { outcome: Outcome::Rejected { reason, row: None }, device: None, envelope }
        };
        (message, Some(change))
    }

    /// The device sent a message. Nothing is to be written at once where its presence is no news. Where `last_seen_at`
    /// was written lately, only what the message reports is still to be written.
    fn seen(&mut self, device: ResolvedDevice, envelope: &Envelope, report: &Report) -> Option<StateChange> {
        let presence = self.observe(device, PresenceEvent::Seen, envelope.received_at);
        if !presence.write_due && !self.storage.is_write_due(device.device) {
            if !report.is_empty() {
                self.add_report(device, envelope, presence, report);
            }
            return None;
        }
        let change = StateChange { report: report.clone(), ..self.seen_change(device, envelope, presence) };
        if change.notify {
            return Some(change);
        }
        self.pending.insert(change);
        None
    }

    /// Gathers what a message reports that is no news otherwise. Most messages come here, and most find an earlier one's report.
    fn add_report(&mut self, device: ResolvedDevice, envelope: &Envelope, presence: PresenceChange, report: &Report) {
        let at = envelope.received_at;
        match self.pending.get_mut(device.device) {
            Some(earlier) if !presence.came_back => {
                earlier.add_report(report, at, self.limits.backlog_since(device.device, at));
            }
            _ => {
                let change = self.seen_again(device, envelope, presence);
                self.pending.insert_report(StateChange { report: report.clone(), ..change });
            }
        }
    }

    /// A status is always written at once. A retained "online" says nothing of now; a retained "offline" still
    /// holds.
    fn status(&mut self, device: ResolvedDevice, envelope: &Envelope, status: StatusReport) -> StateChange {
        let StatusReport { online, report, last_status, timestamp, state, n_dropped: _ } = status;
        let at = envelope.received_at;
        // A retained status may be of any age, unless it says when it was made.
        let state = state.filter(|_| !envelope.retained || timestamp.is_some());
        let reported = state.map(|state| StateReport::new(state, timestamp, at));
        let change = if !online {
            self.observe(device, PresenceEvent::Offline, at);
            StateChange::offline(device, at)
        } else if envelope.retained {
            StateChange::retained(device, self.presence.is_online(device), at)
        } else {
            let presence = self.observe(device, PresenceEvent::Seen, at);
            let change = self.seen_change(device, envelope, presence);
            // Devices send it after they connect, and a short absence may have gone unnoticed.
            let returned = change.returned.or(Some(returned(presence, at)));
            StateChange { notify: true, returned, ..change }
        };
        StateChange { report, last_status: Some(last_status), reported, ..change }
    }

    fn seen_change(&self, device: ResolvedDevice, envelope: &Envelope, presence: PresenceChange) -> StateChange {
        StateChange { segments: envelope.segments(), ..self.seen_again(device, envelope, presence) }
    }

    /// The same of a device whose row has the segments of its topic since its last update.
    fn seen_again(&self, device: ResolvedDevice, envelope: &Envelope, presence: PresenceChange) -> StateChange {
        let at = envelope.received_at;
        StateChange {
            backlog_since: self.limits.backlog_since(device.device, at),
            notify: presence.online_changed,
            returned: presence.came_back.then(|| returned(presence, at)),
            ..StateChange::seen(device, at)
        }
    }

    fn observe(&mut self, device: ResolvedDevice, event: PresenceEvent, at: DateTime<Utc>) -> PresenceChange {
        self.presence.observe(device, event, Instant::now(), at)
    }

    /// The commands whose expected effect the device shows.
    fn effects_of(
        &self,
        device: ResolvedDevice,
        at: DateTime<Utc>,
        shown: &Observation<'_>,
    ) -> impl Iterator<Item = Answer> {
        let commands = self.expectations.observed(device.device, shown, at).into_iter();
        commands.map(move |command| Answer { command, device: device.device, kind: AnswerKind::Effect, at })
    }
}

fn returned(presence: PresenceChange, at: DateTime<Utc>) -> Return {
    Return { at, silent_since: presence.silent_since, from_offline: presence.online_changed }
}

fn reading(
    device: ResolvedDevice,
    envelope: &Envelope,
    timestamp: Option<DateTime<Utc>>,
    measurement: Box<Measurement>,
) -> NewReading {
    let received_at = envelope.received_at;
    let (recorded_at, time_source, dedup) = match timestamp {
        Some(at) => (at, TimeSource::Device, envelope.payload_digest),
        // Without a clock two equal messages are two readings.
        None => (received_at, TimeSource::Server, fastrand::i64(..)),
    };
    NewReading { home: device.home, device: device.device, recorded_at, received_at, time_source, dedup, measurement }
}
