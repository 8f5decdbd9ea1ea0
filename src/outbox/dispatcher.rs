//! The dispatcher: claims due rows of one outbox, sends them and records the outcomes. It is woken by commits of
//! this server, by devices that come back, by the connection to the broker and by the next deadline.
//!
//! At most one publish per device is pending, under an advisory lock that one server can hold. So a device gets
//! its messages in order, a slow device delays no other one, and servers share the work without sending anything
//! twice. A message without confirmation stays in its row and is sent again.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::pending_publishes::PendingPublishes;
use super::retry_delay::{Cooldowns, SHORT_RETRY_DELAY, retry_delay};
use super::{Outbox, Recovery, Wake, device_lock_store, session_loss_store};
use crate::clock::Clock;
use crate::db::{self, ReconnectingConnection};
use crate::downlink::{Downlink, LinkState, PublishOutcome, PublishReport};
use crate::ids::DeviceId;
use crate::metrics::{Metrics, OutboxLabel};
use crate::settings::DatabaseSettings;

/// Devices with a pending publish.
const MAX_PENDING: usize = 512;
/// Longest time between two polls: a server that stopped may have left due rows.
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(5);
/// Shortest time until the next poll: no busy loop, should a deadline stay in the past.
const MIN_POLL_INTERVAL: Duration = Duration::from_millis(5);
/// The database cancels a statement that takes longer.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for a database that neither answers nor closes the connection.
const POLL_TIMEOUT: Duration = Duration::from_secs(15);
/// At shutdown: longest wait for outstanding confirmations.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);
/// At shutdown: longest wait for their recording.
const FINAL_RECORD: Duration = Duration::from_secs(1);

/// Sends the rows of one outbox.
pub struct Dispatcher<O: Outbox> {
    outbox: O,
    downlink: Arc<dyn Downlink>,
    link: watch::Receiver<LinkState>,
    wake: Wake,
    db: ReconnectingConnection,
    clock: Clock,
    metrics: Metrics,
    pending: PendingPublishes<O::Key>,
    cooldowns: Cooldowns,
    next_deadline: Option<DateTime<Utc>>,
    /// The number of session losses, and the epoch of the link, for which recorded losses were looked up and recovered.
    recovered_losses: Option<(u64, u64)>,
    /// The loss that is being recovered: its session, and what it may have lost.
    recovering: Option<(String, DateTime<Utc>)>,
    /// The epoch of the last connection after which the outbox has recovered.
    known_epoch: u64,
    /// Whether the next poll continues a recovery.
    has_more_to_recover: bool,
}

/// What a dispatcher needs beside its outbox.
pub struct DispatcherDependencies {
    pub downlink: Arc<dyn Downlink>,
    pub wake: Wake,
    pub database: DatabaseSettings,
    pub clock: Clock,
    pub metrics: Metrics,
}

impl<O: Outbox> Dispatcher<O> {
    pub fn new(outbox: O, dependencies: DispatcherDependencies) -> Self {
        let DispatcherDependencies { downlink, wake, database, clock, metrics } = dependencies;
        Self {
            outbox,
            link: downlink.link(),
            downlink,
            wake,
            db: ReconnectingConnection::new(database, O::NAME, STATEMENT_TIMEOUT),
            clock,
            metrics,
            pending: PendingPublishes::default(),
            cooldowns: Cooldowns::default(),
            next_deadline: None,
            recovered_losses: None,
            recovering: None,
            known_epoch: 0,
            has_more_to_recover: false,
        }
    }

    /// Sends until `stop` is cancelled, then records the confirmations that still arrive in time.
    pub async fn run(mut self, stop: CancellationToken) {
        // Rows left by an earlier process are due at once.
        let mut poll_at = Instant::now();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(()) = self.pending.wait_for_next() => {}
                () = self.wake.woken() => {}
                changed = self.link.changed() => if changed.is_err() { return },
                () = sleep_until(poll_at) => {}
            }
            self.pending.collect_finished();
            self.poll(&stop).await;
            poll_at = self.next_poll_at();
        }
        self.shut_down().await;
    }

    async fn shut_down(&mut self) {
        let confirmations = async { while self.pending.wait_for_next().await.is_some() {} };
        // One missing confirmation must not lose the others.
        let _ = timeout(SHUTDOWN_GRACE, confirmations).await;
        if self.pending.has_finished() && self.db.is_open() {
            let _ = timeout(FINAL_RECORD, self.record_outcomes()).await;
        }
    }

    /// Polls once, again from the start until the database has answered every statement.
    async fn poll(&mut self, stop: &CancellationToken) {
        loop {
            match db::with_timeout(POLL_TIMEOUT, self.try_poll()).await {
                Ok(()) => return self.db.reset_backoff(),
                Err(error) => {
                    self.metrics.outbox_retries.inc();
                    // The advisory locks end with the connection, so another server may continue.
                    if stop.run_until_cancelled(self.db.on_error(&error)).await.is_none() {
                        return;
                    }
                    self.pending.collect_finished();
                }
            }
        }
    }

    async fn try_poll(&mut self) -> QueryResult<()> {
        self.cooldowns.remove_ended();
        self.record_outcomes().await?;
        self.next_deadline = self.outbox.handle_deadlines(self.db.get().await, self.clock.now()).await?;
        let link = *self.link.borrow_and_update();
        self.recover(link).await?;
        if link.is_up {
            self.send_due(link.link_epoch).await?;
        }
        Ok(())
    }

    /// Makes rows due again that the broker lost, a limited number in each poll: what is due is sent in between, and no
    /// poll takes longer than its time limit.
    async fn recover(&mut self, link: LinkState) -> QueryResult<()> {
        self.has_more_to_recover = true;
        let mut recovery = Recovery::Finished;
        // Losses of another server are looked up with each link: it may have ended, and this one continues its work.
        let losses = (link.session_losses, link.link_epoch);
        if self.recovered_losses != Some(losses) {
            recovery = self.recover_lost_session().await?;
            if recovery == Recovery::Finished {
                self.recovered_losses = Some(losses);
            }
        }
        if link.is_up && self.known_epoch != link.link_epoch && recovery == Recovery::Finished {
            recovery = self.outbox.on_reconnected(self.db.get().await, self.clock.now(), link.link_epoch).await?;
            if recovery == Recovery::Finished {
                self.known_epoch = link.link_epoch;
            }
        }
        self.has_more_to_recover = recovery == Recovery::Unfinished;
        Ok(())
    }

    /// One step of making rows due again that the broker lost together with a session. This process or an earlier one, of
    /// this server or another, recorded the loss; the record is deleted after the last step.
    async fn recover_lost_session(&mut self) -> QueryResult<Recovery> {
        let conn = self.db.get().await;
        let Some((client_id, before)) = session_loss_store::find(conn, O::NAME).await? else {
            return Ok(Recovery::Finished);
        };
        let loss = Some((client_id.clone(), before));
        if self.recovering != loss {
            tracing::info!(client_id, %before, "{}: the broker lost a session; sending unanswered messages again", O::NAME);
            self.recovering = loss;
        }
        if self.outbox.on_broker_session_lost(conn, self.clock.now(), before).await? == Recovery::Finished {
            session_loss_store::delete(conn, &client_id, O::NAME, before).await?;
            self.recovering = None;
        }
        // Another session may be lost, too.
        Ok(Recovery::Unfinished)
    }

    /// Records the outcomes of finished attempts and unlocks their devices.
    async fn record_outcomes(&mut self) -> QueryResult<()> {
        if !self.pending.has_finished() {
            return Ok(());
        }
        // The clock is read before the epoch: what is recorded as sent was sent before that
        // connection ended, even if it ends now.
        let now = self.clock.now();
        let finished = self.pending.unrecorded(self.link.borrow().link_epoch);
        let reports: Vec<(O::Key, PublishReport)> =
            finished.iter().map(|finished| (finished.key.clone(), finished.report)).collect();
        let devices: Vec<DeviceId> = finished.iter().map(|finished| finished.device).collect();
        let conn = self.db.get().await;
        self.outbox.record_outcomes(conn, now, &reports).await?;
        device_lock_store::unlock(conn, O::LOCK, &devices).await?;
        for finished in self.pending.take_recorded() {
            let PublishReport { outcome, reason } = finished.report;
            if outcome == PublishOutcome::Refused {
                tracing::warn!(device = %finished.device, reason, "{}: a message was refused; it will be sent again", O::NAME);
            }
            if let Some(delay) = retry_delay(outcome) {
                self.cooldowns.start(finished.device, delay);
            }
        }
        self.report_pending();
        Ok(())
    }

    /// Sends to every device that has a due row and no pending publish.
    async fn send_due(&mut self, link_epoch: u64) -> QueryResult<()> {
        while self.pending.len() < MAX_PENDING {
            let limit = MAX_PENDING - self.pending.len();
            let busy: Vec<DeviceId> = self.pending.devices().chain(self.cooldowns.devices()).collect();
            let (conn, now) = (self.db.get().await, self.clock.now());
            self.outbox.requeue(conn, now).await?;
            let due = self.outbox.find_due(conn, now, &busy, i64::try_from(limit).expect("a small number")).await?;
            if due.is_empty() {
                break;
            }
            self.send_to(&due, link_epoch).await?;
            if due.len() < limit {
                break;
            }
        }
        self.report_pending();
        Ok(())
    }

    async fn send_to(&mut self, due: &[DeviceId], link_epoch: u64) -> QueryResult<()> {
        let conn = self.db.get().await;
        let locked = device_lock_store::lock(conn, O::LOCK, due).await?;
        for device in due.iter().filter(|device| !locked.contains(device)) {
            self.cooldowns.start(*device, SHORT_RETRY_DELAY);
        }
        let claimed = self.outbox.claim(conn, self.clock.now(), &locked).await?;
        let is_claimed = |device: &DeviceId| claimed.iter().any(|outgoing| outgoing.device == *device);
        let idle: Vec<DeviceId> = locked.into_iter().filter(|device| !is_claimed(device)).collect();
        if !idle.is_empty() {
            device_lock_store::unlock(conn, O::LOCK, &idle).await?;
        }
        if idle.len() == due.len() {
            // Every device was due, none has a row to send: without a delay this would be a busy loop.
            idle.into_iter().for_each(|device| self.cooldowns.start(device, SHORT_RETRY_DELAY));
        }
        for outgoing in claimed {
            self.pending.start(&*self.downlink, outgoing, link_epoch);
        }
        Ok(())
    }

    /// The time of the next poll if nothing wakes the dispatcher before.
    fn next_poll_at(&self) -> Instant {
        let now = Instant::now();
        if self.has_more_to_recover {
            return now + MIN_POLL_INTERVAL;
        }
        let deadline = self.next_deadline.map(|at| now + (at - self.clock.now()).to_std().unwrap_or_default());
        let next = [self.cooldowns.next_end(), deadline].into_iter().flatten().min();
        let next = next.unwrap_or(now + MAX_POLL_INTERVAL);
        next.clamp(now + MIN_POLL_INTERVAL, now + MAX_POLL_INTERVAL)
    }

    fn report_pending(&self) {
        let n_pending = i64::try_from(self.pending.len()).expect("bounded");
        self.metrics.outbox_pending.get_or_create(&OutboxLabel { outbox: O::NAME }).set(n_pending);
    }
}
