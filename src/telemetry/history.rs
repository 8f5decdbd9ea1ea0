//! Stored readings of devices: the latest one, and pages of the past. One statement reads many devices; the caller
//! proves that each may be read.

use super::{Reading, read_store as store};
use crate::db::{MemoryBudget, Pool};
use crate::devices::DeviceAccess;
use crate::error::Error;
use crate::ids::DeviceId;

pub use super::history_page::{CursorError, HistoryCursor, HistoryPage};

/// Reads stored readings. Cheap to clone.
#[derive(Clone)]
pub struct Readings {
    pool: Pool,
}

impl Readings {
    pub fn new(pool: Pool) -> Self {
        Self { pool }
    }

    /// The newest reading of each device that has one.
    pub async fn latest(&self, devices: &[DeviceAccess], budget: &MemoryBudget) -> Result<Vec<Reading>, Error> {
        let ids: Vec<_> = devices.iter().map(DeviceAccess::device).collect();
        let mut conn = self.pool.get().await?;
        store::latest(&mut conn, &ids, budget).await
    }

    /// A page of the history of each device, newest first.
    pub async fn history(
        &self,
        devices: &[DeviceAccess],
        page: &HistoryPage,
        budget: &MemoryBudget,
    ) -> Result<Vec<Reading>, Error> {
        let ids: Vec<DeviceId> = devices.iter().map(DeviceAccess::device).collect();
        let mut conn = self.pool.get().await?;
        store::history(&mut conn, &ids, page, budget).await
    }
}
