//! Judging messages: whose they are, what they come to. No row is written here.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::QueryResult;
use diesel_async::AsyncPgConnection;

use super::batch::{Batch, Outcome, Row, Source};
use super::limit::Limits;
use super::rejected::Rejections;
use super::session::Session;
use super::signs::Signs;
use super::store::NewRejected;
use crate::commands::{Answer, AnswerKind, Expectations, Observation};
use crate::device_config::ConfigAnswer;
use crate::devices::{Directory, PresenceEvent, PresenceTracker, Report, Resolved, ResolvedDevice, StateChange};
use crate::ids::{DeviceId, HomeId};
use crate::metrics::Metrics;
use crate::mqtt::payload::{self, Content};
use crate::mqtt::{BrokerEvent, Delivery, Packet, Rejection, digest, topic};
use crate::settings::DeviceLimit;
use crate::telemetry::{NewReading, TimeSource};

/// A reading that is older by its own clock than this tells of the past, not of what a command did.
const MAX_READING_AGE: TimeDelta = TimeDelta::minutes(1);

/// Judges messages. Owned by the writer.
pub(super) struct Judge {
    prefix: String,
    directory: Directory,
    pub(super) presence: PresenceTracker,
    pub(super) limits: Limits,
    signs: Signs,
    rejections: Rejections,
    expectations: Expectations,
    metrics: Metrics,
}

impl Judge {
    pub(super) fn new(
        prefix: String,
        directory: Directory,
        presence: PresenceTracker,
        limit: Option<DeviceLimit>,
        expectations: Expectations,
        metrics: Metrics,
    ) -> Self {
        let (limits, signs, rejections) = (Limits::new(limit), Signs::default(), Rejections::default());
        Self { prefix, directory, presence, limits, signs, rejections, expectations, metrics }
    }

    /// Looks up the names of a batch, in one statement at most.
    pub(super) async fn look_up(&mut self, conn: &mut AsyncPgConnection, inbox: &[BrokerEvent]) -> QueryResult<()> {
        let texts = inbox.iter().filter_map(|item| match item {
            BrokerEvent::Message(delivery) => names(&self.prefix, &delivery.topic),
            BrokerEvent::SessionLost(_) => None,
        });
        self.directory.refresh(conn, texts, topic::address).await
    }

    /// What the messages come to.
    pub(super) fn batch(&mut self, inbox: impl Iterator<Item = BrokerEvent>, session: &mut Session) -> Batch {
        let mut batch = Batch::default();
        // Where in `batch.states` a device's change stands.
        let mut changes: HashMap<_, usize> = HashMap::new();
        for item in inbox {
            let delivery = match item {
                BrokerEvent::Message(delivery) => *delivery,
                BrokerEvent::SessionLost(loss) => {
                    session.forget();
                    batch.lost = Some(loss);
                    for row in &mut batch.rows {
                        row.packet = None;
                    }
                    continue;
                }
            };
            let row = if delivery.packet.is_some_and(|packet| session.repeats(packet)) {
                delivery.into_row(Outcome::Duplicate)
            } else {
                let packet = delivery.packet;
                if let Some(packet) = packet {
                    session.take(packet);
                }
                let (row, change) = self.judge(delivery, &mut batch.effects);
                if let Some(mut change) = change {
                    if let Some(mut earlier) = self.signs.supersede(change.device) {
                        earlier.merge(change);
                        change = earlier;
                    }
                    match changes.entry(change.device) {
                        std::collections::hash_map::Entry::Occupied(at) => batch.states[*at.get()].merge(change),
                        std::collections::hash_map::Entry::Vacant(at) => {
                            at.insert(batch.states.len());
                            batch.states.push(change);
                        }
                    }
                }
                Row { packet, ..row }
            };
            batch.rows.push(row);
        }
        if self.signs.due_at().is_some_and(|at| at <= Instant::now()) {
            // One change a device: what waited is newer, for a change takes with it what waits.
            for sign in self.signs.take() {
                match changes.get(&sign.device) {
                    Some(at) => batch.states[*at].merge(sign),
                    None => batch.states.push(sign),
                }
            }
        }
        batch
    }

    /// Devices whose time ran out, and signs of life whose time to be written has come.
    pub(super) fn timed(&mut self, at: DateTime<Utc>) -> Batch {
        let now = Instant::now();
        let mut states = Vec::new();
        for (home, device) in self.presence.expired(now) {
            self.signs.supersede(device);
            states.push(StateChange::offline(home, device, at, self.presence.timeout()));
        }
        if self.signs.due_at().is_some_and(|at| at <= now) {
            states.extend(self.signs.take());
        }
        Batch { states, ..Batch::default() }
    }

    /// Signs of life that still wait at the end.
    pub(super) fn last_signs(&mut self) -> Batch {
        let mut states = Vec::new();
        while self.signs.due_at().is_some() {
            states.extend(self.signs.take());
        }
        Batch { states, ..Batch::default() }
    }

    /// When [`Judge::timed`] is to be called next; deadlines of devices count while the link is up.
    pub(super) fn next_deadline(&self, link_is_up: bool) -> Option<Instant> {
        let offline = self.presence.next_deadline().filter(|_| link_is_up);
        [offline, self.signs.due_at()].into_iter().flatten().min()
    }

    /// The devices of these messages turned out to be no more: the messages as they came, to be judged by
    /// what their names stand for now. Their receipts have gone their way.
    pub(super) fn once_more(&mut self, gone: &HashSet<DeviceId>, rows: Vec<Row>) -> Vec<BrokerEvent> {
        self.directory.evict(gone);
        let prefix = &self.prefix;
        let came = rows.into_iter().filter_map(|Row { packet, source, .. }| {
            let kind = topic::Topic::parse(prefix, std::str::from_utf8(&source.topic).ok()?).ok()?.kind;
            Some(BrokerEvent::Message(Box::new(Delivery {
                content: payload::parse(kind, &source.payload, source.received_at),
                received_at: source.received_at,
                retained: false,
                payload_digest: digest(&[&source.payload]),
                // Not a repeat of itself: it was left out of what is remembered.
                packet: packet.map(|packet| Packet { is_redelivery: false, ..packet }),
                receipt: None,
                topic: source.topic,
                payload: source.payload,
                _space: source._space?,
            })))
        });
        came.collect()
    }

    /// Asks anew about names that were last asked about long ago.
    pub(super) async fn revalidate(&mut self, conn: &mut AsyncPgConnection) -> QueryResult<()> {
        self.directory.revalidate(conn, topic::address).await
    }

    fn judge(&mut self, mut delivery: Delivery, effects: &mut Vec<Answer>) -> (Row, Option<StateChange>) {
        let topic = delivery.topic.clone();
        let text = names(&self.prefix, &topic);
        let resolved = text.map_or(Resolved::NoHome, |text| self.directory.get(text));
        let content = std::mem::replace(&mut delivery.content, Err(Rejection::BadTopic));
        let (known, content) = match (content, resolved) {
            (Ok(content), Resolved::Device(known)) => (known, content),
            (content, resolved) => {
                let (reason, home) = match resolved {
                    Resolved::NoHome => (content.err().unwrap_or(Rejection::UnknownHome), None),
                    Resolved::NoDevice(home) => (content.err().unwrap_or(Rejection::UnknownDevice), Some(home)),
                    Resolved::Device(known) => (content.err().unwrap_or(Rejection::UnknownDevice), Some(known.home)),
                };
                return (self.reject(reason, home, delivery), None);
            }
        };
        if !self.admits(known, &delivery, &content) {
            return self.shed(known, delivery, text);
        }
        let is_kept = delivery.retained;
        let (row, change) = match content {
            Content::Telemetry { .. }
            | Content::Heartbeat(_)
            | Content::CommandAnswer(..)
            | Content::ConfigAnswer(..)
                if delivery.retained =>
            {
                (self.reject(Rejection::Retained, Some(known.home), delivery), None)
            }
            Content::Telemetry { timestamp, measurement, n_dropped } => {
                self.metrics.readings_dropped.inc_by(n_dropped as u64);
                let is_present = timestamp.is_none_or(|at| delivery.received_at - at < MAX_READING_AGE);
                if is_present {
                    let value = |name: &str| measurement.value(name);
                    self.look_for_effects(known, delivery.received_at, Observation::readings(&value), effects);
                }
                let report = measurement.report.clone();
                let (recorded_at, time_source, dedup) = match timestamp {
                    Some(at) => (at, TimeSource::Device, delivery.payload_digest),
                    // Without a clock two equal messages are two readings.
                    None => (delivery.received_at, TimeSource::Server, fastrand::i64(..)),
                };
                let reading = NewReading {
                    home: known.home,
                    device: known.device,
                    recorded_at,
                    received_at: delivery.received_at,
                    time_source,
                    dedup,
                    measurement: *measurement,
                };
                let change = self.alive(known, &delivery, report, None, text);
                (delivery.into_row(Outcome::Reading(Box::new(reading))), change)
            }
            Content::Heartbeat(report) => {
                let change = self.alive(known, &delivery, report, None, text);
                (delivery.into_row(Outcome::State), change)
            }
            Content::CommandAnswer(command, verdict) => {
                let answer = Answer { command, device: known.device, kind: verdict, at: delivery.received_at };
                let change = self.alive(known, &delivery, Report::default(), None, text);
                (delivery.into_row(Outcome::CommandAnswer(known.home, Box::new(answer))), change)
            }
            Content::ConfigAnswer(version, verdict) => {
                let answer = ConfigAnswer { device: known.device, version, verdict, at: delivery.received_at };
                let change = self.alive(known, &delivery, Report::default(), None, text);
                (delivery.into_row(Outcome::ConfigAnswer(known.home, Box::new(answer))), change)
            }
            Content::Status(status) => {
                if !delivery.retained {
                    let shown = Observation::status(&status.last_status);
                    self.look_for_effects(known, delivery.received_at, shown, effects);
                }
                let change = if status.online && !delivery.retained {
                    self.alive(known, &delivery, status.report, Some(status.last_status), text)
                } else {
                    // A kept "online" tells nothing of now; a kept "offline" still holds.
                    let online = status.online && self.presence.is_online(known);
                    if !status.online {
                        self.presence.observe(known, PresenceEvent::Goodbye, Instant::now());
                    }
                    Some(StateChange {
                        home: known.home,
                        device: known.device,
                        online,
                        at: delivery.received_at,
                        is_sign_of_life: false,
                        is_goodbye: !status.online,
                        report: status.report,
                        last_status: Some(status.last_status),
                        segments: None,
                        is_news: true,
                        n_shed: 0,
                        shed_at: None,
                        backlog_since: None,
                        unless_seen_since: None,
                    })
                };
                (delivery.into_row(Outcome::State), change)
            }
        };
        (Row { device: (!is_kept).then_some(known.device), ..row }, change)
    }

    /// Whether the device is within its limit. Its goodbye is heard in any flood, and what the broker
    /// kept is not its speech of now.
    fn admits(&mut self, known: ResolvedDevice, delivery: &Delivery, content: &Content) -> bool {
        let at = delivery.received_at;
        match content {
            _ if delivery.retained => true,
            Content::Status(status) if !status.online => true,
            Content::CommandAnswer(..) | Content::ConfigAnswer(..) => self.limits.admits_answer(known, at),
            Content::Telemetry { timestamp, .. } => self.limits.admits(known, at, *timestamp),
            Content::Status(_) | Content::Heartbeat(_) => self.limits.admits(known, at, None),
        }
    }

    /// Lets a message go that is over its device's limit: a sign of life, and counted on the device with
    /// the batch.
    fn shed(&mut self, known: ResolvedDevice, delivery: Delivery, names: Option<&str>) -> (Row, Option<StateChange>) {
        let at = delivery.received_at;
        let is_shown = self.limits.shows(known.device, at);
        let change = StateChange {
            home: known.home,
            device: known.device,
            online: true,
            at,
            is_sign_of_life: true,
            is_goodbye: false,
            report: Report::default(),
            last_status: None,
            segments: segments(names),
            // Subscribers hear once a minute that it is limited, not with every batch.
            is_news: self.presence.observe(known, PresenceEvent::Seen, Instant::now()).online_changed || is_shown,
            n_shed: 1,
            shed_at: Some(at),
            backlog_since: self.limits.backlog_since(known.device, at),
            unless_seen_since: None,
        };
        let row = if is_shown {
            self.reject(Rejection::RateLimited, Some(known.home), delivery)
        } else {
            delivery.into_row(Outcome::Rejected(Rejection::RateLimited.as_str(), None))
        };
        (row, Some(change))
    }

    /// Notes the commands whose expected effect a message shows.
    fn look_for_effects(
        &self,
        known: ResolvedDevice,
        at: DateTime<Utc>,
        shown: Observation<'_>,
        effects: &mut Vec<Answer>,
    ) {
        let commands = self.expectations.observed(known.device, &shown, at);
        let answer = |command| Answer { command, device: known.device, kind: AnswerKind::Effect, at };
        effects.extend(commands.into_iter().map(answer));
    }

    /// A sign of life; nothing to write where there is no news and the last one was written lately.
    fn alive(
        &mut self,
        known: ResolvedDevice,
        delivery: &Delivery,
        report: Report,
        last_status: Option<serde_json::Value>,
        names: Option<&str>,
    ) -> Option<StateChange> {
        let change = self.presence.observe(known, PresenceEvent::Seen, Instant::now());
        if !change.write_due && last_status.is_none() {
            return None;
        }
        let state = StateChange {
            home: known.home,
            device: known.device,
            online: true,
            at: delivery.received_at,
            is_sign_of_life: true,
            is_goodbye: false,
            report,
            is_news: change.online_changed || last_status.is_some(),
            n_shed: 0,
            shed_at: None,
            backlog_since: self.limits.backlog_since(known.device, delivery.received_at),
            unless_seen_since: None,
            last_status,
            segments: segments(names),
        };
        if state.is_news {
            return Some(state);
        }
        self.signs.put(state);
        None
    }

    fn reject(&mut self, reason: Rejection, home: Option<HomeId>, delivery: Delivery) -> Row {
        let message = (&*delivery.topic, &*delivery.payload);
        let kept = self.rejections.take(reason, home, message, delivery.received_at, &self.metrics);
        delivery.into_row(Outcome::Rejected(reason.as_str(), kept))
    }

    /// The row to keep for a message that the database refused.
    pub(super) fn refused(&self, home: HomeId, source: &Source) -> NewRejected {
        let message = (&*source.topic, &*source.payload);
        Rejections::default()
            .take(Rejection::NotStorable, Some(home), message, source.received_at, &self.metrics)
            .expect("an empty window has room")
    }
}

/// Both segments of a `home/device` text, as they were spelt.
fn segments(names: Option<&str>) -> Option<(Box<str>, Box<str>)> {
    names.and_then(|text| text.split_once('/')).map(|(home, device)| (home.into(), device.into()))
}

/// The `home/device` part of a message's topic.
fn names<'a>(prefix: &str, topic: &'a [u8]) -> Option<&'a str> {
    topic::address_text(prefix, std::str::from_utf8(topic).ok()?)
}

impl Delivery {
    /// The message's row; it takes its share of the queue with it.
    fn into_row(self, outcome: Outcome) -> Row {
        let source = Source {
            topic: self.topic,
            payload: self.payload,
            received_at: self.received_at,
            _space: Some(self._space),
        };
        Row { outcome, device: None, packet: None, receipt: self.receipt, source }
    }
}

#[cfg(test)]
mod tests;
