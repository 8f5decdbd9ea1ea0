//! Devices by their names in topics, and the devices of all homes of a viewer.

use super::mac::Mac;
use super::{Device, DeviceFilter, Devices, lookups_store as store};
use crate::db::MemoryBudget;
use crate::error::Error;
use crate::ids::{DeviceId, HomeId, UserId};

/// What names a device within its home.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DeviceRef {
    Key(String),
    Mac(Mac),
}

/// A page of the devices of all homes of a viewer, home by home.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AllDevicesPage {
    pub filter: DeviceFilter,
    /// The page begins behind this device of this home.
    pub after: Option<(HomeId, DeviceId)>,
    /// Devices of the page.
    pub limit: i64,
    /// Whether the states that the devices reported are read.
    pub with_reported: bool,
}

impl Devices {
    /// Those of these devices that `viewer` sees.
    pub async fn by_names(
        &self,
        viewer: UserId,
        names: &[(HomeId, DeviceRef)],
        budget: &MemoryBudget,
    ) -> Result<Vec<Device>, Error> {
        let mut conn = self.pool.get().await?;
        store::by_names(&mut conn, viewer, names, budget).await
    }

    /// A page of the devices of all homes of `viewer`, by home and id.
    pub async fn page_of_all(
        &self,
        viewer: UserId,
        page: &AllDevicesPage,
        budget: &MemoryBudget,
    ) -> Result<Vec<Device>, Error> {
        let mut conn = self.pool.get().await?;
        store::page_of_all(&mut conn, viewer, page, budget).await
    }
}

impl Device {
    /// Whether the name is one of this device within its home.
    pub fn has_name(&self, name: &DeviceRef) -> bool {
        match name {
            DeviceRef::Key(key) => *key == self.key,
            DeviceRef::Mac(mac) => self.mac.as_deref() == Some(&*mac.to_string()),
        }
    }
}
