//! The outbox: committed rows that are to reach devices, sent in order per device by whichever server
//! can. The rows are a feature's; when they go, and that only one server at a time sends for a device,
//! is decided here.

mod dispatcher;
mod store;
mod wake;

pub use dispatcher::{Dispatcher, Parts};
pub use wake::Wake;

use chrono::{DateTime, Utc};
use diesel::QueryResult;

use crate::db;
use crate::downlink::{DeliveryOutcome, Outgoing};
use crate::ids::DeviceId;

/// A feature's rows that are to be sent. Each function is one step with its own statements; a step whose
/// answer was lost is made again, so each must bear that.
pub trait Outbox: Send + Sync + 'static {
    /// What names a row.
    type Key: Clone + Send + Sync + 'static;

    /// First half of the advisory locks that keep a device to one server; one number a feature.
    const LOCK: i32;
    /// For the log and the metrics.
    const NAME: &'static str;

    /// The link came up, by a connection that is another one than before: a broker that crashed meanwhile
    /// may have come back as it was a while ago.
    fn on_reconnected(
        &self,
        conn: &mut db::Connection,
        now: DateTime<Utc>,
    ) -> impl Future<Output = QueryResult<()>> + Send;

    /// Does what the clock demands (expiry, time-outs) and tells when it next will.
    fn tick(
        &self,
        conn: &mut db::Connection,
        now: DateTime<Utc>,
    ) -> impl Future<Output = QueryResult<Option<DateTime<Utc>>>> + Send;

    /// Up to `limit` devices that something is to be sent to, longest waiting first, none of `busy`.
    fn find_due(
        &self,
        conn: &mut db::Connection,
        now: DateTime<Utc>,
        busy: &[DeviceId],
        limit: i64,
    ) -> impl Future<Output = QueryResult<Vec<DeviceId>>> + Send;

    /// Takes at most one row of each of these devices, its oldest, and notes that it may have left. This
    /// server holds the devices' locks, taken before this statement's snapshot.
    fn claim(
        &self,
        conn: &mut db::Connection,
        now: DateTime<Utc>,
        devices: &[DeviceId],
    ) -> impl Future<Output = QueryResult<Vec<Outgoing<Self::Key>>>> + Send;

    /// Records what became of messages. A row that has moved on meanwhile stays as it is.
    fn record_outcomes(
        &self,
        conn: &mut db::Connection,
        now: DateTime<Utc>,
        outcomes: &[(Self::Key, DeliveryOutcome)],
    ) -> impl Future<Output = QueryResult<()>> + Send;

    /// The broker lost what it was given up to this time: what nobody has answered is to be sent again, and
    /// what it kept is to be put back.
    fn on_broker_session_lost(
        &self,
        conn: &mut db::Connection,
        now: DateTime<Utc>,
        before: DateTime<Utc>,
    ) -> impl Future<Output = QueryResult<()>> + Send;
}
