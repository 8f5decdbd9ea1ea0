//! Which devices a list holds, and in which order.

use async_graphql::{Enum, ID, InputObject};

use super::error::Result;
use super::inputs::InstantInput;
use super::scalars::DeviceType;
use crate::devices;
use crate::error::Error;
use crate::ids::RoomId;
use crate::validation;

/// A filter for devices. A device must match all given fields.
#[derive(InputObject, Default)]
pub(super) struct DeviceFilter {
    /// The device is in this room.
    room_id: Option<ID>,
    /// The device has this type.
    #[graphql(name = "type")]
    kind: Option<DeviceType>,
    /// The device has one of these types. An empty list is no condition.
    types: Option<Vec<DeviceType>>,
    /// The device is online or offline.
    online: Option<bool>,
    /// The last reported battery charge is below this percentage. Devices that never reported one do not match.
    battery_below: Option<i32>,
    /// The device was last seen before this time, or never.
    last_seen_before: Option<InstantInput>,
    /// The name, key or MAC address of the device contains this text. Case is ignored.
    search: Option<String>,
}

/// What devices are sorted by.
#[derive(Enum, Copy, Clone, PartialEq, Eq)]
#[graphql(remote = "devices::SortedBy")]
pub(super) enum DeviceOrderField {
    /// The registration.
    CreatedAt,
    /// The display name. Case is ignored.
    Name,
    /// The time of the last message. Devices that were never seen come before all others.
    LastSeenAt,
}

/// The direction of an order.
#[derive(Enum, Copy, Clone, PartialEq, Eq)]
pub(super) enum OrderDirection {
    /// From the lowest to the highest.
    Asc,
    /// From the highest to the lowest.
    Desc,
}

/// An order of devices. Devices that are equal in it come in order of registration.
#[derive(InputObject, Clone, Copy)]
pub(super) struct DeviceOrder {
    /// What devices are sorted by.
    field: DeviceOrderField,
    /// The direction of the order.
    #[graphql(default_with = "OrderDirection::Asc")]
    direction: OrderDirection,
}

impl From<DeviceOrder> for devices::DeviceOrder {
    fn from(order: DeviceOrder) -> Self {
        Self { by: order.field.into(), descending: order.direction == OrderDirection::Desc }
    }
}

impl DeviceFilter {
    pub(super) fn parse(self) -> Result<devices::DeviceFilter> {
        let kinds = self.kinds();
        let search = self.search.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        if let Some(text) = &search {
            validation::printable("search", text)?;
            if text.chars().count() > validation::MAX_NAME_CHARS {
                let expected = format!("search must have at most {} characters", validation::MAX_NAME_CHARS);
                return Err(Error::bad_input("search", expected).into());
            }
        }
        Ok(devices::DeviceFilter {
            // A malformed id matches no device, like the id of a room that does not exist. Ids start at 1.
            room: self.room_id.map(|id| id.parse().unwrap_or_else(|_| RoomId::from_database(0))),
            kinds,
            online: self.online,
            battery_below: self.battery_below,
            last_seen_before: self.last_seen_before.map(|at| at.read("lastSeenBefore")).transpose()?,
            search,
        })
    }

    /// The types that both `type` and `types` allow; `None` for all.
    fn kinds(&self) -> Option<Vec<devices::DeviceType>> {
        let one = self.kind.map(devices::DeviceType::from);
        let listed = self.types.as_ref().filter(|types| !types.is_empty());
        let mut kinds: Vec<devices::DeviceType> = match (one, listed) {
            (None, None) => return None,
            (Some(kind), None) => vec![kind],
            (one, Some(types)) => {
                let types = types.iter().map(|kind| devices::DeviceType::from(*kind));
                types.filter(|kind| one.is_none_or(|one| one == *kind)).collect()
            }
        };
        kinds.sort_by_key(|kind| kind.as_str());
        kinds.dedup();
        Some(kinds)
    }
}
