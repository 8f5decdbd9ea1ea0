//! The dispatcher: takes what is due from one outbox, sends it, records what became of it. Woken, never
//! polling: by a commit of this server, by a device that came back, by the link, by the next deadline.
//!
//! At most one message a device is under way, under a lock that only one server can hold: so a device
//! gets its messages in order, a slow one holds nobody up, and servers share the work without sending
//! anything twice. What ends unconfirmed stays in its row and goes again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{Outbox, Wake, store};
use crate::clock::Clock;
use crate::db::ReconnectingConnection;
use crate::downlink::{DeliveryOutcome, Downlink, LinkState};
use crate::ids::DeviceId;
use crate::metrics::{Metrics, OutboxLabel};
use crate::settings::DatabaseSettings;

/// Devices that may have a message under way.
const MAX_UNDER_WAY: usize = 512;
/// Longest time between two looks, so that what a server that is no more has left is found.
const SWEEP: Duration = Duration::from_secs(5);
/// For so long a device is left alone whose message the broker refused.
const REFUSED_REST: Duration = Duration::from_secs(5);
/// For so long one that another server sends to, or whose message got lost with the link.
const SHORT_REST: Duration = Duration::from_millis(200);
/// A statement that takes longer is given up and made again.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for a database that neither answers nor goes away.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(15);
/// At the stop: longest wait for confirmations that are still to come.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// At the stop: longest wait for their recording.
const LAST_RECORD: Duration = Duration::from_secs(1);

/// Sends what one outbox holds.
pub struct Dispatcher<O: Outbox> {
    outbox: O,
    downlink: Arc<dyn Downlink>,
    link: watch::Receiver<LinkState>,
    wake: Wake,
    db: ReconnectingConnection,
    clock: Clock,
    metrics: Metrics,
    /// Messages with the broker, each with its row.
    deliveries: JoinSet<Delivered<O::Key>>,
    /// Devices of `deliveries` and of `done`.
    under_way: HashSet<DeviceId>,
    /// What has come of messages and is not recorded yet.
    done: Vec<Delivered<O::Key>>,
    /// Devices to be left alone, and until when.
    resting: HashMap<DeviceId, Instant>,
    deadline: Option<DateTime<Utc>>,
    client_id: String,
    /// Losses of the broker that are made good; `None` before an earlier life's are looked for.
    session_losses: Option<u64>,
    /// The connection whose beginning the outbox has been told of.
    known_connection: u64,
}

struct Delivered<K> {
    key: K,
    device: DeviceId,
    outcome: DeliveryOutcome,
    /// By which connection it went.
    connection: u64,
}

/// What a dispatcher is made of, beside its outbox.
pub struct Parts {
    /// How messages reach devices.
    pub downlink: Arc<dyn Downlink>,
    /// What wakes it.
    pub wake: Wake,
    /// Where the rows are.
    pub database: DatabaseSettings,
    /// Whose session at the broker.
    pub client_id: String,
    /// For expiry.
    pub clock: Clock,
    /// Counters.
    pub metrics: Metrics,
}

impl<O: Outbox> Dispatcher<O> {
    /// A dispatcher at rest.
    pub fn new(outbox: O, parts: Parts) -> Self {
        let Parts { downlink, wake, database, client_id, clock, metrics } = parts;
        Self {
            outbox,
            link: downlink.link(),
            downlink,
            wake,
            db: ReconnectingConnection::new(database, O::NAME, STATEMENT_TIMEOUT),
            clock,
            metrics,
            deliveries: JoinSet::new(),
            under_way: HashSet::new(),
            done: Vec::new(),
            resting: HashMap::new(),
            deadline: None,
            client_id,
            session_losses: None,
            known_connection: 0,
        }
    }

    /// Sends until `stop`, then records what is still confirmed in time.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut is_stopping = false;
        // What an earlier life left is due at once.
        let mut look_at = Instant::now();
        while !is_stopping {
            tokio::select! {
                biased;
                () = stop.cancelled() => is_stopping = true,
                Some(delivered) = self.deliveries.join_next() => self.note(delivered),
                () = self.wake.woken() => {}
                changed = self.link.changed() => if changed.is_err() { return },
                () = sleep_until(look_at) => {}
            }
            self.note_all();
            if !is_stopping {
                self.look(&stop).await;
                look_at = self.next_look();
            }
        }
        let last_words = async {
            while let Some(delivered) = self.deliveries.join_next().await {
                self.note(delivered);
            }
        };
        // One that stays unconfirmed must not cost the others theirs.
        let _ = timeout(LAST_WORDS, last_words).await;
        if !self.done.is_empty() && self.db.is_open() {
            let _ = timeout(LAST_RECORD, self.record()).await;
        }
    }

    fn note(&mut self, delivered: Result<Delivered<O::Key>, tokio::task::JoinError>) {
        match delivered {
            Ok(delivered) => self.done.push(delivered),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    fn note_all(&mut self) {
        while let Some(delivered) = self.deliveries.try_join_next() {
            self.note(delivered);
        }
    }

    /// One look, made again until the database has answered all of it.
    async fn look(&mut self, stop: &CancellationToken) {
        loop {
            match timeout(ATTEMPT_TIMEOUT, self.step()).await.unwrap_or_else(|_| Err(no_answer())) {
                Ok(()) => return self.db.reset_backoff(),
                Err(error) => {
                    self.metrics.outbox_retries.inc();
                    // Its locks are gone with the connection: whoever gets them first goes on.
                    if stop.run_until_cancelled(self.db.on_error(&error)).await.is_none() {
                        return;
                    }
                    self.note_all();
                }
            }
        }
    }

    async fn step(&mut self) -> QueryResult<()> {
        let now = Instant::now();
        self.resting.retain(|_, until| *until > now);
        self.record().await?;
        self.deadline = self.outbox.tick(self.db.get().await, self.clock.now()).await?;
        let link = *self.link.borrow_and_update();
        if self.session_losses != Some(link.session_losses) {
            self.make_good().await?;
            self.session_losses = Some(link.session_losses);
        }
        if link.is_up {
            if self.known_connection != link.connection {
                self.outbox.on_reconnected(self.db.get().await, self.clock.now()).await?;
                self.known_connection = link.connection;
            }
            self.send(link.connection).await?;
        }
        Ok(())
    }

    /// Has done again what the broker lost, noted by an earlier life or by this one.
    async fn make_good(&mut self) -> QueryResult<()> {
        let conn = self.db.get().await;
        if let Some(before) = store::loss(conn, &self.client_id, O::NAME).await? {
            tracing::info!(%before, "{}: the broker lost what it kept; sending again what nobody answered", O::NAME);
            self.outbox.on_broker_session_lost(conn, self.clock.now(), before).await?;
            store::made_good(conn, &self.client_id, O::NAME, before).await?;
        }
        Ok(())
    }

    /// Records what became of messages, and frees their devices.
    async fn record(&mut self) -> QueryResult<()> {
        if self.done.is_empty() {
            return Ok(());
        }
        // The time first, then the look at the link: so whatever is recorded as sent was sent before the
        // link went, should it go now.
        let now = self.clock.now();
        let connection = self.link.borrow().connection;
        for done in &mut self.done {
            if matches!(done.outcome, DeliveryOutcome::Confirmed | DeliveryOutcome::NoSubscribers)
                && done.connection != connection
            {
                // The broker may have lost it meanwhile, and with it our knowledge of that.
                done.outcome = DeliveryOutcome::Unknown;
            }
        }
        let outcomes: Vec<(O::Key, DeliveryOutcome)> =
            self.done.iter().map(|done| (done.key.clone(), done.outcome)).collect();
        let devices: Vec<DeviceId> = self.done.iter().map(|done| done.device).collect();
        let conn = self.db.get().await;
        self.outbox.record_outcomes(conn, now, &outcomes).await?;
        store::unlock(conn, O::LOCK, &devices).await?;
        for done in self.done.drain(..) {
            self.under_way.remove(&done.device);
            match done.outcome {
                DeliveryOutcome::Refused(why) => {
                    tracing::warn!(device = %done.device, why, "{}: a message was refused; it will be tried again", O::NAME);
                    self.resting.insert(done.device, Instant::now() + REFUSED_REST);
                }
                DeliveryOutcome::Unknown | DeliveryOutcome::NotSent => {
                    self.resting.insert(done.device, Instant::now() + SHORT_REST);
                }
                DeliveryOutcome::Confirmed | DeliveryOutcome::NoSubscribers | DeliveryOutcome::Expired => {}
            }
        }
        self.gauge();
        Ok(())
    }

    /// Sends to every device that has something due and nothing under way.
    async fn send(&mut self, connection: u64) -> QueryResult<()> {
        while self.under_way.len() < MAX_UNDER_WAY {
            let busy: Vec<DeviceId> = self.under_way.iter().chain(self.resting.keys()).copied().collect();
            let limit = i64::try_from(MAX_UNDER_WAY - self.under_way.len()).expect("a small number");
            let conn = self.db.get().await;
            let due = self.outbox.find_due(conn, self.clock.now(), &busy, limit).await?;
            if due.is_empty() {
                break;
            }
            let is_all = i64::try_from(due.len()).is_ok_and(|n| n < limit);
            let locked = store::lock(conn, O::LOCK, &due).await?;
            for device in due.iter().filter(|device| !locked.contains(device)) {
                self.resting.insert(*device, Instant::now() + SHORT_REST);
            }
            let taken = self.outbox.claim(conn, self.clock.now(), &locked).await?;
            let idle: Vec<DeviceId> =
                locked.into_iter().filter(|device| !taken.iter().any(|taken| taken.device == *device)).collect();
            if !idle.is_empty() {
                store::unlock(conn, O::LOCK, &idle).await?;
            }
            if taken.is_empty() && idle.len() == due.len() {
                // Due and yet nothing to take: not again at once.
                self.resting.extend(idle.into_iter().map(|device| (device, Instant::now() + SHORT_REST)));
            }
            for outgoing in taken {
                self.under_way.insert(outgoing.device);
                let delivery = self.downlink.deliver(outgoing.message);
                let (key, device) = (outgoing.key, outgoing.device);
                self.deliveries.spawn(async move { Delivered { key, device, outcome: delivery.await, connection } });
            }
            if is_all {
                break;
            }
        }
        self.gauge();
        Ok(())
    }

    /// When to look next if nothing happens.
    fn next_look(&self) -> Instant {
        let now = Instant::now();
        let rested = self.resting.values().min().copied();
        let deadline = self.deadline.map(|at| now + (at - self.clock.now()).to_std().unwrap_or_default());
        let next = [rested, deadline].into_iter().flatten().min().unwrap_or(now + SWEEP);
        // Never in a tight circle, should the database's work not move a deadline.
        next.clamp(now + Duration::from_millis(5), now + SWEEP)
    }

    fn gauge(&self) {
        let under_way = i64::try_from(self.under_way.len()).expect("bounded");
        self.metrics.outbox_in_flight.get_or_create(&OutboxLabel { outbox: O::NAME }).set(under_way);
    }
}

fn no_answer() -> DieselError {
    DieselError::DatabaseError(DatabaseErrorKind::ClosedConnection, Box::new("no answer in time".to_owned()))
}
