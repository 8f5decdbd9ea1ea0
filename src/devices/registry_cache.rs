//! What the registry says of the devices that have subscribers: their names, homes and rooms in memory. An event's
//! device costs no statement.
//!
//! The first event of a device loads it together with the devices that follow it in its home. A change on this server
//! removes an entry at once, and a statement that began before the change stores nothing. A change on another server is
//! found within [`REFRESH_EVERY`]: one statement compares the versions of all entries in use.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::RegistryListener;
use super::device::{Device, Place};
use super::registry_cache_store as store;
use super::store::{Registration, registered};
use crate::db::{Pool, spawn_and_join};
use crate::error::Error;
use crate::homes::{Access, Home, HomeRow, Room};
use crate::ids::{DeviceId, HomeId};

/// How often the entries are compared with the database.
pub(super) const REFRESH_EVERY: Duration = Duration::from_secs(3);
/// Refreshes after which an entry that nobody reads is removed: five minutes.
const KEPT_REFRESHES: u8 = 100;
/// Devices loaded in one statement.
const LOADED_AT_ONCE: i64 = 500;
/// Devices compared in one statement.
const COMPARED_AT_ONCE: usize = 5_000;
/// Devices in the cache. Above it, the cache starts again.
const MAX_ENTRIES: usize = 50_000;

/// What the registry says of a device, its home and its room: the same for every viewer.
#[derive(Debug, Clone, PartialEq)]
pub struct RegistryEntry {
    pub(super) registration: Registration,
    /// Home and device as the device last spelt them in a topic.
    pub(super) segments: (Option<String>, Option<String>),
    pub(super) home: HomeRow,
    pub(super) room: Option<Arc<Room>>,
    /// Differs after each change.
    pub(super) version: Box<str>,
}

impl RegistryEntry {
    /// The device as the member with this access sees it. Its state is not known.
    pub fn device(&self, access: Access) -> Device {
        registered(self.registration.clone(), self.segments.clone(), access.membership())
    }

    /// The home and the room of the device as the member with this access sees them.
    pub fn place(&self, access: Access) -> Place {
        Place { home: Arc::new(Home::seen_by(self.home.clone(), access)), room: self.room.clone() }
    }
}

/// The entries. Cheap to clone; all clones are one cache.
#[derive(Clone, Default)]
pub struct RegistryCache(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    homes: HashMap<HomeId, HomeEntries>,
    n_entries: usize,
    /// The last version given to a home.
    version: u64,
}

#[derive(Default)]
struct HomeEntries {
    /// Another one after each change of the home.
    version: u64,
    /// Held while entries of this home are loaded, so that all who need them wait for one statement.
    loading: Arc<tokio::sync::Mutex<()>>,
    entries: HashMap<DeviceId, CachedEntry>,
}

struct CachedEntry {
    entry: Arc<RegistryEntry>,
    /// Refreshes since it was last read.
    age: AtomicU8,
}

impl State {
    fn get(&self, home: HomeId, device: DeviceId) -> Option<Arc<RegistryEntry>> {
        let cached = self.homes.get(&home)?.entries.get(&device)?;
        cached.age.store(0, Ordering::Relaxed);
        Some(cached.entry.clone())
    }

    fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    /// The version of a home and the lock under which it is loaded.
    fn begin(&mut self, home: HomeId) -> (u64, Arc<tokio::sync::Mutex<()>>) {
        let version = self.next_version();
        let entries = self.homes.entry(home).or_insert_with(|| HomeEntries { version, ..HomeEntries::default() });
        (entries.version, entries.loading.clone())
    }

    /// Stores what was loaded at `version` of the home, unless it has changed meanwhile.
    fn insert(&mut self, home: HomeId, version: u64, loaded: &[Arc<RegistryEntry>]) {
        if self.n_entries + loaded.len() > MAX_ENTRIES {
            (self.homes, self.n_entries) = (HashMap::new(), 0);
            return;
        }
        let Some(home) = self.homes.get_mut(&home).filter(|home| home.version == version) else { return };
        for entry in loaded {
            let cached = CachedEntry { entry: entry.clone(), age: AtomicU8::new(0) };
            let is_new = home.entries.insert(entry.registration.id, cached).is_none();
            self.n_entries += usize::from(is_new);
        }
    }

    /// Removes one entry of a home, or all.
    fn remove(&mut self, home: HomeId, device: Option<DeviceId>) {
        let version = self.next_version();
        let Some(home) = self.homes.get_mut(&home) else { return };
        home.version = version;
        let n_before = home.entries.len();
        match device {
            Some(device) => drop(home.entries.remove(&device)),
            None => home.entries.clear(),
        }
        self.n_entries -= n_before - home.entries.len();
    }

    /// Removes what nobody reads any more, and returns the rest.
    fn keep_used(&mut self) -> Vec<(DeviceId, Arc<RegistryEntry>)> {
        let mut used = Vec::new();
        for home in self.homes.values_mut() {
            home.entries.retain(|_, cached| cached.age.fetch_add(1, Ordering::Relaxed) < KEPT_REFRESHES);
            used.extend(home.entries.iter().map(|(id, cached)| (*id, cached.entry.clone())));
        }
        // A home that is being loaded keeps its version.
        self.homes.retain(|_, home| !home.entries.is_empty() || Arc::strong_count(&home.loading) > 1);
        self.n_entries = used.len();
        used
    }
}

impl RegistryCache {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("registry cache lock")
    }

    /// What the registry says of a device of the home; `None` where the home has no such device. It says nothing of
    /// any viewer's rights.
    pub(super) async fn find(
        &self,
        pool: &Pool,
        home: HomeId,
        device: DeviceId,
    ) -> Result<Option<Arc<RegistryEntry>>, Error> {
        if let Some(entry) = self.lock().get(home, device) {
            return Ok(Some(entry));
        }
        let (cache, pool) = (self.clone(), pool.clone());
        spawn_and_join(async move { cache.load(&pool, home, device).await }).await
    }

    async fn load(&self, pool: &Pool, home: HomeId, device: DeviceId) -> Result<Option<Arc<RegistryEntry>>, Error> {
        let (_, loading) = self.lock().begin(home);
        let _loading = loading.lock().await;
        let version = {
            let mut state = self.lock();
            if let Some(entry) = state.get(home, device) {
                return Ok(Some(entry));
            }
            state.begin(home).0
        };
        let mut conn = pool.get().await?;
        let loaded = store::find(&mut conn, home, device, LOADED_AT_ONCE).await?;
        let loaded: Vec<_> = loaded.into_iter().map(Arc::new).collect();
        self.lock().insert(home, version, &loaded);
        Ok(loaded.into_iter().next().filter(|entry| entry.registration.id == device))
    }

    /// Removes the entries that another server has changed, and those that nobody reads.
    pub(super) async fn refresh(&self, pool: &Pool) -> Result<(), Error> {
        let used = self.lock().keep_used();
        for page in used.chunks(COMPARED_AT_ONCE) {
            let mut conn = pool.get().await?;
            let changed = store::find_changed(&mut conn, page).await?;
            let mut state = self.lock();
            for (id, entry) in page.iter().filter(|(id, _)| changed.contains(id)) {
                state.remove(entry.registration.home, Some(*id));
            }
        }
        Ok(())
    }

    /// The number of devices in the cache.
    pub fn len(&self) -> usize {
        self.lock().n_entries
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl RegistryListener for RegistryCache {
    fn device_changed(&self, home: HomeId, device: DeviceId) {
        self.lock().remove(home, Some(device));
    }

    fn home_changed(&self, home: HomeId) {
        self.lock().remove(home, None);
    }

    fn rooms_changed(&self, home: HomeId) {
        self.lock().remove(home, None);
    }
}
