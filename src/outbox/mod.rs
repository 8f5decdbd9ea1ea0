//! The outbox: committed rows that are sent to devices, in order per device, by any server of the database. A
//! feature owns its rows; this module decides when they are sent and that one server at a time sends to a device.
//!
//! `dispatcher.rs` is the loop, `retry_delay.rs` holds the delays between attempts.

mod device_lock_store;
mod dispatcher;
mod pending_publishes;
mod retry_delay;
mod session_loss_store;
mod unanswered;
mod wake;

pub use dispatcher::{Dispatcher, DispatcherDependencies};
pub use unanswered::Unanswered;
pub use wake::Wake;

use chrono::{DateTime, Utc};
use diesel::QueryResult;

use crate::db;
use crate::downlink::{OutboxMessage, PublishReport};
use crate::ids::{DeviceId, HomeId};

/// Whether a recovery is finished. Each of its steps changes a limited number of rows, so that rows which others add in
/// between are sent without delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    Finished,
    Unfinished,
}

impl Recovery {
    /// After a step that changed this many rows, of `max`.
    pub fn after(n_changed: usize, max: usize) -> Self {
        if n_changed < max { Self::Finished } else { Self::Unfinished }
    }
}

/// The rows of one feature, as the dispatcher uses them. Each function runs its own statements. The dispatcher
/// calls it again when the answer of the database was lost, so each must be safe to repeat.
pub trait Outbox: Send + Sync + 'static {
    /// Names a row.
    type Key: Clone + Send + Sync + 'static;

    /// First key of the advisory locks of this outbox ([`db::locks`]); the second is the device's.
    const LOCK: i32;
    /// For the log and the metrics.
    const NAME: &'static str;

    /// The connection of this epoch to the broker is up. A broker that crashed in between may have restored an older
    /// state. Each call is one step; it is called until the recovery is finished.
    fn on_reconnected(
        &mut self,
        conn: &mut db::Connection,
        now: DateTime<Utc>,
        link_epoch: u64,
    ) -> impl Future<Output = QueryResult<Recovery>> + Send;

    /// Handles passed deadlines (expiry, timeouts) and returns the next deadline.
    fn handle_deadlines(
        &mut self,
        conn: &mut db::Connection,
        now: DateTime<Utc>,
    ) -> impl Future<Output = QueryResult<Option<DateTime<Utc>>>> + Send;

    /// Makes rows due again that did not reach their device: nobody was subscribed and it is time for the next attempt, or
    /// the device was away. Each call looks at some devices.
    fn requeue(
        &mut self,
        conn: &mut db::Connection,
        now: DateTime<Utc>,
    ) -> impl Future<Output = QueryResult<()>> + Send;

    /// Up to `limit` devices with a due row, without those in `busy`.
    fn find_due(
        &mut self,
        conn: &mut db::Connection,
        now: DateTime<Utc>,
        busy: &[DeviceId],
        limit: i64,
    ) -> impl Future<Output = QueryResult<Vec<DeviceId>>> + Send;

    /// Claims a due row of each device (the oldest command, the newest configuration) and records that the device may
    /// have received it. This server holds the locks of these devices, taken before the snapshot of this statement.
    fn claim(
        &mut self,
        conn: &mut db::Connection,
        now: DateTime<Utc>,
        devices: &[DeviceId],
    ) -> impl Future<Output = QueryResult<Vec<OutboxMessage<Self::Key>>>> + Send;

    /// Records how attempts ended. A row that has changed in between stays as it is.
    fn record_outcomes(
        &mut self,
        conn: &mut db::Connection,
        now: DateTime<Utc>,
        reports: &[(Self::Key, PublishReport)],
    ) -> impl Future<Output = QueryResult<()>> + Send;

    /// The broker lost what it accepted up to `before`. Rows without an answer from their device become due
    /// again, and so do messages that the broker retained. Each call is one step; it is called until the recovery is
    /// finished, from the start after a restart.
    fn on_broker_session_lost(
        &mut self,
        conn: &mut db::Connection,
        now: DateTime<Utc>,
        before: DateTime<Utc>,
    ) -> impl Future<Output = QueryResult<Recovery>> + Send;
}

/// The home whose turn was the last of these, where the first turn was that of the home after `before`.
pub fn last_turn(homes: impl Iterator<Item = HomeId>, before: HomeId) -> HomeId {
    homes.max_by_key(|home| (*home <= before, *home)).unwrap_or(before)
}
