//! Commands as the dispatcher sees them: what is to be sent, and what became of it.

use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use diesel::QueryResult;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::command::{Command, CommandHub, CommandStatus};
use super::expectations::MAX_OPEN;
use super::outbox_store::{self as store, RecordOutcomes};
use super::{Expectations, publish, requeue_store};
use crate::db;
use crate::downlink::{Channel, DeliveryOutcome, Message, Outgoing};
use crate::ids::{CommandId, DeviceId};
use crate::metrics::Metrics;
use crate::outbox::Outbox;

/// Commands that one tick ends; the next one comes at once where there are more.
const MAX_EXPIRED: i64 = 1_000;
/// Seconds between two looks at the effects that are waited for: other servers send commands too.
const RELOAD_SECONDS: i64 = 2;
/// How long after its time-out an effect still shows that a command was done.
const LATE_EFFECT_HOURS: i64 = 1;
/// Seconds that a step whose answer was lost may have lasted.
const STEP_SECONDS: u64 = 60;
/// Commands told again after such a step.
const MAX_TOLD_AGAIN: i64 = 10_000;

const EXPIRED: &str = "it could not be sent before it expired";

/// The outbox of commands.
pub struct CommandOutbox {
    hub: CommandHub,
    expectations: Expectations,
    metrics: Metrics,
    /// When the effects that are waited for were last read.
    loaded_at: Mutex<Option<DateTime<Utc>>>,
    /// Since when a step's answer is missing: it may have changed rows that nobody was told of.
    uncertain_since: Mutex<Option<Instant>>,
}

/// A command on the wire.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    command_id: String,
    timestamp: String,
    #[serde(rename = "type")]
    kind: &'a str,
    payload: &'a RawValue,
    source: &'static str,
    correlation_id: &'a str,
    expires_at: String,
}

impl CommandOutbox {
    /// The outbox that tells changes to this hub and keeps these expectations.
    pub fn new(hub: CommandHub, expectations: Expectations, metrics: Metrics) -> Self {
        Self { hub, expectations, metrics, loaded_at: Mutex::default(), uncertain_since: Mutex::default() }
    }

    fn tell(&self, commands: Vec<Command>) {
        self.expectations.update(&commands);
        publish(&self.hub, commands);
    }

    fn entered<'a>(&self, commands: impl IntoIterator<Item = &'a Command>) {
        for command in commands {
            self.metrics.count_command(command.status.as_str());
        }
    }

    /// A step is uncertain until its answer is here, also when it is dropped midway.
    async fn step<T>(&self, step: impl Future<Output = QueryResult<T>>) -> QueryResult<T> {
        let before = self.uncertain_since();
        self.set_uncertain(Some(before.unwrap_or_else(Instant::now)));
        let done = step.await?;
        self.set_uncertain(before);
        Ok(done)
    }

    fn uncertain_since(&self) -> Option<Instant> {
        *self.uncertain_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_uncertain(&self, since: Option<Instant>) {
        *self.uncertain_since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// Tells again what may have changed in a step whose answer was lost: who follows may see a state
    /// twice, but misses none.
    async fn tell_again(&self, conn: &mut db::Connection) -> QueryResult<()> {
        if let Some(since) = self.uncertain_since() {
            let seconds = since.elapsed().as_secs().saturating_add(STEP_SECONDS);
            let homes = self.hub.homes();
            self.tell(store::recently_changed(conn, &homes, seconds, MAX_TOLD_AGAIN).await?);
            self.set_uncertain(None);
        }
        Ok(())
    }

    async fn load_expectations(&self, conn: &mut db::Connection, now: DateTime<Utc>) -> QueryResult<()> {
        let loaded_at = *self.loaded_at.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded_at.is_some_and(|at| (now - at).abs() < TimeDelta::seconds(RELOAD_SECONDS)) {
            return Ok(());
        }
        let known = self.expectations.known();
        let limit = i64::try_from(MAX_OPEN).unwrap_or(i64::MAX);
        let since = now - TimeDelta::hours(LATE_EFFECT_HOURS);
        self.expectations.replace(&known, &store::expecting(conn, since, limit).await?);
        *self.loaded_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        Ok(())
    }
}

impl Outbox for CommandOutbox {
    type Key = CommandId;

    const LOCK: i32 = db::locks::COMMAND_OUTBOX;
    const NAME: &'static str = "commands";

    async fn on_reconnected(&self, _conn: &mut db::Connection, _now: DateTime<Utc>) -> QueryResult<()> {
        // What a silent device got, and what the broker kept for one, look the same: to send them again
        // would do things twice.
        Ok(())
    }

    async fn tick(&self, conn: &mut db::Connection, now: DateTime<Utc>) -> QueryResult<Option<DateTime<Utc>>> {
        self.tell_again(conn).await?;
        let expired = self.step(store::expire_overdue(conn, now, MAX_EXPIRED)).await?;
        self.entered(&expired);
        self.tell(expired);
        self.load_expectations(conn, now).await?;
        store::next_deadline(conn).await
    }

    async fn find_due(
        &self,
        conn: &mut db::Connection,
        now: DateTime<Utc>,
        busy: &[DeviceId],
        limit: i64,
    ) -> QueryResult<Vec<DeviceId>> {
        let waiting = self.step(requeue_store::requeue_undelivered(conn, now)).await?;
        self.entered(&waiting);
        self.tell(waiting);
        // Who came back is no longer `away` in the database, and so among the others.
        store::find_due(conn, now, busy, limit).await
    }

    async fn claim(
        &self,
        conn: &mut db::Connection,
        now: DateTime<Utc>,
        devices: &[DeviceId],
    ) -> QueryResult<Vec<Outgoing<CommandId>>> {
        let taken = store::claim(conn, now, devices).await?;
        self.expectations.update(taken.iter().map(|(command, ..)| command));
        let outgoing = |(command, home, device): (Command, String, String)| Outgoing {
            key: command.id,
            device: command.device,
            message: Message {
                home,
                device,
                channel: Channel::Commands,
                payload: wire(&command),
                expires_at: Some(command.expires_at),
            },
        };
        Ok(taken.into_iter().map(outgoing).collect())
    }

    async fn record_outcomes(
        &self,
        conn: &mut db::Connection,
        now: DateTime<Utc>,
        outcomes: &[(CommandId, DeliveryOutcome)],
    ) -> QueryResult<()> {
        let mut record = RecordOutcomes { now, ..RecordOutcomes::default() };
        for (command, outcome) in outcomes {
            let (outcome, error) = match outcome {
                DeliveryOutcome::Confirmed => ("CONFIRMED", None),
                DeliveryOutcome::NoSubscribers => ("NO_SUBSCRIBERS", None),
                DeliveryOutcome::NotSent => ("NOT_SENT", None),
                DeliveryOutcome::Expired => ("EXPIRED", Some(EXPIRED)),
                DeliveryOutcome::Refused(why) => ("REFUSED", Some(*why)),
                // It may have left: it goes again.
                DeliveryOutcome::Unknown => continue,
            };
            record.ids.push(command.as_uuid());
            record.outcomes.push(outcome);
            record.errors.push(error);
        }
        if record.ids.is_empty() {
            return Ok(());
        }
        let changed = self.step(store::record_outcomes(conn, record)).await?;
        self.entered(changed.iter().filter(|command| match command.status {
            CommandStatus::Sent => true,
            // One that had expired before its confirmation came has only been given its time of sending.
            CommandStatus::Expired => command.sent_at.is_none(),
            _ => false,
        }));
        self.tell(changed);
        Ok(())
    }

    async fn on_broker_session_lost(
        &self,
        conn: &mut db::Connection,
        now: DateTime<Utc>,
        before: DateTime<Utc>,
    ) -> QueryResult<()> {
        let waiting = self.step(store::requeue_lost(conn, now, before)).await?;
        self.entered(&waiting);
        self.tell(waiting);
        Ok(())
    }
}

/// The seed's JSON, the payload as it was given.
fn wire(command: &Command) -> Vec<u8> {
    let rfc3339 = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Millis, true);
    let wire = Wire {
        command_id: command.id.to_string(),
        timestamp: rfc3339(command.created_at),
        kind: &command.kind,
        payload: serde_json::from_str(command.payload.as_str()).expect("the column holds JSON"),
        source: command.source.as_str(),
        correlation_id: &command.correlation_id,
        expires_at: rfc3339(command.expires_at),
    };
    serde_json::to_vec(&wire).expect("text and JSON")
}
