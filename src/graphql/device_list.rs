//! Lists of devices, and the queries `device` and `devices`.

use std::sync::Arc;

use async_graphql::parser::types::Field;
use async_graphql::{Context, ID, Object};

use super::context::ContextExt;
use super::device_filter::{DeviceFilter, DeviceOrder};
use super::devices::{Device, PAGE, WITHOUT_STATE};
use super::error::Result;
use super::inputs::IntInput;
use super::loaders::{DevicePage, DevicePageColumns, ListedDevice};
use super::paging::{self, Cursor, Page, PageArguments, PageRequest};
use super::rows::Direct;
use super::scalars::{MacAddress, parse_id};
use super::selected_fields::all_fields;
use super::{sorted_device_list, telemetry};
use crate::auth::Principal;
use crate::devices::{self, AllDevicesPage, DeviceRef};
use crate::error::Error;
use crate::homes::Permission;
use crate::ids::{HomeId, UserId};
use crate::validation;

/// A page of the devices of a home that the viewer may see.
pub(super) async fn page(
    ctx: &Context<'_>,
    viewer: UserId,
    home: HomeId,
    filter: Option<DeviceFilter>,
    order: Option<DeviceOrder>,
    arguments: PageArguments,
) -> Result<Direct<Page<Device>>> {
    if let Some(order) =
        order.map(devices::DeviceOrder::from).filter(|order| *order != devices::DeviceOrder::REGISTRATION)
    {
        return sorted_device_list::page(ctx, viewer, home, filter, order, arguments).await;
    }
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

/// A page of the devices of all homes of the viewer, home by home. Each member may read the devices of their homes; an
/// integration has one home only.
async fn page_of_all(
    ctx: &Context<'_>,
    filter: Option<DeviceFilter>,
    arguments: PageArguments,
) -> Result<Direct<Page<Device>>> {
    const LIST: &str = "devices";
    let viewer = ctx.person()?.user;
    let size = paging::size(arguments.first, PAGE)?;
    let after = paging::parse_text_cursor(LIST, arguments.after.as_deref(), |position| {
        let (home, device) = position.split_once('.')?;
        Some((home.parse().ok()?, device.parse().ok()?))
    })?;
    let has_previous = after.is_some();
    let filter = filter.unwrap_or_default().parse()?;
    let with_reported = columns(&ctx.item.node).reported;
    let group = AllDevicesPage { filter, after, limit: paging::limit(size), with_reported };
    let rows = ctx.loaders().all_devices.get(ctx.batch_scope(), group, viewer);
    let devices = paging::load_page(ctx, size, rows).await?;
    Ok(Direct(paging::page(devices, size, has_previous, |device| {
        let position = format!("{}.{}", device.home, device.id);
        (Cursor::Text { list: LIST, position }, Device::new(device))
    })))
}

/// What the selection below a page needs of its devices.
pub(super) fn columns(page: &Field) -> DevicePageColumns {
    let mut columns =
        DevicePageColumns { states: false, reported: false, registration: false, latest: false, health: false };
    let is_known = all_fields(&page.selection_set, |field| match field.name.node.as_str() {
        "nodes" => all_fields(&field.selection_set, |field| columns.add(field)),
        "edges" => all_fields(&field.selection_set, |edge| {
            edge.name.node != "node" || all_fields(&edge.selection_set, |field| columns.add(field))
        }),
        _ => true,
    });
    let all = DevicePageColumns { states: true, reported: true, registration: true, latest: false, health: false };
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
                self.registration |= !NAMES.contains(&name);
            }
        }
        true
    }
}

/// Fields of a device that read its ids and names only.
const NAMES: [&str; 5] = ["__typename", "id", "key", "name", "telemetry"];

async fn named(
    ctx: &Context<'_>,
    viewer: &Principal,
    home: HomeId,
    name: DeviceRef,
) -> Result<Option<Arc<devices::Device>>> {
    ctx.loaders().named_devices.get(ctx.batch_scope(), viewer.user, (home, name)).await
}

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
        Ok(Some(Direct(Device::load_with_history(ctx, parse_id(&id, "device")?).await?)))
    }

    /// The device with this key in one of your homes. Fails with NOT_FOUND if there is none.
    async fn device_by_key(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The ID of the home.")] home_id: ID,
        #[graphql(desc = "The key of the device. Case matters.")] key: String,
    ) -> Result<Option<Direct<Device>>> {
        // A home that is none reads like one without the device.
        let (viewer, home) = (ctx.viewer()?, parse_id(&home_id, "device")?);
        // So does a text that no device can have as its key, and PostgreSQL takes no NUL.
        let key = validation::key("key", &key).map_err(|_| Error::NotFound("device"))?;
        let device = named(ctx, viewer, home, DeviceRef::Key(key)).await?;
        Ok(Some(Direct(Device::new(device.ok_or(Error::NotFound("device"))?))))
    }

    /// The device with this MAC address in one of your homes. Fails with NOT_FOUND if there is none.
    async fn device_by_mac_address(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The ID of the home.")] home_id: ID,
        #[graphql(desc = "The MAC address of the device.")] mac_address: MacAddress,
    ) -> Result<Option<Direct<Device>>> {
        let (viewer, home) = (ctx.viewer()?, parse_id(&home_id, "home")?);
        let Some(device) = named(ctx, viewer, home, DeviceRef::Mac(mac_address.0)).await? else {
            // Who may not read MAC addresses does not learn whether a device has this one.
            ctx.services().homes.access(viewer, home, Permission::Read).await?;
            return Err(Error::NotFound("device").into());
        };
        device.allow(Permission::Read)?;
        Ok(Some(Direct(Device::new(device))))
    }

    /// The devices of a home, in order of registration or of `orderBy`. Without `homeId` the devices of all your homes, home by
    /// home, which integrations cannot list.
    async fn devices(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The ID of the home. If absent or null, all your homes.")] home_id: Option<ID>,
        #[graphql(desc = "Lists only devices that match the filter.")] filter: Option<DeviceFilter>,
        #[graphql(
            desc = "The order of the list. It needs `homeId`. By default devices come in order of registration."
        )]
        order_by: Option<DeviceOrder>,
        #[graphql(desc = "The page size, from 0 to 500.", default_with = "Some(IntInput::default_of(50))")]
        first: Option<IntInput>,
        #[graphql(desc = "The cursor of the last item of the previous page.")] after: Option<String>,
    ) -> Result<Option<Direct<Page<Device>>>> {
        let (viewer, arguments) = (ctx.viewer()?, PageArguments { first, after });
        let Some(home_id) = home_id else {
            if order_by.is_some() {
                return Err(
                    Error::bad_input("orderBy", "orderBy needs homeId: only a home's devices are sorted").into()
                );
            }
            return Ok(Some(page_of_all(ctx, filter, arguments).await?));
        };
        let home = parse_id(&home_id, "home")?;
        let page = page(ctx, viewer.user, home, filter, order_by, arguments).await?;
        match page.0.edges.first() {
            Some(edge) => drop(edge.node.device.allow(Permission::Read)?),
            // An empty page does not show whether the viewer has access to the home.
            None => drop(ctx.services().homes.access(viewer, home, Permission::Read).await?),
        }
        Ok(Some(page))
    }
}
