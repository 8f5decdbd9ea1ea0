//! What the broker keeps for a deleted device: its session with queued messages, and retained messages. The deletion
//! records it in the table `broker_cleanups`; the server makes the broker delete it ([`crate::mqtt::cleanup`]). Until
//! the broker has confirmed it, the next device with the same keys can't connect.

use chrono::TimeDelta;

use super::Devices;
use super::accounts::Accounts;
use super::cleanups_store::{self as store, DueCleanup};
use crate::clock::Clock;
use crate::db::{self, Connection};
use crate::error::Error;
use crate::ids::HomeId;
use crate::settings::DatabaseSettings;

/// A cleanup is repeated after this time: the broker may have crashed and restored what it had saved before, and its
/// operator may have let the server write to the device's topics only then.
const REPEAT_AFTER: TimeDelta = TimeDelta::hours(1);

/// What the broker must delete for one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cleanup {
    pub id: i64,
    /// Names the session.
    pub client_id: String,
    /// Home and device of the topics under which a message may be retained; none where another device has them by now.
    pub topics: Vec<(String, String)>,
}

/// The cleanups, for the server that does them.
#[derive(Clone)]
pub struct Cleanups {
    clock: Clock,
    /// Has accounts where the server removes those of deleted devices at the broker, which must be done before.
    accounts: Accounts,
}

/// Held by the one server of an installation that cleans up, as long as its connection is open.
pub struct CleanupLeader {
    conn: Connection,
    cleanups: Cleanups,
    /// The home of the last cleanup: the next one's turn comes after it.
    last_home: HomeId,
}

impl Devices {
    pub fn cleanups(&self) -> Cleanups {
        Cleanups { clock: self.clock.clone(), accounts: self.accounts.clone() }
    }
}

impl Cleanups {
    /// Becomes the leader. `None` while another server leads.
    pub async fn try_lead(&self, database: &DatabaseSettings) -> Result<Option<CleanupLeader>, Error> {
        const STATEMENT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);
        let mut conn = db::connect(database.url.reveal(), Some(STATEMENT_TIMEOUT)).await.map_err(Error::unavailable)?;
        let is_leader = store::try_lock(&mut conn).await?;
        Ok(is_leader.then(|| CleanupLeader { conn, cleanups: self.clone(), last_home: HomeId::from_database(0) }))
    }
}

impl CleanupLeader {
    /// Up to `limit` cleanups that are due, homes in turn. Devices to which a message is on its way wait.
    pub async fn due(&mut self, limit: i64) -> Result<Vec<Cleanup>, Error> {
        let repeat_before = self.cleanups.clock.now() - REPEAT_AFTER;
        let has_accounts = self.cleanups.accounts.has_one_password_per_user();
        let mut due = store::due(&mut self.conn, repeat_before, has_accounts, self.last_home, limit).await?;
        let Some(last) = due.last() else { return Ok(Vec::new()) };
        self.last_home = last.home;
        let idle = store::find_idle(&mut self.conn, &due).await?;
        due.retain(|due| idle.contains(&due.device));
        Ok(due.into_iter().map(Cleanup::from).collect())
    }

    /// The broker has confirmed the cleanup.
    pub async fn confirm(&mut self, cleanup: &Cleanup) -> Result<(), Error> {
        store::confirm(&mut self.conn, cleanup.id, self.cleanups.clock.now()).await?;
        // The account of the next device with the same keys may be waiting for it.
        self.cleanups.accounts.wake();
        Ok(())
    }
}

impl From<DueCleanup> for Cleanup {
    fn from(due: DueCleanup) -> Self {
        let DueCleanup { id, client_id, home_key, device_key, home_segment, device_segment, clears_topics, .. } = due;
        let as_last_spelt = home_segment.zip(device_segment);
        let mut topics = vec![(home_key, device_key)];
        topics.extend(as_last_spelt.filter(|spelt| *spelt != topics[0]));
        if !clears_topics {
            topics.clear();
        }
        Self { id, client_id, topics }
    }
}

/// Home and device of the topics under which the broker may keep something of a deleted device.
pub async fn topics_to_clean_up(pool: &db::Pool) -> Result<Vec<(String, String)>, Error> {
    let mut conn = pool.get().await?;
    Ok(store::topics_to_clean_up(&mut conn).await?)
}
