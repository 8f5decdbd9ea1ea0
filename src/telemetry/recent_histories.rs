//! Since when the first page of a device's history was full, as far as this server has seen. Later readings only make it
//! fuller, so it needs none from before, and the months before are not opened: each costs the statement some 4 us.
//!
//! Only a bound on where the database looks: a page that is not full with it is read again without it. So a bound that is
//! wrong, after readings were removed, costs one statement.

use super::Reading;
use super::history_page::HistoryPage;
use super::recent_bounds::RecentBounds;
use crate::ids::DeviceId;

/// A device, and the length of the page.
type FirstPage = (DeviceId, i64);

/// See the module. Clones share one memory.
#[derive(Clone, Default)]
pub(super) struct RecentHistories(RecentBounds<FirstPage>);

impl RecentHistories {
    /// The page with a bound, if one is known.
    pub(super) fn bounded(&self, device: DeviceId, page: &HistoryPage) -> Option<HistoryPage> {
        if !is_first(page) {
            return None;
        }
        let from = self.0.get(&(device, page.limit))?;
        Some(HistoryPage { from: Some(from), ..*page })
    }

    /// Remembers the page as it was read, from the newest reading to the oldest.
    pub(super) fn note(&self, device: DeviceId, page: &HistoryPage, readings: &[impl AsRef<Reading>]) {
        if !is_first(page) {
            return;
        }
        let oldest = readings.last().filter(|_| is_full(page, readings));
        self.0.set((device, page.limit), oldest.map(|reading| reading.as_ref().recorded_at));
    }
}

/// Whether the page begins with the newest reading and has no bound of its own.
fn is_first(page: &HistoryPage) -> bool {
    page.from.is_none() && page.to.is_none() && page.after.is_none()
}

/// Whether the page has as many readings as it may.
pub(super) fn is_full<T>(page: &HistoryPage, readings: &[T]) -> bool {
    i64::try_from(readings.len()).is_ok_and(|n| n >= page.limit)
}
