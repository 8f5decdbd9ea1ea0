//! Since when each device of a page has sent a reading, as far as this server has seen. A page that is read again needs no
//! reading from before, so the months before are not opened: to open one costs as much as to look up three devices.
//!
//! Only a bound on where the database looks: a device without a reading since then is looked up in all months. A bound that
//! is wrong, after readings were removed or devices were registered, costs that statement.

use chrono::{DateTime, Utc};

use super::DeviceWithLatest;
use super::recent_bounds::RecentBounds;
use crate::devices::DevicePage;
use crate::ids::{DeviceId, HomeId, UserId};

/// Pages by viewer, because an integration may see few of a home's devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct PageOfHome {
    viewer: UserId,
    home: HomeId,
    after: Option<DeviceId>,
    limit: i64,
}

/// See the module. Clones share one memory.
#[derive(Clone, Default)]
pub(super) struct RecentPages(RecentBounds<PageOfHome>);

impl RecentPages {
    /// Since when all devices of the page have sent a reading, if that is known of each home.
    pub(super) fn since(&self, viewer: UserId, page: &DevicePage<'_>) -> Option<DateTime<Utc>> {
        if page.filter.is_filtered() {
            return None;
        }
        page.homes.iter().map(|home| self.0.get(&page_of_home(viewer, *home, page))).min()?
    }

    /// Remembers the page as it was read, by home.
    pub(super) fn note(&self, viewer: UserId, page: &DevicePage<'_>, devices: &[DeviceWithLatest]) {
        if page.filter.is_filtered() {
            return;
        }
        for of_home in devices.chunk_by(|(a, _), (b, _)| a.home == b.home) {
            let key = page_of_home(viewer, of_home[0].0.home, page);
            let latest = of_home.iter().map(|(_, latest)| latest.as_ref().map(|reading| reading.recorded_at));
            self.0.set(key, latest.min().flatten());
        }
    }
}

fn page_of_home(viewer: UserId, home: HomeId, page: &DevicePage<'_>) -> PageOfHome {
    PageOfHome { viewer, home, after: page.after, limit: page.limit }
}
