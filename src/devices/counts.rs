//! How many devices homes and rooms have. A viewer counts the devices that they see.

use std::collections::HashMap;

use super::{Devices, counts_store as store};
use crate::error::Error;
use crate::homes::{Access, Permission};
use crate::ids::{HomeId, RoomId, UserId};

/// Which devices are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Counted {
    All,
    Online,
}

impl Devices {
    /// The number of devices in each home. Needs [`Permission::Read`].
    pub async fn counts_of_homes(
        &self,
        viewer: UserId,
        homes: &[Access],
        counted: Counted,
    ) -> Result<HashMap<HomeId, i64>, Error> {
        let homes = homes.iter().map(|access| Ok(access.require(Permission::Read)?.home()));
        let homes = homes.collect::<Result<Vec<_>, Error>>()?;
        let mut conn = self.pool.get().await?;
        Ok(store::of_homes(&mut conn, viewer, &homes, counted).await?)
    }

    /// The number of devices in each of the rooms that belong to the viewer's homes.
    pub async fn counts_of_rooms(
        &self,
        viewer: UserId,
        rooms: &[RoomId],
        counted: Counted,
    ) -> Result<HashMap<RoomId, i64>, Error> {
        let mut conn = self.pool.get().await?;
        Ok(store::of_rooms(&mut conn, viewer, rooms, counted).await?)
    }
}
