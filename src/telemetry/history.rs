//! Stored readings of devices: the latest one, and pages of the past. One statement reads many devices; the caller
//! proves that each may be read. Of a page that is read together with its device, the proof is made from that device.

use std::sync::Arc;

use super::device_history_store::device_with_history;
use super::recent_histories::{RecentHistories, is_full};
use super::recent_pages::RecentPages;
use super::{DeviceWithLatest, Reading, SharedReading, history_store, page_store, read_store as store};
use crate::db::{MemoryBudget, Pool};
use crate::devices::{Device, DeviceAccess, DevicePage};
use crate::error::Error;
use crate::ids::{DeviceId, UserId};

pub use super::history_page::{CursorError, FetchedPage, HistoryCursor, HistoryPage};
pub use super::page_store::LatestColumns;

/// A device without its state, and a page of its readings.
pub type DeviceWithHistory = (Arc<Device>, Arc<FetchedPage>);

/// Reads stored readings. Cheap to clone.
#[derive(Clone)]
pub struct Readings {
    pool: Pool,
    recent_pages: RecentPages,
    recent_histories: RecentHistories,
}

impl Readings {
    pub fn new(pool: Pool) -> Self {
        Self { pool, recent_pages: RecentPages::default(), recent_histories: RecentHistories::default() }
    }

    /// The newest reading of each device that has one.
    pub async fn latest(&self, devices: &[DeviceAccess], budget: &MemoryBudget) -> Result<Vec<Reading>, Error> {
        let ids: Vec<_> = devices.iter().map(DeviceAccess::device).collect();
        let mut conn = self.pool.get().await?;
        store::latest(&mut conn, &ids, budget).await
    }

    /// A page of the devices of each home that `viewer` sees, by home and id, each with its newest reading. What
    /// `columns` leaves out is empty.
    pub async fn page_with_latest(
        &self,
        viewer: UserId,
        page: &DevicePage<'_>,
        columns: LatestColumns,
        budget: &MemoryBudget,
    ) -> Result<Vec<DeviceWithLatest>, Error> {
        let mut conn = self.pool.get().await?;
        let since = self.recent_pages.since(viewer, page);
        let devices = page_store::page(&mut conn, viewer, page, since, columns, budget).await?;
        self.recent_pages.note(viewer, page, &devices);
        Ok(devices)
    }

    /// A page of the history of each device, newest first.
    pub async fn history(
        &self,
        devices: &[DeviceAccess],
        page: &HistoryPage,
        budget: &MemoryBudget,
    ) -> Result<Vec<SharedReading>, Error> {
        let ids: Vec<DeviceId> = devices.iter().map(DeviceAccess::device).collect();
        let mut conn = self.pool.get().await?;
        history_store::history(&mut conn, &ids, page, budget).await
    }

    /// A device that `viewer` sees, without its state, and a page of its history.
    pub async fn device_with_history(
        &self,
        viewer: UserId,
        device: DeviceId,
        page: &HistoryPage,
        budget: &MemoryBudget,
    ) -> Result<Option<DeviceWithHistory>, Error> {
        let mut conn = self.pool.get().await?;
        if let Some(bounded) = self.recent_histories.bounded(device, page) {
            let found = device_with_history(&mut conn, viewer, device, &bounded, budget).await?;
            if found.as_ref().is_none_or(|(_, readings)| is_full(page, readings)) {
                return Ok(self.note_history(page, found));
            }
        }
        let found = device_with_history(&mut conn, viewer, device, page, budget).await?;
        Ok(self.note_history(page, found))
    }

    /// Remembers the page, unless the viewer does not see the device.
    fn note_history(
        &self,
        page: &HistoryPage,
        found: Option<(Device, Vec<SharedReading>)>,
    ) -> Option<DeviceWithHistory> {
        let (device, readings) = found?;
        self.recent_histories.note(device.id, page, &readings);
        let fetched = FetchedPage { device: device.id, page: *page, readings: readings.into() };
        Some((Arc::new(device), Arc::new(fetched)))
    }
}
