//! Since when each device of a page has sent a reading, as far as this server has seen. A page that is read again needs no
//! reading from before, so the months before are not opened: to open one costs as much as to look up three devices.
//!
//! Only a bound on where the database looks: a device without a reading since then is looked up in all months. A bound that
//! is wrong, after readings were removed or devices were registered, costs that statement.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard};

use chrono::{DateTime, Utc};
use lru::LruCache;

use super::DeviceWithLatest;
use crate::devices::DevicePage;
use crate::ids::{DeviceId, HomeId, UserId};

/// Remembered pages: some 2 MB.
const MAX_PAGES: NonZeroUsize = NonZeroUsize::new(20_000).expect("not zero");

/// Pages by viewer, because an integration may see few of a home's devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct PageOfHome {
    viewer: UserId,
    home: HomeId,
    after: Option<DeviceId>,
    limit: i64,
}

/// See the module. Clones share one memory.
#[derive(Clone)]
pub(super) struct RecentPages(Arc<Mutex<LruCache<PageOfHome, DateTime<Utc>>>>);

impl Default for RecentPages {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(LruCache::new(MAX_PAGES))))
    }
}

impl RecentPages {
    /// Since when all devices of the page have sent a reading, if that is known of each home.
    pub(super) fn since(&self, viewer: UserId, page: &DevicePage<'_>) -> Option<DateTime<Utc>> {
        if page.filter.is_filtered() {
            return None;
        }
        let mut pages = self.lock();
        page.homes.iter().map(|home| pages.get(&page_of_home(viewer, *home, page)).copied()).min()?
    }

    /// Remembers the page as it was read, by home.
    pub(super) fn note(&self, viewer: UserId, page: &DevicePage<'_>, devices: &[DeviceWithLatest]) {
        if page.filter.is_filtered() {
            return;
        }
        let mut pages = self.lock();
        for of_home in devices.chunk_by(|(a, _), (b, _)| a.home == b.home) {
            let key = page_of_home(viewer, of_home[0].0.home, page);
            let latest = of_home.iter().map(|(_, latest)| latest.as_ref().map(|reading| reading.recorded_at));
            match latest.min().flatten() {
                Some(oldest) => drop(pages.put(key, oldest)),
                None => drop(pages.pop(&key)),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<PageOfHome, DateTime<Utc>>> {
        self.0.lock().expect("recent pages lock")
    }
}

fn page_of_home(viewer: UserId, home: HomeId, page: &DevicePage<'_>) -> PageOfHome {
    PageOfHome { viewer, home, after: page.after, limit: page.limit }
}
