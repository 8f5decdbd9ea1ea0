//! Names in topics to devices: a bounded cache in front of one statement a batch.
//!
//! What this server changes is seen at once, what another one changes within [`MAX_AGE`].

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use diesel::QueryResult;
use diesel_async::AsyncPgConnection;

use super::directory_store::{self as store, Names};
use super::{Mac, RegistryListener};
use crate::ids::{DeviceId, HomeId};

/// Age at which an answer is asked for anew.
const MAX_AGE: Duration = Duration::from_secs(5);
/// Names remembered, known and unknown ones together.
const MAX_ENTRIES: usize = 65_536;

/// What a name in a topic stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolved {
    /// A device of that home.
    Device(Known),
    /// The home exists, the device is not one of its own.
    NoDevice(HomeId),
    /// There is no such home.
    NoHome,
}

/// A registered device as ingest needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Its home.
    pub home: HomeId,
    /// Its id.
    pub device: DeviceId,
    /// Whether it stood as online when it was looked up.
    pub online: bool,
}

/// How a topic names a home and a device in it, each by one of its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name<'a> {
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
        Self { entries: HashMap::new(), version }
    }

    /// Makes sure that each of these texts (`home/device`) has a fresh answer; `read` tells what a
    /// text names.
    pub async fn refresh<'a>(
        &mut self,
        conn: &mut AsyncPgConnection,
        texts: impl Iterator<Item = &'a str>,
        read: impl Fn(&'a str) -> Name<'a>,
    ) -> QueryResult<()> {
        // Before the question: a change during it makes the answer stale, not fresh.
        let version = self.version.0.load(Ordering::Acquire);
        let asked_at = Instant::now();
        let mut asked: Vec<&str> = Vec::new();
        let mut names = Names::default();
        for text in texts {
            let is_fresh = self
                .entries
                .get(text)
                .is_some_and(|entry| entry.version == version && asked_at.duration_since(entry.asked_at) < MAX_AGE);
            if is_fresh {
                continue;
            }
            if self.entries.len() >= MAX_ENTRIES {
                self.entries.clear();
            }
            self.entries.insert(text.into(), Entry { resolved: Resolved::NoHome, asked_at, version });
            names.push(read(text));
            asked.push(text);
        }
        if asked.is_empty() {
            return Ok(());
        }
        let found = match store::resolve(conn, &names).await {
            Ok(found) => found,
            Err(error) => {
                for text in asked {
                    self.entries.remove(text);
                }
                return Err(error);
            }
        };
        for row in found {
            let position = usize::try_from(row.position - 1).expect("positions start at 1");
            let resolved = match row.device {
                Some(device) => Resolved::Device(Known { home: row.home, device, online: row.online }),
                None => Resolved::NoDevice(row.home),
            };
            self.entries.insert(asked[position].into(), Entry { resolved, asked_at, version });
        }
        Ok(())
    }

    /// The answer for a text that was just refreshed.
    pub fn get(&self, text: &str) -> Resolved {
        self.entries.get(text).map_or(Resolved::NoHome, |entry| entry.resolved)
    }

    /// Every device that stands as online in the database.
    pub async fn online(conn: &mut AsyncPgConnection) -> QueryResult<Vec<Known>> {
        let rows = store::online(conn).await?;
        Ok(rows.into_iter().map(|row| Known { home: row.home, device: row.device, online: true }).collect())
    }
}

impl Names {
    fn push(&mut self, name: Name<'_>) {
        self.home_ids.push(name.home.ok().map(HomeId::get));
        self.home_keys.push(name.home.err().map(str::to_owned));
        let (mut id, mut mac, mut key) = (None, None, None);
        match name.device {
            Some(DeviceName::Id(device)) => id = Some(device.get()),
            Some(DeviceName::Mac(address)) => mac = Some(address.as_str().to_owned()),
            Some(DeviceName::Key(text)) => key = Some(text.to_owned()),
            None => {}
        }
        self.device_ids.push(id);
        self.device_macs.push(mac);
        self.device_keys.push(key);
    }
}
