//! The order in which devices get their commands: homes take turns, and so do the devices of a home. However many
//! commands wait in one home, those of another home are sent with the next poll.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use diesel::QueryResult;

use super::queue_store::{self as store, Due, FindDue};
use super::returned_devices::AwaitedDevices;
use crate::db;
use crate::ids::{CommandId, DeviceId, HomeId};
use crate::outbox::last_turn;

/// Devices without subscribers whose next attempt one poll lets go ahead.
const MAX_RETRIES_PER_POLL: i64 = 512;
/// Searches for due devices in one poll, if none of those that are found is ready.
const MAX_SEARCHES: usize = 10;

/// What the dispatcher of a server remembers of the queue in the database.
pub(super) struct Queue {
    /// The home that had the last turn.
    last_home: HomeId,
    /// The devices of claimed commands without a recorded outcome.
    claimed: HashMap<CommandId, DeviceId>,
    /// The devices to whose topic nobody was subscribed: ingest tells when one of them sends something.
    awaited: AwaitedDevices,
}

impl Queue {
    pub(super) fn new(awaited: AwaitedDevices) -> Self {
        Self { last_home: HomeId::from_database(0), claimed: HashMap::new(), awaited }
    }

    /// Ends the pauses of devices without subscribers that are due or have become active.
    pub(super) async fn release_retries(&self, conn: &mut db::Connection, now: DateTime<Utc>) -> QueryResult<()> {
        store::release_retries(conn, now, &self.awaited.take_active(), MAX_RETRIES_PER_POLL).await
    }

    /// Up to `limit` devices with a command to send, without those in `busy`.
    pub(super) async fn find_due(
        &mut self,
        conn: &mut db::Connection,
        now: DateTime<Utc>,
        busy: &[DeviceId],
        limit: i64,
    ) -> QueryResult<Vec<DeviceId>> {
        // Devices that are not ready are held or removed, so each search finds others.
        for _ in 0..MAX_SEARCHES {
            let found = FindDue { now, after: self.last_home, busy, limit }.execute(conn).await?;
            self.last_home = last_turn(found.iter().map(|due| due.home), self.last_home);
            let (ready, others): (Vec<_>, Vec<_>) = found.into_iter().partition(|due| due.is_ready);
            let [ready, others] = [ready, others].map(devices);
            store::update(conn, now, &others).await?;
            if !ready.is_empty() || others.is_empty() {
                return Ok(ready);
            }
        }
        Ok(Vec::new())
    }

    /// To be called with the commands that were claimed for `devices`. The others had none to send.
    pub(super) async fn after_claim(
        &mut self,
        conn: &mut db::Connection,
        now: DateTime<Utc>,
        devices: &[DeviceId],
        commands: HashMap<CommandId, DeviceId>,
    ) -> QueryResult<()> {
        let claimed: HashSet<DeviceId> = commands.values().copied().collect();
        let idle: Vec<_> = devices.iter().copied().filter(|device| !claimed.contains(device)).collect();
        store::update(conn, now, &idle).await?;
        self.claimed.extend(commands);
        Ok(())
    }

    /// To be called after the outcomes of attempts are recorded. Safe to repeat.
    pub(super) async fn after_attempts(
        &mut self,
        conn: &mut db::Connection,
        now: DateTime<Utc>,
        commands: &[CommandId],
    ) -> QueryResult<()> {
        let devices: Vec<_> = commands.iter().filter_map(|command| self.claimed.get(command).copied()).collect();
        self.awaited.add(store::update(conn, now, &devices).await?);
        for command in commands {
            self.claimed.remove(command);
        }
        Ok(())
    }
}

fn devices(due: Vec<Due>) -> Vec<DeviceId> {
    due.into_iter().map(|due| due.device).collect()
}
