//! The feed of readings. The order of ids is the order of commits, so one id is the position of a subscriber.

use std::sync::Arc;

use futures_util::Stream;
use tokio::sync::Semaphore;

use super::hub::ReadingHub;
use super::read_store::{self as store, ReadingsAfter, StoredPage};
use super::{Reading, SharedReading};
use crate::db::Pool;
use crate::error::Error;
use crate::follow::{Feed, Followed, Page, PageRead, follow};
use crate::homes::{Access, Permission};
use crate::ids::{DeviceId, HomeId, TelemetryId};
use crate::metrics::Metrics;
use crate::turns::Turns;

/// Readings read from the database at a time.
const PAGE: i64 = 500;
/// Pages of single devices that are read at a time. Such a page may scan thousands of readings for a few of its
/// own, so most connections stay free for other work.
const MAX_SCANS: usize = 2;
/// Bytes of unknown sensors after which a page ends: each slow subscriber holds one page.
const PAGE_BYTES: usize = 256 << 10;

/// The last reading that a client received.
#[derive(Clone, Copy)]
pub struct LastReceived {
    pub reading: TelemetryId,
    /// The argument that names it, for errors.
    pub argument: &'static str,
}

/// Opens live streams of readings. Cheap to clone.
#[derive(Clone)]
pub struct LiveReadings {
    pool: Pool,
    hub: ReadingHub,
    metrics: Metrics,
    scans: Arc<Semaphore>,
}

impl LiveReadings {
    pub fn new(pool: Pool, hub: ReadingHub, metrics: Metrics) -> Self {
        Self { pool, hub, metrics, scans: Arc::new(Semaphore::new(MAX_SCANS)) }
    }

    /// The readings of a home, or of one of its devices: first those after `after` if that is given, then live
    /// ones from the moment of this call. Needs [`Permission::ReadTelemetry`].
    ///
    /// The stream ends when the home or the device is closed, or after an error; an `after` newer than every stored reading is
    /// one.
    pub fn follow(
        &self,
        access: Access,
        device: Option<DeviceId>,
        after: Option<LastReceived>,
        turns: &Turns,
    ) -> Result<impl Stream<Item = Result<Followed<SharedReading>, Error>> + Send + 'static + use<>, Error> {
        let access = access.require(Permission::ReadTelemetry)?;
        let home = access.home();
        let argument = after.map_or("", |after| after.argument);
        let after = after.map(|after| after.reading);
        // The newest cursor is read before the hub is subscribed: a reading in between has a later one.
        let sent_up_to = after.unwrap_or_else(|| self.hub.newest());
        let feed = ReadingFeed { source: self.clone(), home, device, argument, sent_up_to };
        Ok(follow(feed, self.hub.subscribe(home, device), after, turns.of(access.user()), &self.metrics))
    }

    async fn page(&self, home: HomeId, device: Option<DeviceId>, after: TelemetryId) -> Result<StoredPage, Error> {
        let wanted = ReadingsAfter { home, device, after, limit: PAGE, max_bytes: PAGE_BYTES };
        let _scan = match device {
            Some(_) => Some(self.scans.acquire().await.map_err(Error::internal)?),
            None => None,
        };
        let mut conn = self.pool.get().await?;
        Ok(store::read_after(&mut conn, wanted).await?)
    }

    /// A cursor that was never given out would hide every reading up to it.
    async fn check_given_out(&self, cursor: TelemetryId, argument: &'static str) -> Result<(), Error> {
        if cursor <= self.hub.newest() {
            return Ok(());
        }
        let last = super::last_cursor(&mut *self.pool.get().await?).await?;
        if cursor <= last {
            return Ok(());
        }
        Err(Error::bad_input(argument, format!("{argument} is newer than anything stored")))
    }
}

struct ReadingFeed {
    source: LiveReadings,
    home: HomeId,
    device: Option<DeviceId>,
    argument: &'static str,
    /// Every wanted reading up to this one was sent. It is old where the device is silent.
    sent_up_to: TelemetryId,
}

impl Feed for ReadingFeed {
    type Event = Reading;
    type Item = SharedReading;
    type Cursor = TelemetryId;

    /// A page that started at the last reading of a silent device would read what all the others sent since.
    fn resume(&self, first: &Reading) -> TelemetryId {
        self.sent_up_to.max(first.id.previous())
    }

    fn page(&self, after: TelemetryId) -> PageRead<SharedReading, TelemetryId> {
        let (source, home, device, argument) = (self.source.clone(), self.home, self.device, self.argument);
        Box::pin(async move {
            let page = source.page(home, device, after).await?;
            if page.readings.is_empty() && page.up_to.is_none() {
                source.check_given_out(after, argument).await?;
            }
            Ok(Page { items: page.readings.into_iter().map(Arc::new).collect(), next: page.up_to })
        })
    }

    async fn item(&mut self, reading: &SharedReading) -> Result<Option<SharedReading>, Error> {
        Ok(self.accept(reading).then(|| reading.clone()))
    }

    fn accept(&mut self, reading: &SharedReading) -> bool {
        if reading.id <= self.sent_up_to {
            return false;
        }
        self.sent_up_to = reading.id;
        true
    }
}
