//! Commands as the dispatcher sends them ([`Outbox`]).

use chrono::{DateTime, TimeDelta, Utc};
use diesel::QueryResult;
use tokio::time::Instant;

use super::command::{Command, CommandHub, CommandStatus};
use super::expectations::{MAX_OPEN, MAX_OPEN_PER_HOME};
use super::outbox_store::{self as store, Claimed, RecordOutcomes};
use super::payload::to_payload;
use super::queue::Queue;
use super::returned_devices::{ReturnedDevices, Unhandled};
use super::{Expectations, deadline_store, expectation_store, notify, requeue_store};
use crate::db;
use crate::downlink::{DownlinkKind, Message, OutboxMessage, PublishOutcome, PublishReport};
use crate::ids::{CommandId, DeviceId};
use crate::metrics::Metrics;
use crate::outbox::{Outbox, Recovery, Unanswered};

/// Commands whose deadline one poll handles. The next poll follows at once where there are more.
const MAX_EXPIRED_PER_POLL: i64 = 1_000;
/// Seconds between two reads of the expected effects: other servers send commands too.
const RELOAD_EXPECTATIONS_SECONDS: i64 = 2;
/// Commands that one poll makes pending again after a lost broker session. The next poll continues.
const MAX_LOST_PER_POLL: usize = 1_000;
/// How long after its timeout an effect still confirms a command.
const LATE_EFFECT_HOURS: i64 = 1;
/// Longest duration, in seconds, of a statement whose answer was lost.
const MAX_STATEMENT_SECONDS: u64 = 60;
/// Commands that subscribers are notified of again after a lost answer.
const MAX_RENOTIFIED: i64 = 10_000;

const EXPIRED: &str = "it could not be sent before it expired";
const NO_SUBSCRIBERS: &str = "nobody is subscribed to the device's topic: trying again";

/// The outbox of commands.
pub struct CommandOutbox {
    hub: CommandHub,
    expectations: Expectations,
    metrics: Metrics,
    returned: Unhandled,
    /// When the expected effects were last read.
    expectations_loaded_at: Option<DateTime<Utc>>,
    /// The start of the oldest statement whose answer is missing.
    unanswered: Unanswered<Option<Instant>>,
    queue: Queue,
    /// The loss of the broker session that is being recovered: commands sent up to then may have to be sent again.
    lost_before: Option<DateTime<Utc>>,
}

impl CommandOutbox {
    pub fn new(hub: CommandHub, expectations: Expectations, returned: ReturnedDevices, metrics: Metrics) -> Self {
        Self {
            hub,
            expectations,
            metrics,
            queue: Queue::new(returned.awaited()),
            returned: Unhandled::new(returned),
            expectations_loaded_at: None,
            unanswered: Unanswered::default(),
            lost_before: None,
        }
    }

    fn notify(&self, commands: Vec<Command>) {
        self.expectations.update(&commands);
        notify(&self.hub, commands);
    }

    fn count<'a>(&self, commands: impl IntoIterator<Item = &'a Command>) {
        for command in commands {
            self.metrics.count_command(command.status.as_str());
        }
    }

    /// Runs a statement that changes commands, then counts their new statuses and notifies subscribers.
    async fn change(&mut self, statement: impl Future<Output = QueryResult<Vec<Command>>>) -> QueryResult<()> {
        let changed = self.note_until_answered(statement).await?;
        self.count(&changed);
        self.notify(changed);
        Ok(())
    }

    async fn note_until_answered<T>(&mut self, statement: impl Future<Output = QueryResult<T>>) -> QueryResult<T> {
        let note = |since: &mut Option<Instant>| _ = since.get_or_insert_with(Instant::now);
        self.unanswered.run(note, statement).await
    }

    /// Notifies subscribers of changes whose statement got no answer: a subscriber may see a state twice, but misses none.
    async fn renotify_unanswered(&mut self, conn: &mut db::Connection) -> QueryResult<()> {
        if let Some(since) = *self.unanswered.noted() {
            let seconds = since.elapsed().as_secs().saturating_add(MAX_STATEMENT_SECONDS);
            self.notify(store::recently_changed(conn, &self.hub.homes(), seconds, MAX_RENOTIFIED).await?);
            self.unanswered.replace(None);
        }
        Ok(())
    }

    /// Makes the commands pending again that devices may have missed before they came back.
    async fn requeue_missed(&mut self, conn: &mut db::Connection, now: DateTime<Utc>) -> QueryResult<()> {
        while let Some(devices) = self.returned.next(conn).await? {
            self.change(requeue_store::requeue_missed(conn, now, &devices)).await?;
            self.returned.remove(&devices);
        }
        Ok(())
    }

    /// While a loss is being recovered: makes the oldest lost command of each of these devices pending, so that it is
    /// sent before newer ones.
    async fn requeue_oldest_lost(
        &mut self,
        conn: &mut db::Connection,
        now: DateTime<Utc>,
        devices: &[DeviceId],
    ) -> QueryResult<()> {
        if let Some(before) = self.lost_before {
            let lost = requeue_store::find_oldest_lost(conn, now, before, devices).await?;
            self.change(requeue_store::requeue_lost(conn, before, &lost)).await?;
        }
        Ok(())
    }

    async fn reload_expectations(&mut self, conn: &mut db::Connection, now: DateTime<Utc>) -> QueryResult<()> {
        let is_fresh = |at: DateTime<Utc>| (now - at).abs() < TimeDelta::seconds(RELOAD_EXPECTATIONS_SECONDS);
        if self.expectations_loaded_at.is_some_and(is_fresh) {
            return Ok(());
        }
        let before = self.expectations.open_commands();
        let limit = |n| i64::try_from(n).unwrap_or(i64::MAX);
        let (per_home, limit) = (limit(MAX_OPEN_PER_HOME), limit(MAX_OPEN));
        let finished_since = now - TimeDelta::hours(LATE_EFFECT_HOURS);
        let expecting = expectation_store::find_expecting(conn, finished_since, per_home, limit).await?;
        self.expectations.replace(&before, &expecting);
        self.expectations_loaded_at = Some(now);
        Ok(())
    }

    async fn record_and_count(
        &mut self,
        conn: &mut db::Connection,
        now: DateTime<Utc>,
        reports: &[(CommandId, PublishReport)],
    ) -> QueryResult<()> {
        let mut record = RecordOutcomes { now, ..RecordOutcomes::default() };
        // A command whose outcome is unknown stays pending and is sent again.
        for (command, report) in reports.iter().filter(|(_, it)| it.outcome != PublishOutcome::Unknown) {
            record.ids.push(*command);
            record.outcomes.push(report.outcome);
            record.errors.push(match report.outcome {
                PublishOutcome::Expired => Some(EXPIRED),
                PublishOutcome::NoSubscribers => Some(NO_SUBSCRIBERS),
                _ => report.reason,
            });
        }
        if record.ids.is_empty() {
            return Ok(());
        }
        let changed = self.note_until_answered(record.execute(conn)).await?;
        self.count(changed.iter().filter(|command| match command.status {
            CommandStatus::Sent => true,
            // A command that expired before its confirmation arrived only gets its `sent_at`.
            CommandStatus::Expired => command.sent_at.is_none(),
            _ => false,
        }));
        self.notify(changed);
        Ok(())
    }
}

impl Outbox for CommandOutbox {
    type Key = CommandId;

    const LOCK: i32 = db::locks::COMMAND_OUTBOX;
    const NAME: &'static str = "commands";

    async fn on_reconnected(
        &mut self,
        _conn: &mut db::Connection,
        _now: DateTime<Utc>,
        _link_epoch: u64,
    ) -> QueryResult<Recovery> {
        // A command that the broker lost can't be told from one that the device received and never answered:
        // sending it again could execute it twice. A device that lost its connection as well gets it when it is back.
        Ok(Recovery::Finished)
    }

    async fn handle_deadlines(
        &mut self,
        conn: &mut db::Connection,
        now: DateTime<Utc>,
    ) -> QueryResult<Option<DateTime<Utc>>> {
        self.renotify_unanswered(conn).await?;
        self.change(deadline_store::expire_overdue(conn, now, MAX_EXPIRED_PER_POLL)).await?;
        self.reload_expectations(conn, now).await?;
        deadline_store::next_deadline(conn).await
    }

    async fn requeue(&mut self, conn: &mut db::Connection, now: DateTime<Utc>) -> QueryResult<()> {
        self.queue.release_retries(conn, now).await?;
        self.requeue_missed(conn, now).await
    }

    async fn find_due(
        &mut self,
        conn: &mut db::Connection,
        now: DateTime<Utc>,
        busy: &[DeviceId],
        limit: i64,
    ) -> QueryResult<Vec<DeviceId>> {
        self.queue.find_due(conn, now, busy, limit).await
    }

    async fn claim(
        &mut self,
        conn: &mut db::Connection,
        now: DateTime<Utc>,
        devices: &[DeviceId],
    ) -> QueryResult<Vec<OutboxMessage<CommandId>>> {
        // An older command that was lost goes before a newer one.
        self.requeue_oldest_lost(conn, now, devices).await?;
        let claimed = store::claim(conn, now, devices).await?;
        self.expectations.update(claimed.iter().map(|claimed| &claimed.command));
        let commands = claimed.iter().map(|claimed| (claimed.command.id, claimed.command.device)).collect();
        self.queue.after_claim(conn, now, devices, commands).await?;
        Ok(claimed.into_iter().map(to_message).collect())
    }

    async fn record_outcomes(
        &mut self,
        conn: &mut db::Connection,
        now: DateTime<Utc>,
        reports: &[(CommandId, PublishReport)],
    ) -> QueryResult<()> {
        self.record_and_count(conn, now, reports).await?;
        let commands: Vec<CommandId> = reports.iter().map(|(command, _)| *command).collect();
        self.queue.after_attempts(conn, now, &commands).await
    }

    async fn on_broker_session_lost(
        &mut self,
        conn: &mut db::Connection,
        now: DateTime<Utc>,
        before: DateTime<Utc>,
    ) -> QueryResult<Recovery> {
        self.lost_before = Some(before);
        let lost = requeue_store::find_lost(conn, now, before, MAX_LOST_PER_POLL).await?;
        self.change(requeue_store::requeue_lost(conn, before, &lost)).await?;
        let recovery = Recovery::after(lost.len(), MAX_LOST_PER_POLL);
        if recovery == Recovery::Finished {
            self.lost_before = None;
        }
        Ok(recovery)
    }
}

fn to_message(claimed: Claimed) -> OutboxMessage<CommandId> {
    let Claimed { command, home_segment, device_segment } = claimed;
    OutboxMessage {
        key: command.id,
        device: command.device,
        message: Message {
            home: home_segment,
            device: device_segment,
            kind: DownlinkKind::Commands,
            payload: to_payload(&command),
            expires_at: Some(command.expires_at),
        },
    }
}
