//! Following a home's readings: what was missed first, then live, without a gap or a repeat.
//!
//! The hub is listened to before the database is read, so nothing falls between; ids are in the
//! order of commits, so a cursor tells what was emitted already. A reader that lags in the hub reads
//! on from its cursor; only one that can't keep up at all is told `LAGGED`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures_util::stream::{Stream, unfold};

use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::read_store::{self as store, Page};
use super::{Reading, SharedReading};
use crate::db::{Pool, spawn_and_join};
use crate::error::Error;
use crate::hub::{HomeChannel, Hub, HubEvent, HubReceiver};
use crate::ids::{DeviceId, HomeId, TelemetryId};
use crate::metrics::Metrics;

/// Readings read from the database at a time.
const PAGE: i64 = 500;
/// Pages of single devices that are read at a time. Each may read many readings for few, one after the
/// other for long: most connections are to be left to others.
const SCANS: usize = 2;
/// Bytes of unknown readings after which a page ends: each slow subscriber holds one.
const PAGE_BYTES: usize = 256 << 10;
/// How long a lagging subscriber waits for a database that is away, and how often: half a minute in all.
const PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSES: u32 = 60;
/// Readings a lagging subscriber is caught up on in one go before it is given up.
const MAX_CATCH_UP: usize = 10_000;

/// Committed readings, live by home, and the newest cursor.
#[derive(Clone)]
pub struct ReadingHub {
    hub: Hub<Reading>,
    newest: Arc<AtomicI64>,
}

impl Default for ReadingHub {
    fn default() -> Self {
        Self { hub: Hub::default(), newest: Arc::new(AtomicI64::new(0)) }
    }
}

impl ReadingHub {
    /// Hands a committed reading to whoever follows its home, in the order of commits.
    pub fn publish(&self, reading: Reading) {
        self.newest.fetch_max(reading.id.get(), Ordering::AcqRel);
        let home = reading.home;
        self.hub.publish(home, Arc::new(reading));
    }

    /// Whether anybody follows the home, so that a reading is worth making.
    pub fn has_subscriber(&self, home: HomeId) -> bool {
        self.hub.has_subscriber(home)
    }

    /// A committed reading that nobody follows.
    pub fn advance(&self, cursor: TelemetryId) {
        self.newest.fetch_max(cursor.get(), Ordering::AcqRel);
    }

    /// Homes somebody follows.
    pub fn n_homes(&self) -> usize {
        self.hub.n_homes()
    }
}

impl HomeChannel for ReadingHub {
    fn close(&self, home: HomeId) {
        self.hub.close(home);
    }
}

/// Opens streams of readings.
#[derive(Clone)]
pub struct LiveReadings {
    pool: Pool,
    hub: ReadingHub,
    metrics: Metrics,
    scans: Arc<Semaphore>,
}

struct State {
    follow: LiveReadings,
    home: HomeId,
    device: Option<DeviceId>,
    listener: HubReceiver<Reading>,
    /// Everything up to here was emitted, or is not wanted.
    cursor: TelemetryId,
    page: VecDeque<Reading>,
    /// Up to where the page was read, if there is more behind it.
    up_to: Option<TelemetryId>,
    mode: Mode,
    /// Waits for the database since the last page.
    n_pauses: u32,
}

enum Mode {
    /// Reading what lies between the cursor and now; `caught_up` counts since the last lag.
    Replay {
        caught_up: Option<usize>,
    },
    Live,
    Ended,
}

impl LiveReadings {
    /// Follows through this hub and this database.
    pub fn new(pool: Pool, hub: ReadingHub, metrics: Metrics) -> Self {
        Self { pool, hub, metrics, scans: Arc::new(Semaphore::new(SCANS)) }
    }

    /// The readings of a home, or of one device of it: those after `after` first if that is given.
    ///
    /// Listens from the moment of this call. Ends when the home is closed, or after an error; one is an
    /// `after` newer than anything stored.
    pub fn stream(
        &self,
        home: HomeId,
        device: Option<DeviceId>,
        after: Option<TelemetryId>,
    ) -> impl Stream<Item = Result<SharedReading, Error>> + Send + 'static {
        let newest = TelemetryId::from_database(self.hub.newest.load(Ordering::Acquire));
        let state = State {
            listener: self.hub.hub.subscribe(home),
            follow: self.clone(),
            home,
            device,
            cursor: after.unwrap_or(newest),
            page: VecDeque::new(),
            up_to: None,
            mode: if after.is_some() { Mode::Replay { caught_up: None } } else { Mode::Live },
            n_pauses: 0,
        };
        unfold(state, |mut state| async move { state.next().await.map(|item| (item, state)) })
    }
}

impl State {
    async fn next(&mut self) -> Option<Result<SharedReading, Error>> {
        loop {
            if let Some(reading) = self.page.pop_front() {
                self.cursor = reading.id;
                return Some(Ok(Arc::new(reading)));
            }
            if let Some(up_to) = self.up_to.take() {
                // What else was read is of other devices.
                self.cursor = up_to;
            }
            match &mut self.mode {
                Mode::Ended => return None,
                Mode::Replay { caught_up } => {
                    if caught_up.is_some_and(|n| n > MAX_CATCH_UP) {
                        self.mode = Mode::Ended;
                        self.follow.metrics.subscriptions_lagged.inc();
                        return Some(Err(Error::Lagged));
                    }
                    let page = match self.follow.page(self.home, self.device, self.cursor).await {
                        Ok(page) => page,
                        // Nothing is committed meanwhile, so nothing is late; and all would come back at once.
                        Err(Error::Unavailable(_)) if caught_up.is_some() && self.n_pauses < MAX_PAUSES => {
                            self.n_pauses += 1;
                            sleep(PAUSE).await;
                            continue;
                        }
                        Err(error) => {
                            self.mode = Mode::Ended;
                            return Some(Err(error));
                        }
                    };
                    self.n_pauses = 0;
                    if let Some(n) = caught_up {
                        *n += page.readings.len();
                        self.follow.metrics.subscription_catch_ups.inc_by(page.readings.len() as u64);
                    }
                    if page.readings.is_empty() && page.up_to.is_none() {
                        let is_first = caught_up.is_none();
                        self.mode = Mode::Live;
                        if is_first && let Err(error) = self.follow.check_given_out(self.cursor).await {
                            self.mode = Mode::Ended;
                            return Some(Err(error));
                        }
                    }
                    (self.page, self.up_to) = (page.readings.into(), page.up_to);
                }
                Mode::Live => match self.listener.recv().await {
                    HubEvent::Published(reading) => {
                        let is_new = reading.id > self.cursor;
                        if is_new {
                            self.cursor = reading.id;
                        }
                        if is_new && self.device.is_none_or(|device| device == reading.device) {
                            return Some(Ok(reading));
                        }
                    }
                    HubEvent::Lagged(_) => self.mode = Mode::Replay { caught_up: Some(0) },
                    HubEvent::Closed => self.mode = Mode::Ended,
                },
            }
        }
    }
}

impl LiveReadings {
    /// A cursor that was never given out would hide everything up to it.
    async fn check_given_out(&self, cursor: TelemetryId) -> Result<(), Error> {
        if cursor.get() <= self.hub.newest.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut conn = self.pool.get().await?;
        if cursor <= super::last_cursor(&mut conn).await? {
            return Ok(());
        }
        Err(Error::bad_input("after", "after is newer than anything stored"))
    }

    async fn page(&self, home: HomeId, device: Option<DeviceId>, cursor: TelemetryId) -> Result<Page, Error> {
        let (pool, scans) = (self.pool.clone(), self.scans.clone());
        let page = async move {
            let _turn = match device {
                Some(_) => Some(scans.acquire_owned().await.map_err(Error::internal)?),
                None => None,
            };
            let mut conn = pool.get().await?;
            Ok(store::after(&mut conn, home, device, cursor, PAGE, PAGE_BYTES).await?)
        };
        spawn_and_join(page).await
    }
}
