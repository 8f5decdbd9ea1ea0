//! Judging messages: whose they are, what they come to. No row is written here.

use std::collections::HashMap;
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::QueryResult;
use diesel_async::AsyncPgConnection;

use super::batch::{Batch, Outcome, Row, Source};
use super::rejected::Rejections;
use super::session::Session;
use super::signs::Signs;
use super::store::NewRejected;
use crate::commands::{Answer, Expectations, Shown, Verdict};
use crate::device_config::ConfigAnswer;
use crate::devices::{Directory, Known, Presence, Report, Resolved, Sign, StateChange};
use crate::ids::HomeId;
use crate::metrics::Metrics;
use crate::mqtt::payload::Content;
use crate::mqtt::{Delivery, FromBroker, Rejection, topic};
use crate::telemetry::{NewReading, TimeSource};

/// A reading that is older by its own clock than this tells of the past, not of what a command did.
const MAX_READING_AGE: TimeDelta = TimeDelta::minutes(1);

/// Judges messages. Owned by the writer.
pub(super) struct Judge {
    prefix: String,
    directory: Directory,
    pub(super) presence: Presence,
    signs: Signs,
    rejections: Rejections,
    expectations: Expectations,
    metrics: Metrics,
}

impl Judge {
    pub(super) fn new(
        prefix: String,
        directory: Directory,
        presence: Presence,
        expectations: Expectations,
        metrics: Metrics,
    ) -> Self {
        let (signs, rejections) = (Signs::default(), Rejections::default());
        Self { prefix, directory, presence, signs, rejections, expectations, metrics }
    }

    /// Looks up the names of a batch, in one statement at most.
    pub(super) async fn look_up(&mut self, conn: &mut AsyncPgConnection, inbox: &[FromBroker]) -> QueryResult<()> {
        let texts = inbox.iter().filter_map(|item| match item {
            FromBroker::Message(delivery) => names(&self.prefix, &delivery.topic),
            FromBroker::SessionLost(_) => None,
        });
        self.directory.refresh(conn, texts, topic::name).await
    }

    /// What the messages come to.
    pub(super) fn batch(&mut self, inbox: impl Iterator<Item = FromBroker>, session: &mut Session) -> Batch {
        let mut batch = Batch::default();
        // Where in `batch.states` a device's change stands.
        let mut changes: HashMap<_, usize> = HashMap::new();
        for item in inbox {
            let delivery = match item {
                FromBroker::Message(delivery) => *delivery,
                FromBroker::SessionLost(loss) => {
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

    /// Asks anew about names that were last asked about long ago.
    pub(super) async fn revalidate(&mut self, conn: &mut AsyncPgConnection) -> QueryResult<()> {
        self.directory.revalidate(conn, topic::name).await
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
        match content {
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
                    self.look_for_effects(known, delivery.received_at, Shown::readings(&value), effects);
                }
                let report = measurement.report.clone();
                let (recorded_at, time_source, dedup) = match timestamp {
                    Some(at) => (at, TimeSource::Device, delivery.digest),
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
                let answer = Answer { command, device: known.device, verdict, at: delivery.received_at };
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
                    let shown = Shown::status(&status.last_status);
                    self.look_for_effects(known, delivery.received_at, shown, effects);
                }
                let change = if status.online && !delivery.retained {
                    self.alive(known, &delivery, status.report, Some(status.last_status), text)
                } else {
                    // A kept "online" tells nothing of now; a kept "offline" still holds.
                    let online = status.online && self.presence.is_online(known);
                    if !status.online {
                        self.presence.sign(known, Sign::Gone, Instant::now());
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
                        unless_seen_since: None,
                    })
                };
                (delivery.into_row(Outcome::State), change)
            }
        }
    }

    /// Notes the commands whose expected effect a message shows.
    fn look_for_effects(&self, known: Known, at: DateTime<Utc>, shown: Shown<'_>, effects: &mut Vec<Answer>) {
        let commands = self.expectations.shown(known.device, &shown, at);
        let answer = |command| Answer { command, device: known.device, verdict: Verdict::Effect, at };
        effects.extend(commands.into_iter().map(answer));
    }

    /// A sign of life; nothing to write where there is no news and the last one was written lately.
    fn alive(
        &mut self,
        known: Known,
        delivery: &Delivery,
        report: Report,
        last_status: Option<serde_json::Value>,
        names: Option<&str>,
    ) -> Option<StateChange> {
        let change = self.presence.sign(known, Sign::Alive, Instant::now());
        if !change.is_due && last_status.is_none() {
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
            is_news: change.is_news || last_status.is_some(),
            unless_seen_since: None,
            last_status,
            segments: names.and_then(|text| text.split_once('/')).map(|(home, device)| (home.into(), device.into())),
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

/// The `home/device` part of a message's topic.
fn names<'a>(prefix: &str, topic: &'a [u8]) -> Option<&'a str> {
    topic::names(prefix, std::str::from_utf8(topic).ok()?)
}

impl Delivery {
    /// The message's row; it takes its share of the queue with it.
    fn into_row(self, outcome: Outcome) -> Row {
        let source =
            Source { topic: self.topic, payload: self.payload, received_at: self.received_at, _space: self._space };
        Row { outcome, packet: None, receipt: self.receipt, source }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::ids::DeviceId;
    use crate::mqtt::{Loss, Packet, payload};

    fn judge(online: bool) -> Judge {
        let known = Known { home: HomeId::from_database(1), device: DeviceId::from_database(7), online };
        let directory = Directory::knowing("1/a", known);
        let presence = Presence::new(Duration::from_secs(150));
        Judge::new("p".to_owned(), directory, presence, Expectations::default(), Metrics::new())
    }

    fn delivery(kind: topic::Kind, text: &'static str, packet: Option<(u16, bool)>) -> Delivery {
        let received_at = DateTime::UNIX_EPOCH;
        Delivery {
            topic: Bytes::from(format!("p/1/a/{}", kind.as_str())),
            payload: Bytes::from_static(text.as_bytes()),
            content: payload::parse(kind, text.as_bytes(), received_at),
            received_at,
            retained: false,
            digest: 1,
            packet: packet.map(|(id, is_redelivery)| Packet { id, is_redelivery, digest: 1 }),
            receipt: None,
            _space: Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap(),
        }
    }

    fn judged(judge: &mut Judge, session: &mut Session, inbox: Vec<Delivery>) -> Batch {
        judge.batch(inbox.into_iter().map(|delivery| FromBroker::Message(Box::new(delivery))), session)
    }

    const READING: &str = r#"{"sensors":{"temperature":20}}"#;

    #[test]
    fn a_device_stands_once_in_a_batch_whatever_it_said() {
        let (mut judge, mut session) = (judge(true), Session::empty());
        // The kept status is a change at once; the reading after it is a sign that is gathered, and due.
        let kept = Delivery { retained: true, ..delivery(topic::Kind::Status, r#"{"online":true}"#, None) };
        judge.signs.make_due();
        let inbox = vec![kept, delivery(topic::Kind::Telemetry, READING, None)];
        let batch = judged(&mut judge, &mut session, inbox);
        assert_eq!(batch.states.len(), 1);
        assert!(batch.states[0].online && batch.states[0].is_sign_of_life);
        assert!(batch.states[0].last_status.is_some());
    }

    #[test]
    fn what_the_broker_kept_as_online_does_not_bring_a_lost_device_back() {
        let (mut judge, mut session) = (judge(true), Session::empty());
        judged(&mut judge, &mut session, vec![delivery(topic::Kind::Status, r#"{"online":false}"#, None)]);
        let kept = Delivery { retained: true, ..delivery(topic::Kind::Status, r#"{"online":true}"#, None) };
        assert!(!judged(&mut judge, &mut session, vec![kept]).states[0].online);
    }

    #[test]
    fn a_repeat_is_known_by_packet_and_content_within_its_session_only() {
        let (mut judge, mut session) = (judge(true), Session::empty());
        let outcome = |judge: &mut Judge, session: &mut Session, packet| {
            let batch = judged(judge, session, vec![delivery(topic::Kind::Telemetry, READING, Some(packet))]);
            matches!(batch.rows[0].outcome, Outcome::Duplicate)
        };
        assert!(!outcome(&mut judge, &mut session, (5, false)));
        assert!(outcome(&mut judge, &mut session, (5, true)), "the same packet again");
        assert!(!outcome(&mut judge, &mut session, (6, true)), "never seen, whatever the flag says");
        assert!(!outcome(&mut judge, &mut session, (5, false)), "a new message under a used id");
        let loss = Loss { number: 1, before: DateTime::UNIX_EPOCH };
        let batch = judge.batch([FromBroker::SessionLost(loss)].into_iter(), &mut session);
        assert_eq!(batch.lost, Some(loss));
        assert!(!outcome(&mut judge, &mut session, (5, true)), "another session's packet");
    }
}
