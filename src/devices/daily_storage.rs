//! What devices have stored today, as ingest has recorded it.

use std::collections::HashMap;

use super::{DeviceAccess, Devices, daily_storage_store as store};
use crate::error::Error;

impl Devices {
    /// The bytes of readings that were accepted from each of the devices since midnight UTC.
    pub async fn stored_today(&self, devices: Vec<DeviceAccess>) -> Result<HashMap<DeviceAccess, i64>, Error> {
        let (ids, today) = (devices.iter().map(DeviceAccess::device).collect(), self.clock.now().date_naive());
        let mut conn = self.pool.get().await?;
        let bytes = store::find(&mut conn, ids, today).await?;
        let of = |device: DeviceAccess| (device, bytes.get(&device.device()).copied().unwrap_or_default());
        Ok(devices.into_iter().map(of).collect())
    }

    /// Bytes of readings that one device may store in a day; `None` for no limit.
    pub fn daily_storage_limit(&self) -> Option<u64> {
        self.daily_storage
    }
}
