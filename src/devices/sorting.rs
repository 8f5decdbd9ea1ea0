//! Devices of a home in another order than that of their registration.

use chrono::{DateTime, Utc};

use super::{DeviceFilter, Devices, sorting_store as store};
use crate::error::Error;
use crate::ids::{DeviceId, HomeId, UserId};
use crate::text_enum::text_enum;

text_enum! {
    /// What devices are sorted by. Those that are equal in it come in the order of their registration.
    pub enum SortedBy {
        /// Of the registration.
        CreatedAt = "CREATED_AT",
        /// Regardless of case.
        Name = "NAME",
        /// Devices that were never seen come before all others.
        LastSeenAt = "LAST_SEEN_AT",
    }
}

/// An order of devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceOrder {
    pub by: SortedBy,
    pub descending: bool,
}

impl DeviceOrder {
    /// That of a page of [`Devices::page`].
    pub const REGISTRATION: Self = Self { by: SortedBy::CreatedAt, descending: false };
    /// Devices that were registered last come first.
    pub const NEWEST: Self = Self { by: SortedBy::CreatedAt, descending: true };
}

/// A device's place in an order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SortedDevice {
    pub id: DeviceId,
    /// Its name in lower case; empty in other orders than by name.
    pub name: String,
    /// When it was last seen; `None` too in other orders.
    pub seen: Option<DateTime<Utc>>,
}

/// A page of the sorted devices of each of some homes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SortedPage {
    pub filter: DeviceFilter,
    pub order: DeviceOrder,
    /// The page begins behind this place.
    pub after: Option<SortedDevice>,
    /// Devices of each home.
    pub limit: i64,
}

impl Devices {
    /// A page of the devices of each home that `viewer` sees: their places in the order, home by home.
    pub async fn sorted(
        &self,
        viewer: UserId,
        page: &SortedPage,
        homes: &[HomeId],
    ) -> Result<Vec<(HomeId, SortedDevice)>, Error> {
        let mut conn = self.pool.get().await?;
        Ok(store::sorted(&mut conn, viewer, page, homes).await?)
    }
}
