//! Names in topics to devices: a bounded cache in front of one statement a batch.
//!
//! What this server changes is seen at once. What another one changes is seen within [`MAX_AGE`]: a
//! name that stood for nothing is asked for anew before it is used; one that stood for a device is used
//! meanwhile, because a device that was deleted is caught where its message is stored, and forgotten here.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use diesel_async::AsyncPgConnection;

use super::directory_store::{self as store, Names};
use super::{Mac, RegistryListener};
use crate::ids::{DeviceId, HomeId};

/// Age at which an answer is asked for anew.
const MAX_AGE: Duration = Duration::from_secs(5);
/// Old answers asked for between two batches: few, so that the next one hardly waits.
const REVALIDATED_AT_ONCE: usize = 32;
/// Names remembered, known and unknown ones together; a batch may exceed it for its own time.
const MAX_ENTRIES: usize = 65_536;

/// What a name in a topic stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolved {
    /// A device of that home.
    Device(ResolvedDevice),
    /// The home exists, the device is not one of its own.
    NoDevice(HomeId),
    /// There is no such home.
    NoHome,
}

/// A registered device as ingest needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResolvedDevice {
    /// Its home.
    pub home: HomeId,
    /// Its id.
    pub device: DeviceId,
    /// Whether it stood as online when it was looked up.
    pub online: bool,
    /// Since when it may have gathered messages, as the database knew it when it was looked up.
    pub quiet_since: Option<DateTime<Utc>>,
}

/// How a topic names a home and a device in it, each by one of its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicAddress<'a> {
    /// The home's id or key.
    pub home: Result<HomeId, &'a str>,
    /// The device's id, MAC or key; `None` where only the home is asked for.
    pub device: Option<DeviceName<'a>>,
}

/// How a topic names a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceName<'a> {
    /// By its decimal id.
    Id(DeviceId),
    /// By its MAC address.
    Mac(Mac),
    /// By its key.
    Key(&'a str),
}

/// The cache. One owner: the writer.
#[derive(Debug, Default)]
pub struct Directory {
    entries: HashMap<Box<str>, Entry>,
    /// Old answers that were used, to be asked for when there is time.
    stale: HashSet<Box<str>>,
    version: DirectoryVersion,
}

/// Raised by every change of the registry on this server; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct DirectoryVersion(Arc<AtomicU64>);

#[derive(Debug, Clone, Copy)]
struct Entry {
    resolved: Resolved,
    asked_at: Instant,
    version: u64,
}

impl RegistryListener for DirectoryVersion {
    fn device_changed(&self, _: HomeId, _: DeviceId) {
        self.0.fetch_add(1, Ordering::Release);
    }

    fn home_changed(&self, _: HomeId) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

impl Directory {
    /// An empty cache that goes stale with `version`.
    pub fn new(version: DirectoryVersion) -> Self {
        Self { entries: HashMap::new(), stale: HashSet::new(), version }
    }

    /// A cache that knows one name.
    #[cfg(test)]
    pub(crate) fn with_device(text: &str, known: ResolvedDevice) -> Self {
        let mut directory = Self::default();
        let entry = Entry { resolved: Resolved::Device(known), asked_at: Instant::now(), version: 0 };
        directory.entries.insert(text.into(), entry);
        directory
    }

    /// Makes sure that each of these texts (`home/device`) has a fresh answer; `read` tells what a
    /// text names.
    pub async fn refresh<'a>(
        &mut self,
        conn: &mut AsyncPgConnection,
        texts: impl Iterator<Item = &'a str>,
        read: impl Fn(&'a str) -> TopicAddress<'a>,
    ) -> QueryResult<()> {
        let version = self.version.0.load(Ordering::Acquire);
        let now = Instant::now();
        // Before a batch is looked up, never amid it: an answer stands until the batch is judged.
        if self.entries.len() >= MAX_ENTRIES {
            self.entries.clear();
        }
        let mut asked: HashSet<&str> = HashSet::new();
        for text in texts {
            match self.entries.get(text) {
                Some(entry) if entry.version == version && now.duration_since(entry.asked_at) < MAX_AGE => {}
                Some(Entry { version: known, resolved: Resolved::Device(_), .. }) if *known == version => {
                    if !self.stale.contains(text) {
                        self.stale.insert(text.into());
                    }
                }
                _ => _ = asked.insert(text),
            }
        }
        self.ask(conn, &asked.into_iter().collect::<Vec<_>>(), read).await
    }

    /// Asks anew for some of the old answers that were used.
    pub async fn revalidate(
        &mut self,
        conn: &mut AsyncPgConnection,
        read: impl Fn(&str) -> TopicAddress<'_>,
    ) -> QueryResult<()> {
        let stale: Vec<Box<str>> = self.stale.iter().take(REVALIDATED_AT_ONCE).cloned().collect();
        for text in &stale {
            self.stale.remove(text);
        }
        let texts: Vec<&str> = stale.iter().map(|text| &**text).collect();
        self.ask(conn, &texts, read).await
    }

    async fn ask<'a>(
        &mut self,
        conn: &mut AsyncPgConnection,
        texts: &[&'a str],
        read: impl Fn(&'a str) -> TopicAddress<'a>,
    ) -> QueryResult<()> {
        if texts.is_empty() {
            return Ok(());
        }
        // Before the question: a change during it makes the answer stale, not fresh.
        let version = self.version.0.load(Ordering::Acquire);
        let asked_at = Instant::now();
        let mut names = Names::default();
        for text in texts {
            names.push(read(text));
        }
        let mut answers = vec![Resolved::NoHome; texts.len()];
        for row in store::resolve(conn, &names).await? {
            let position = usize::try_from(row.position - 1).expect("positions start at 1");
            answers[position] = match row.device {
                Some(device) => Resolved::Device(ResolvedDevice {
                    home: row.home,
                    device,
                    online: row.online,
                    quiet_since: row.quiet_since,
                }),
                None => Resolved::NoDevice(row.home),
            };
        }
        for (text, resolved) in texts.iter().zip(answers) {
            self.entries.insert((*text).into(), Entry { resolved, asked_at, version });
        }
        Ok(())
    }

    /// Forgets what stood for these devices: they turned out to be no more.
    pub fn evict(&mut self, gone: &HashSet<DeviceId>) {
        self.entries
            .retain(|_, entry| !matches!(&entry.resolved, Resolved::Device(known) if gone.contains(&known.device)));
    }

    /// The answer for a text that was just refreshed.
    pub fn get(&self, text: &str) -> Resolved {
        self.entries.get(text).map_or(Resolved::NoHome, |entry| entry.resolved)
    }

    /// Every device that stands as online in the database.
    pub async fn online(conn: &mut AsyncPgConnection) -> QueryResult<Vec<ResolvedDevice>> {
        let rows = store::online(conn).await?;
        let known =
            |row: store::Online| ResolvedDevice { home: row.home, device: row.device, online: true, quiet_since: None };
        Ok(rows.into_iter().map(known).collect())
    }
}

impl Names {
    fn push(&mut self, name: TopicAddress<'_>) {
        self.home_ids.push(name.home.ok().map(HomeId::get));
        self.home_keys.push(name.home.err().map(str::to_owned));
        let (mut id, mut mac, mut key) = (None, None, None);
        match name.device {
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
