//! Devices in the graph.

use std::sync::Arc;

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};
use serde_json::Value;

use super::commands::{self, Command, CommandStatus};
use super::context::ContextExt;
use super::device_config::{self, DeviceConfig};
use super::error::Result;
use super::homes::Home;
use super::loaders::DevicePage;
use super::paging::{self, Page, PageSize};
use super::rooms::Room;
use super::scalars::{DeviceType, Instant, InstantArgument, MacAddress, parse_id};
use super::telemetry::{self, Telemetry};
use crate::devices;
use crate::error::Error;
use crate::homes::Permission;
use crate::ids::{HomeId, RoomId, UserId};
use crate::validation;

/// Devices of a page, unless the client says otherwise.
pub(super) const PAGE: usize = 50;
/// What its cursors are of.
const CURSOR: &str = "device";

/// A registered device and what it last said of itself.
pub(super) struct Device(pub(super) Arc<devices::Device>);

/// The topics of a device. Keys, ids and MAC addresses are accepted in them alike; these are the ones
/// to use.
#[derive(SimpleObject)]
#[graphql(serial)]
pub(super) struct DeviceTopics {
    /// Where it publishes readings.
    telemetry: String,
    /// Where it publishes its status, and its last will.
    status: String,
    /// Where it publishes signs of life.
    heartbeat: String,
    /// Where it answers commands and configurations.
    ack: String,
    /// Where it is sent commands: never retained.
    commands: String,
    /// Where it is sent its configuration: retained.
    config: String,
}

/// A registered device and what it last said of itself.
#[Object(serial)]
impl Device {
    /// The device's id.
    async fn id(&self) -> ID {
        self.0.id.into()
    }

    /// The name in its topics, e.g. `ESP32_001`: unique in its home.
    async fn key(&self) -> &str {
        &self.0.key
    }

    /// What people call it.
    async fn name(&self) -> Result<&str> {
        Ok(&self.read()?.name)
    }

    /// Another name for it in topics, where known.
    async fn mac_address(&self) -> Result<Option<MacAddress>> {
        Ok(self.read()?.mac.as_ref().and_then(|mac| mac.parse().ok()).map(MacAddress))
    }

    /// What sort of thing it is.
    #[graphql(name = "type")]
    async fn kind(&self) -> Result<DeviceType> {
        Ok(self.read()?.kind.into())
    }

    /// The home it belongs to.
    async fn home(&self, ctx: &Context<'_>) -> Result<Home> {
        let viewer = self.0.allow(Permission::Find)?.user();
        let home = ctx.loaders().homes.get(ctx.batch_scope(), viewer, self.0.home).await?;
        Ok(Home(home.ok_or(Error::NotFound("home"))?))
    }

    /// The room it stands in, if any.
    async fn room(&self, ctx: &Context<'_>) -> Result<Option<Room>> {
        let access = self.0.allow(Permission::Read)?;
        let Some(room) = self.0.room else { return Ok(None) };
        Ok(ctx.loaders().rooms.get(ctx.batch_scope(), access.user(), room).await?.map(Room))
    }

    /// Whether it counts as present: it gave a sign of life lately and has not said goodbye.
    async fn online(&self) -> Result<bool> {
        Ok(self.read()?.state.online)
    }

    /// When it last came or went.
    async fn online_changed_at(&self) -> Result<Option<Instant>> {
        Ok(self.read()?.state.online_changed_at.map(Instant))
    }

    /// Its last sign of life, to within 10 seconds.
    async fn last_seen_at(&self) -> Result<Option<Instant>> {
        Ok(self.read()?.state.last_seen_at.map(Instant))
    }

    /// The firmware it last reported.
    async fn firmware_version(&self) -> Result<Option<&str>> {
        Ok(self.read()?.state.firmware_version.as_deref())
    }

    /// Strength of its radio signal in dBm, as last reported.
    async fn signal_strength(&self) -> Result<Option<f64>> {
        Ok(self.read()?.state.signal_strength)
    }

    /// Charge of its battery in percent, as last reported.
    async fn battery_level(&self) -> Result<Option<f64>> {
        Ok(self.read()?.state.battery_level)
    }

    /// What it last said of itself, as it said it: `{"lastStatus": {…}}`.
    async fn metadata(&self, ctx: &Context<'_>) -> Result<Value> {
        let state = &self.read()?.state;
        ctx.charge_bytes(state.metadata_bytes()).await;
        Ok(state.metadata())
    }

    /// Messages of it that were taken and not stored, because it sent faster than its limit allows
    /// (`DEVICE_RATE_LIMIT`, `DEVICE_BURST`). Counted up to 2147483647, the largest `Int`.
    async fn shed_messages(&self) -> Result<i32> {
        Ok(i32::try_from(self.read()?.state.shed_messages).unwrap_or(i32::MAX))
    }

    /// When the last of these messages came; null: none was.
    async fn last_shed_at(&self) -> Result<Option<Instant>> {
        Ok(self.read()?.state.last_shed_at.map(Instant))
    }

    /// The topics it speaks and listens on.
    async fn topics(&self, ctx: &Context<'_>) -> Result<DeviceTopics> {
        let (device, prefix) = (self.read()?, ctx.services().devices.topic_prefix());
        let up = |kind| format!("{prefix}/{}/{}/{kind}", device.home_key, device.key);
        // A device listens where it speaks.
        let home = device.home_segment.as_ref().unwrap_or(&device.home_key);
        let key = device.device_segment.as_ref().unwrap_or(&device.key);
        let down = |kind| format!("{prefix}/{home}/{key}/{kind}");
        Ok(DeviceTopics {
            telemetry: up("telemetry"),
            status: up("status"),
            heartbeat: up("heartbeat"),
            ack: up("ack"),
            commands: down("commands"),
            config: down("config"),
        })
    }

    /// Its newest reading by time of recording.
    async fn latest_telemetry(&self, ctx: &Context<'_>) -> Result<Option<Telemetry>> {
        let device = self.0.readable(Permission::ReadTelemetry)?;
        Ok(ctx.loaders().latest.get(ctx.batch_scope(), device.access().user(), device).await?.map(Telemetry))
    }

    /// Its readings, newest first.
    #[graphql(complexity = "super::paging::page_complexity(first, super::telemetry::PAGE, child_complexity)")]
    async fn telemetry(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Readings recorded at this time or later.")] from: Option<InstantArgument>,
        #[graphql(desc = "Readings recorded before this time.")] to: Option<InstantArgument>,
        #[graphql(desc = "Items of a page, 0 to 500.", default_with = "Some(PageSize::from(100))")] first: Option<
            PageSize,
        >,
        #[graphql(desc = "Cursor of the last item of the page before.")] after: Option<String>,
    ) -> Result<Page<Telemetry>> {
        telemetry::page(ctx, self.0.readable(Permission::ReadTelemetry)?, from, to, first, after).await
    }

    /// What it was told to do, newest first: its newest 1,000 commands, and all that are open.
    #[graphql(complexity = "super::paging::page_complexity(first, super::commands::PAGE, child_complexity)")]
    async fn commands(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Commands that stand so.")] status: Option<CommandStatus>,
        #[graphql(desc = "Items of a page, 0 to 500.", default_with = "Some(PageSize::from(50))")] first: Option<
            PageSize,
        >,
        #[graphql(desc = "Cursor of the last item of the page before.")] after: Option<String>,
    ) -> Result<Page<Command>> {
        commands::page(ctx, self.0.readable(Permission::ReadCommands)?, status, first, after).await
    }

    /// Its newest configuration: what it is to have, whether or not it has it yet.
    async fn config(&self, ctx: &Context<'_>) -> Result<Option<DeviceConfig>> {
        let device = self.0.readable(Permission::ReadConfig)?;
        Ok(ctx.loaders().config.get(ctx.batch_scope(), device.access().user(), device).await?.map(DeviceConfig))
    }

    /// The versions of its configuration, newest first; the newest 100 are kept.
    #[graphql(complexity = "super::paging::page_complexity(first, super::device_config::PAGE, child_complexity)")]
    async fn config_history(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Items of a page, 0 to 500.", default_with = "Some(PageSize::from(20))")] first: Option<
            PageSize,
        >,
        #[graphql(desc = "Cursor of the last item of the page before.")] after: Option<String>,
    ) -> Result<Page<DeviceConfig>> {
        device_config::page(ctx, self.0.readable(Permission::ReadConfig)?, first, after).await
    }

    /// When it was registered.
    async fn created_at(&self) -> Result<Instant> {
        Ok(self.read()?.created_at.into())
    }
}

impl Device {
    /// All of it, where the viewer may see more than that it is there.
    fn read(&self) -> Result<&devices::Device> {
        self.0.allow(Permission::Read)?;
        Ok(&self.0)
    }
}

/// Which devices to list: those that match all that is given.
#[derive(InputObject, Default)]
pub(super) struct DeviceFilter {
    /// In this room.
    room_id: Option<ID>,
    /// Of this type.
    #[graphql(name = "type")]
    kind: Option<DeviceType>,
    /// Present or absent.
    online: Option<bool>,
    /// With this text in name, key or MAC address; upper and lower case are the same.
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
            // What is no id is as good as a room that is not there: nothing stands in it. Ids begin at 1.
            room: self.room_id.map(|id| id.parse().unwrap_or_else(|_| RoomId::from_database(0))),
            kind: self.kind.map(|kind| devices::DeviceType::from(kind).as_str()),
            online: self.online,
            search,
        })
    }
}

/// A page of a home's devices, as the viewer sees them; empty where they see none.
pub(super) async fn page(
    ctx: &Context<'_>,
    viewer: UserId,
    home: HomeId,
    filter: Option<DeviceFilter>,
    first: Option<PageSize>,
    after: Option<String>,
) -> Result<Page<Device>> {
    let size = paging::size(first, PAGE)?;
    let filter = filter.unwrap_or_default().parse()?;
    let after = paging::parse_id_cursor(CURSOR, after.as_deref())?;
    // Before reading: a wave of pages is read at once.
    ctx.reserve_page(size).await;
    let common = DevicePage { viewer, filter, after, limit: paging::limit(size) };
    let devices = ctx.loaders().device_pages.get(ctx.batch_scope(), common, home).await?;
    let devices = devices.map(|devices| devices.to_vec()).unwrap_or_default();
    ctx.refund_page(size, devices.len()).await;
    Ok(paging::page(devices, size, after.is_some(), |device| (paging::id_cursor(CURSOR, &device.id), Device(device))))
}

/// Queries of devices.
#[derive(Default)]
pub(super) struct DeviceQuery;

#[Object]
impl DeviceQuery {
    /// A device of one of your homes; NOT_FOUND for every other.
    async fn device(&self, ctx: &Context<'_>, #[graphql(desc = "The device's id.")] id: ID) -> Result<Option<Device>> {
        let viewer = ctx.viewer()?.user;
        let device = ctx.loaders().devices.get(ctx.batch_scope(), viewer, parse_id(&id, "device")?).await?;
        Ok(Some(Device(device.ok_or(Error::NotFound("device"))?)))
    }

    /// The devices of a home, in the order they were registered.
    #[graphql(complexity = "super::paging::page_complexity(first, super::devices::PAGE, child_complexity)")]
    async fn devices(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The home's id.")] home_id: ID,
        #[graphql(desc = "Only those that match all of it.")] filter: Option<DeviceFilter>,
        #[graphql(desc = "Items of a page, 0 to 500.", default_with = "Some(PageSize::from(50))")] first: Option<
            PageSize,
        >,
        #[graphql(desc = "Cursor of the last item of the page before.")] after: Option<String>,
    ) -> Result<Page<Device>> {
        let (viewer, home) = (ctx.viewer()?, parse_id(&home_id, "home")?);
        let page = page(ctx, viewer.user, home, filter, first, after).await?;
        match page.edges.first() {
            Some(edge) => drop(edge.node.0.allow(Permission::Read)?),
            // An empty home, or not yours to see: the page itself can't tell.
            None => drop(ctx.services().homes.access(viewer, home, Permission::Read).await?),
        }
        Ok(page)
    }
}
