//! Resolves the addresses in topics to devices: a bounded cache in front of one statement a batch.
//!
//! A change of the registry on this server takes effect at once, a change on another server within [`MAX_AGE`] and
//! [`MAX_WAIT`]. An answer that named no device is kept for one batch only: the messages are rejected, and another server may
//! register the device right after. An old answer that named a device is used and then asked for again: the store notices
//! when the device has been deleted, and the entry is evicted.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use diesel::QueryResult;

use super::directory_store::{self as store, ResolveAddresses};
use super::{Mac, RegistryChanges, StoredBytes};
use crate::db;
use crate::ids::{DeviceId, HomeId};

/// Age at which an answer is asked for again.
const MAX_AGE: Duration = Duration::from_secs(4);
/// Longest time an old answer that was used waits for others, to be asked for together.
const MAX_WAIT: Duration = Duration::from_secs(1);
/// Old answers asked for between two batches: few, so that the next batch hardly waits.
const REVALIDATED_AT_ONCE: usize = 16;
/// Cached addresses of devices: some 20 MB. Those of one batch may exceed it until the next.
const MAX_ENTRIES: usize = 131_072;

/// What an address in a topic names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolved {
    Device(ResolvedDevice),
    /// The home exists, but has no such device.
    NoDevice(HomeId),
    NoHome,
}

/// A registered device, with what ingest needs of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResolvedDevice {
    pub home: HomeId,
    pub device: DeviceId,
    /// Whether the database said online when the address was resolved.
    pub online: bool,
    /// Whether the device announced that it is offline and has sent nothing since, by the database when the address was
    /// resolved.
    pub announced_offline: bool,
    /// Whether the device has ever sent a message, by the database when the address was resolved.
    pub seen: bool,
    /// Since when the device may have buffered messages, by the database when the address was resolved.
    pub backlog_since: Option<DateTime<Utc>>,
    /// What it had stored lately, by the database when the address was resolved.
    pub stored: Option<StoredBytes>,
}

impl ResolvedDevice {
    /// A device that is online, and of which nothing else matters.
    pub fn online(home: HomeId, device: DeviceId) -> Self {
        Self { home, device, online: true, announced_offline: false, seen: true, backlog_since: None, stored: None }
    }
}

/// How a topic names a home and a device, each by one of its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicAddress<'a> {
    /// The home's id, or its key.
    pub home: Result<HomeId, &'a str>,
    /// `None` where the topic names no device.
    pub device: Option<DeviceName<'a>>,
}

/// How a topic names a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceName<'a> {
    Id(DeviceId),
    Mac(Mac),
    Key(&'a str),
}

/// The cache. The writer owns it.
#[derive(Debug, Default)]
pub struct Directory {
    devices: HashMap<Box<str>, Entry>,
    /// The addresses of the present batch that name no device, in homes that exist.
    unknown: HashMap<Box<str>, HomeId>,
    /// Addresses whose old answers were used: [`Directory::revalidate`] asks for them again.
    stale: HashSet<Box<str>>,
    /// When the first of them was used.
    stale_since: Option<Instant>,
    changes: RegistryChanges,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    device: ResolvedDevice,
    resolved_at: Instant,
    /// The number of changes when the database was asked.
    n_changes: u64,
}

impl Directory {
    /// An empty cache, whose answers end with the next change.
    pub fn new(changes: RegistryChanges) -> Self {
        Self { changes, ..Self::default() }
    }

    /// A cache with one address.
    #[cfg(test)]
    pub(crate) fn with_device(text: &str, known: ResolvedDevice) -> Self {
        let mut directory = Self::default();
        let entry = Entry { device: known, resolved_at: Instant::now(), n_changes: 0 };
        directory.devices.insert(text.into(), entry);
        directory
    }

    /// Makes sure that each of these texts (`home/device`) has an answer that may be used; `read` parses a text.
    pub async fn refresh<'a>(
        &mut self,
        conn: &mut db::Connection,
        texts: impl Iterator<Item = &'a str>,
        read: impl Fn(&'a str) -> TopicAddress<'a>,
    ) -> QueryResult<()> {
        let now = Instant::now();
        // Before a batch is resolved, never within it: the batch needs all its answers.
        if self.devices.len() >= MAX_ENTRIES {
            self.forget_half();
        }
        self.unknown.clear();
        let mut missing: HashSet<&str> = HashSet::new();
        for text in texts {
            match self.devices.get(text) {
                Some(entry) if self.changes.last_of(entry.device.home) <= entry.n_changes => {
                    if now.duration_since(entry.resolved_at) >= MAX_AGE && !self.stale.contains(text) {
                        self.stale.insert(text.into());
                        self.stale_since.get_or_insert(now);
                    }
                }
                _ => _ = missing.insert(text),
            }
        }
        self.resolve(conn, &missing.into_iter().collect::<Vec<_>>(), read).await
    }

    /// When [`Directory::revalidate`] has something to do at the latest.
    pub fn revalidation_due_at(&self) -> Option<Instant> {
        self.stale_since.map(|since| since + MAX_WAIT)
    }

    /// Asks again for some of the old answers that were used, once there are enough or one has waited long enough.
    pub async fn revalidate(
        &mut self,
        conn: &mut db::Connection,
        read: impl Fn(&str) -> TopicAddress<'_>,
    ) -> QueryResult<()> {
        let is_due = self.revalidation_due_at().is_some_and(|at| at <= Instant::now());
        if self.stale.len() < REVALIDATED_AT_ONCE && !is_due {
            return Ok(());
        }
        let stale: Vec<Box<str>> = self.stale.iter().take(REVALIDATED_AT_ONCE).cloned().collect();
        for text in &stale {
            self.stale.remove(text);
        }
        if self.stale.is_empty() {
            self.stale_since = None;
        }
        let texts: Vec<&str> = stale.iter().map(|text| &**text).collect();
        self.resolve(conn, &texts, read).await
    }

    async fn resolve<'a>(
        &mut self,
        conn: &mut db::Connection,
        texts: &[&'a str],
        read: impl Fn(&'a str) -> TopicAddress<'a>,
    ) -> QueryResult<()> {
        if texts.is_empty() {
            return Ok(());
        }
        // Read before the statement: a change during the statement makes its answer stale.
        let n_changes = self.changes.count();
        let resolved_at = Instant::now();
        let addresses = ResolveAddresses::of(texts.iter().map(|text| read(text)));
        let rows = store::resolve(conn, addresses).await?;
        for text in texts {
            self.devices.remove(*text);
        }
        for row in rows {
            let text = texts[usize::try_from(row.position - 1).expect("positions start at 1")];
            let Some(device) = row.device else {
                self.unknown.insert(text.into(), row.home);
                continue;
            };
            let device = ResolvedDevice {
                home: row.home,
                device,
                online: row.online,
                announced_offline: row.announced_offline,
                seen: row.seen,
                backlog_since: row.backlog_since,
                stored: row.stored_day.map(|day| StoredBytes { day, bytes: row.stored_bytes }),
            };
            self.devices.insert(text.into(), Entry { device, resolved_at, n_changes });
        }
        Ok(())
    }

    /// Drops every second address. Without an order of use: of more devices than there is room for, half stay known.
    fn forget_half(&mut self) {
        let mut is_kept = false;
        self.devices.retain(|_, _| {
            is_kept = !is_kept;
            is_kept
        });
    }

    /// Drops the addresses of these devices: they have been deleted.
    pub fn evict(&mut self, deleted: &HashSet<DeviceId>) {
        self.devices.retain(|_, entry| !deleted.contains(&entry.device.device));
    }

    /// The answer for a text that was given to [`Directory::refresh`] for the present batch.
    pub fn get(&self, text: &str) -> Resolved {
        match (self.devices.get(text), self.unknown.get(text)) {
            (Some(entry), _) => Resolved::Device(entry.device),
            (None, Some(home)) => Resolved::NoDevice(*home),
            (None, None) => Resolved::NoHome,
        }
    }

    /// Every device that is online in the database.
    pub async fn online(conn: &mut db::Connection) -> QueryResult<Vec<ResolvedDevice>> {
        let online = store::online(conn).await?;
        Ok(online.into_iter().map(|(home, device)| ResolvedDevice::online(home, device)).collect())
    }
}

impl ResolveAddresses {
    fn of<'a>(addresses: impl Iterator<Item = TopicAddress<'a>>) -> Self {
        let (mut columns, mut homes) = (Self::default(), HashMap::new());
        for TopicAddress { home, device } in addresses {
            let position = *homes.entry(home).or_insert_with(|| columns.push_home(home));
            columns.homes.push(position);
            columns.push_device(device);
        }
        columns
    }

    /// Adds a home and returns its position, from 1.
    fn push_home(&mut self, home: Result<HomeId, &str>) -> i64 {
        self.home_ids.push(home.ok().map(HomeId::get));
        self.home_keys.push(home.err().map(str::to_owned));
        i64::try_from(self.home_ids.len()).expect("no more homes than messages in a batch")
    }

    fn push_device(&mut self, device: Option<DeviceName<'_>>) {
        let (mut id, mut mac, mut key) = (None, None, None);
        match device {
            Some(DeviceName::Id(device)) => {
                id = Some(device.get());
                // Twelve decimal digits may also be a MAC address written without separators.
                mac = device.to_string().parse().ok().map(|mac: Mac| mac.as_str().to_owned());
            }
            Some(DeviceName::Mac(address)) => mac = Some(address.as_str().to_owned()),
            Some(DeviceName::Key(text)) => key = Some(text.to_owned()),
            None => {}
        }
        self.device_ids.push(id);
        self.device_macs.push(mac);
        self.device_keys.push(key);
    }
}
