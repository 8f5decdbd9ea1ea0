//! Lists of devices, and the queries `device` and `devices`.

use async_graphql::parser::types::Field;
use async_graphql::{Context, ID, InputObject, Object};

use super::context::ContextExt;
use super::devices::{Device, PAGE};
use super::error::Result;
use super::inputs::IntInput;
use super::loaders::{DevicePage, DevicePageColumns, ListedDevice};
use super::paging::{self, Page, PageArguments, PageRequest};
use super::rows::Direct;
use super::scalars::{DeviceType, parse_id};
use super::selected_fields::all_fields;
use super::telemetry;
use crate::devices;
use crate::error::Error;
use crate::homes::Permission;
use crate::ids::{HomeId, RoomId, UserId};
use crate::validation;

/// A filter for devices. A device must match all given fields.
#[derive(InputObject, Default)]
pub(super) struct DeviceFilter {
    /// The device is in this room.
    room_id: Option<ID>,
    /// The device has this type.
    #[graphql(name = "type")]
    kind: Option<DeviceType>,
    /// The device is online or offline.
    online: Option<bool>,
    /// The name, key or MAC address of the device contains this text. Case is ignored.
    search: Option<String>,
}

impl DeviceFilter {
    fn parse(self) -> Result<devices::DeviceFilter> {
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
            kind: self.kind.map(devices::DeviceType::from),
            online: self.online,
            search,
        })
    }
}

/// A page of the devices of a home that the viewer may see.
pub(super) async fn page(
    ctx: &Context<'_>,
    viewer: UserId,
    home: HomeId,
    filter: Option<DeviceFilter>,
    arguments: PageArguments,
) -> Result<Direct<Page<Device>>> {
    let page = PageRequest::parse("device", &arguments, PAGE)?;
    let filter = filter.unwrap_or_default().parse()?;
    let columns = columns(&ctx.item.node);
    let group = DevicePage { viewer, filter, after: page.after, limit: page.limit(), columns };
    let rows = ctx.loaders().device_pages.get(ctx.batch_scope(), group, home);
    let devices = paging::load_page(ctx, page.size, rows).await?;
    Ok(Direct(page.page(devices, |ListedDevice { device, latest }| {
        let id = device.id.get();
        match latest {
            Some(latest) => (id, Device::with_latest(device, latest)),
            None => (id, Device::new(device)),
        }
    })))
}

/// What the selection below a page needs of its devices.
fn columns(page: &Field) -> DevicePageColumns {
    let mut columns = DevicePageColumns { states: false, reported: false, latest: false, health: false };
    let is_known = all_fields(&page.selection_set, |field| match field.name.node.as_str() {
        "nodes" => all_fields(&field.selection_set, |field| columns.add(field)),
        "edges" => all_fields(&field.selection_set, |edge| {
            edge.name.node != "node" || all_fields(&edge.selection_set, |field| columns.add(field))
        }),
        _ => true,
    });
    let all = DevicePageColumns { states: true, reported: true, latest: false, health: false };
    if is_known { columns } else { all }
}

impl DevicePageColumns {
    fn add(&mut self, field: &Field) -> bool {
        match field.name.node.as_str() {
            "latestTelemetry" => {
                self.latest = true;
                self.health |= telemetry::reads_health(field);
            }
            name => {
                self.states |= !WITHOUT_STATE.contains(&name);
                self.reported |= name == "state";
            }
        }
        true
    }
}

/// Fields of a device that do not read its state.
const WITHOUT_STATE: [&str; 8] = ["__typename", "id", "key", "name", "macAddress", "type", "createdAt", "telemetry"];

#[derive(Default)]
pub(super) struct DeviceQuery;

#[Object]
impl DeviceQuery {
    /// A device in one of your homes. Fails with NOT_FOUND for any other device.
    async fn device(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The ID of the device.")] id: ID,
    ) -> Result<Option<Direct<Device>>> {
        ctx.viewer()?;
        Ok(Some(Direct(Device::load(ctx, parse_id(&id, "device")?).await?)))
    }

    /// The devices of a home, in order of registration.
    async fn devices(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The ID of the home.")] home_id: ID,
        #[graphql(desc = "Lists only devices that match the filter.")] filter: Option<DeviceFilter>,
        #[graphql(desc = "The page size, from 0 to 500.", default_with = "Some(IntInput::default_of(50))")]
        first: Option<IntInput>,
        #[graphql(desc = "The cursor of the last item of the previous page.")] after: Option<String>,
    ) -> Result<Option<Direct<Page<Device>>>> {
        let (viewer, home) = (ctx.viewer()?, parse_id(&home_id, "home")?);
        let page = page(ctx, viewer.user, home, filter, PageArguments { first, after }).await?;
        match page.0.edges.first() {
            Some(edge) => drop(edge.node.device.allow(Permission::Read)?),
            // An empty page does not show whether the viewer has access to the home.
            None => drop(ctx.services().homes.access(viewer, home, Permission::Read).await?),
        }
        Ok(Some(page))
    }
}
