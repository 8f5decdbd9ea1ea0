//! Devices.

use std::borrow::Cow;
use std::sync::Arc;

use async_graphql::parser::types::SelectionSet;
use async_graphql::{Context, ID, Object, OutputType, Positioned, SimpleObject};

use super::command_enums::CommandStatus;
use super::commands::{self, Command};
use super::context::ContextExt;
use super::daily_storage::DailyStorage;
use super::device_config::{self, DeviceConfig};
use super::device_state::DeviceState;
use super::error::Result;
use super::homes::Home;
use super::inputs::{InstantInput, IntInput};
use super::paging::{Page, PageArguments};
use super::rooms::Room;
use super::rows::{Direct, JsonWriter, NotWritten, Row, Write, leaf, nested};
use super::scalars::{DeviceType, Instant, Json, MacAddress};
use super::selected_fields::all_fields;
use super::telemetry::{self, Telemetry};
use crate::devices;
use crate::error::Error;
use crate::homes::Permission;
use crate::ids::DeviceId;
use crate::telemetry::SharedReading;
use crate::telemetry::history::FetchedPage;

pub(super) const PAGE: usize = 50;

#[derive(Clone)]
pub(super) struct Device {
    pub(super) device: Arc<devices::Device>,
    /// The newest reading, if it was read with the device. The inner `None` says that there is none.
    latest: Option<Option<Box<Telemetry>>>,
    /// A page of its readings, if it was read with the device.
    history: Option<Arc<FetchedPage>>,
}

impl Device {
    pub(super) fn new(device: Arc<devices::Device>) -> Self {
        Self { device, latest: None, history: None }
    }

    /// The device with this id, with what the selection needs.
    pub(super) async fn load(ctx: &Context<'_>, id: DeviceId) -> Result<Self> {
        let group = (ctx.viewer()?.user, selects_state(&ctx.item.node.selection_set));
        let device = ctx.loaders().devices.get(ctx.batch_scope(), group, id).await?;
        Ok(Self::new(device.ok_or(Error::NotFound("device"))?))
    }

    /// The same. If the selection has one page of readings and nothing of the state, all is read by one statement.
    pub(super) async fn load_with_history(ctx: &Context<'_>, id: DeviceId) -> Result<Self> {
        let Some(page) = telemetry::only_page(&ctx.item.node.selection_set) else { return Self::load(ctx, id).await };
        let group = (ctx.viewer()?.user, page);
        let found = ctx.loaders().devices_with_history.get(ctx.batch_scope(), group, id).await?;
        let (device, history) = found.ok_or(Error::NotFound("device"))?;
        Ok(Self { history: Some(history), ..Self::new(device) })
    }

    pub(super) fn with_latest(device: Arc<devices::Device>, latest: Option<SharedReading>) -> Self {
        let latest = Some(latest.map(|reading| Box::new(Telemetry::new(reading))));
        Self { device, latest, history: None }
    }
}

/// The MQTT topics of a device. The server also accepts topics with an ID or a MAC address in place of a key,
/// but devices should use these.
#[derive(SimpleObject)]
#[graphql(serial)]
pub(super) struct DeviceTopics {
    /// The device publishes readings to this topic.
    telemetry: String,
    /// The device publishes its status and its last will to this topic.
    status: String,
    /// The device publishes heartbeats to this topic.
    heartbeat: String,
    /// The device acknowledges commands and configurations on this topic.
    ack: String,
    /// The device receives commands on this topic. They are not retained.
    commands: String,
    /// The device receives its configuration on this topic. It is retained.
    config: String,
}

/// A registered device and the state that it last reported.
#[Object(serial)]
impl Device {
    /// The ID of the device.
    async fn id(&self) -> ID {
        self.device.id.into()
    }

    /// The name of the device in topics, unique in its home, for example `ESP32_001`.
    async fn key(&self) -> &str {
        &self.device.key
    }

    /// The display name.
    async fn name(&self) -> Result<Option<&str>> {
        Ok(Some(&self.read()?.name))
    }

    /// The MAC address, if known. It can replace the key in topics.
    async fn mac_address(&self) -> Result<Option<MacAddress>> {
        Ok(self.read()?.mac.as_ref().and_then(|mac| mac.parse().ok()).map(MacAddress))
    }

    /// The kind of the device.
    #[graphql(name = "type")]
    async fn kind(&self) -> Result<Option<DeviceType>> {
        Ok(Some(self.read()?.kind.into()))
    }

    /// The home of the device.
    async fn home(&self, ctx: &Context<'_>) -> Result<Home> {
        let viewer = self.device.allow(Permission::Find)?.user();
        if let Some(place) = &self.device.place {
            return Ok(Home(place.home.clone()));
        }
        let home = ctx.loaders().homes.get(ctx.batch_scope(), viewer, self.device.home).await?;
        Ok(Home(home.ok_or(Error::NotFound("home"))?))
    }

    /// The room of the device, if it has one.
    async fn room(&self, ctx: &Context<'_>) -> Result<Option<Room>> {
        let access = self.device.allow(Permission::Read)?;
        if let Some(place) = &self.device.place {
            return Ok(place.room.clone().map(Room));
        }
        let Some(room) = self.device.room else { return Ok(None) };
        Ok(ctx.loaders().rooms.get(ctx.batch_scope(), access.user(), room).await?.map(Room))
    }

    /// Whether the device is online: it sent a message recently and has not reported that it goes offline.
    async fn online(&self) -> Result<Option<bool>> {
        Ok(Some(self.read()?.state.online))
    }

    /// The time at which `online` last changed.
    async fn online_changed_at(&self) -> Result<Option<Instant>> {
        Ok(self.read()?.state.online_changed_at.map(Instant))
    }

    /// The time of its last message, accurate to 10 seconds.
    async fn last_seen_at(&self) -> Result<Option<Instant>> {
        Ok(self.read()?.state.last_seen_at.map(Instant))
    }

    /// The firmware version that the device last reported.
    async fn firmware_version(&self) -> Result<Option<&str>> {
        Ok(self.read()?.state.firmware_version.as_deref())
    }

    /// The signal strength in dBm that the device last reported.
    async fn signal_strength(&self) -> Result<Option<f64>> {
        Ok(self.read()?.state.signal_strength)
    }

    /// The battery charge in percent that the device last reported.
    async fn battery_level(&self) -> Result<Option<f64>> {
        Ok(self.read()?.state.battery_level)
    }

    /// What the device last reported itself to be. Null if it has reported nothing.
    async fn state(&self) -> Result<Option<DeviceState>> {
        Ok(self.read()?.state.reported.clone().map(DeviceState))
    }

    /// The last status message of the device, unchanged: `{"lastStatus": {…}}`.
    async fn metadata(&self, ctx: &Context<'_>) -> Result<Option<Json>> {
        let state = &self.read()?.state;
        ctx.charge_bytes(state.metadata_bytes()).await;
        Ok(Some(state.metadata().into()))
    }

    /// The number of messages that the server dropped because the device exceeded its rate limit
    /// (`DEVICE_RATE_LIMIT`, `DEVICE_BURST`) or its daily limit (`storageToday`). It stops at 2147483647, the largest
    /// `Int`.
    async fn shed_messages(&self) -> Result<Option<i32>> {
        Ok(Some(shed_messages(self.read()?)))
    }

    /// The time of the last dropped message. Null if there was none.
    async fn last_shed_at(&self) -> Result<Option<Instant>> {
        Ok(self.read()?.state.last_shed_at.map(Instant))
    }

    /// What the device has stored today, and its daily limit.
    async fn storage_today(&self, ctx: &Context<'_>) -> Result<Option<DailyStorage>> {
        let device = self.device.readable(Permission::Read)?;
        let used = ctx.loaders().stored_today.get(ctx.batch_scope(), device.access().user(), device).await?;
        Ok(Some(DailyStorage::new(used.unwrap_or_default(), ctx.services().devices.daily_storage_limit())))
    }

    /// The MQTT topics of the device.
    async fn topics(&self, ctx: &Context<'_>) -> Result<Option<DeviceTopics>> {
        let (device, prefix) = (self.read()?, ctx.services().devices.topic_prefix());
        let up = |kind| format!("{prefix}/{}/{}/{kind}", device.home_key, device.key);
        // A device subscribes under the names that it last published under.
        let home = device.home_segment.as_ref().unwrap_or(&device.home_key);
        let key = device.device_segment.as_ref().unwrap_or(&device.key);
        let down = |kind| format!("{prefix}/{home}/{key}/{kind}");
        Ok(Some(DeviceTopics {
            telemetry: up("telemetry"),
            status: up("status"),
            heartbeat: up("heartbeat"),
            ack: up("ack"),
            commands: down("commands"),
            config: down("config"),
        }))
    }

    /// The newest reading, by `recordedAt`.
    async fn latest_telemetry(&self, ctx: &Context<'_>) -> Result<Option<Direct<Telemetry>>> {
        let device = self.device.readable(Permission::ReadTelemetry)?;
        if let Some(latest) = &self.latest {
            return Ok(latest.as_deref().cloned().map(Direct));
        }
        Ok(ctx
            .loaders()
            .latest
            .get(ctx.batch_scope(), device.access().user(), device)
            .await?
            .map(Telemetry::new)
            .map(Direct))
    }

    /// The readings of the device, newest first.
    async fn telemetry(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Lists readings recorded at or after this time.")] from: Option<InstantInput>,
        #[graphql(desc = "Lists readings recorded before this time.")] to: Option<InstantInput>,
        #[graphql(desc = "The page size, from 0 to 500.", default_with = "Some(IntInput::default_of(100))")]
        first: Option<IntInput>,
        #[graphql(desc = "The cursor of the last item of the previous page.")] after: Option<String>,
    ) -> Result<Option<Direct<Page<Telemetry>>>> {
        let page = telemetry::PageOfReadings { from, to, arguments: PageArguments { first, after } };
        let device = self.device.readable(Permission::ReadTelemetry)?;
        Ok(Some(telemetry::page(ctx, device, page, self.history.as_deref()).await?))
    }

    /// The commands to the device, newest first. The server keeps the newest 1,000 and all unfinished ones.
    async fn commands(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Lists only commands in this state.")] status: Option<CommandStatus>,
        #[graphql(desc = "The page size, from 0 to 500.", default_with = "Some(IntInput::default_of(50))")]
        first: Option<IntInput>,
        #[graphql(desc = "The cursor of the last item of the previous page.")] after: Option<String>,
    ) -> Result<Option<Page<Command>>> {
        let device = self.device.readable(Permission::ReadCommands)?;
        Ok(Some(commands::page(ctx, device, status, PageArguments { first, after }).await?))
    }

    /// The newest version of its configuration, whether or not the device has applied it.
    async fn config(&self, ctx: &Context<'_>) -> Result<Option<DeviceConfig>> {
        let device = self.device.readable(Permission::ReadConfig)?;
        Ok(ctx.loaders().config.get(ctx.batch_scope(), device.access().user(), device).await?.map(Into::into))
    }

    /// The versions of its configuration, newest first. The server keeps the newest 100.
    async fn config_history(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The page size, from 0 to 500.", default_with = "Some(IntInput::default_of(20))")]
        first: Option<IntInput>,
        #[graphql(desc = "The cursor of the last item of the previous page.")] after: Option<String>,
    ) -> Result<Option<Page<DeviceConfig>>> {
        let device = self.device.readable(Permission::ReadConfig)?;
        Ok(Some(device_config::page(ctx, device, PageArguments { first, after }).await?))
    }

    /// The time at which the device was registered.
    async fn created_at(&self) -> Result<Option<Instant>> {
        Ok(Some(self.read()?.created_at.into()))
    }
}

impl Device {
    /// The device, if the viewer may see more than its id and key.
    fn read(&self) -> Result<&devices::Device> {
        self.device.allow(Permission::Read)?;
        Ok(&self.device)
    }
}

impl Row for Device {
    fn type_name() -> Cow<'static, str> {
        <Self as OutputType>::type_name()
    }

    fn writer(name: &str, below: &SelectionSet) -> Option<Write<Self>> {
        match name {
            "id" => leaf(|row: &Self, out| out.id(row.device.id)),
            "key" => leaf(|row: &Self, out| out.value(&row.device.key)),
            "name" => readable(|device, out| out.value(&device.name)),
            "macAddress" => readable(|device, out| out.value(&device.mac.as_deref().and_then(mac_text))),
            "type" => readable(|device, out| out.enumeration(DeviceType::from(device.kind))),
            "home" => nested(below, |row: &Self| row.device.place.as_ref().map(|place| Some(&*place.home))),
            "room" => nested_readable(nested(below, |row: &Self| {
                row.device.place.as_ref().map(|place| place.room.as_deref())
            })?),
            "state" => nested_readable(nested(below, |row: &Self| Some(row.device.state.reported.as_ref()))?),
            "online" => readable(|device, out| out.value(&device.state.online)),
            "onlineChangedAt" => {
                readable(|device, out| out.optional(device.state.online_changed_at, JsonWriter::instant))
            }
            "lastSeenAt" => readable(|device, out| out.optional(device.state.last_seen_at, JsonWriter::instant)),
            "firmwareVersion" => readable(|device, out| out.value(&device.state.firmware_version)),
            "signalStrength" => readable(|device, out| out.value(&device.state.signal_strength)),
            "batteryLevel" => readable(|device, out| out.value(&device.state.battery_level)),
            "metadata" => readable(|device, out| {
                out.charge(device.state.metadata_bytes());
                out.value(&device.state.metadata());
            }),
            "shedMessages" => readable(|device, out| out.value(&shed_messages(device))),
            "lastShedAt" => readable(|device, out| out.optional(device.state.last_shed_at, JsonWriter::instant)),
            "latestTelemetry" => nested(below, |row: &Self| {
                row.device.allow(Permission::ReadTelemetry).ok()?;
                row.latest.as_ref().map(Option::as_deref)
            }),
            "createdAt" => readable(|device, out| out.instant(device.created_at)),
            _ => None,
        }
    }
}

/// Fields of a device that its registration answers, or that load what they need themselves: they do not read its state.
pub(super) const WITHOUT_STATE: [&str; 15] = [
    "__typename",
    "id",
    "key",
    "name",
    "macAddress",
    "type",
    "home",
    "room",
    "storageToday",
    "latestTelemetry",
    "telemetry",
    "commands",
    "config",
    "configHistory",
    "createdAt",
];

/// Whether the selection below a device may contain the state that it reported.
pub(super) fn selects_state(device: &Positioned<SelectionSet>) -> bool {
    !all_fields(device, |field| field.name.node != "state")
}

/// Writes a field that only a viewer who may read the device gets.
fn readable(write: fn(&devices::Device, &mut JsonWriter)) -> Option<Write<Device>> {
    Some(Box::new(move |row, out| {
        row.device.allow(Permission::Read).map_err(|_| NotWritten::NeedsObjects)?;
        write(&row.device, out);
        Ok(())
    }))
}

/// Writes an object that only a viewer who may read the device gets.
fn nested_readable(write: Write<Device>) -> Option<Write<Device>> {
    Some(Box::new(move |row, out| {
        row.device.allow(Permission::Read).map_err(|_| NotWritten::NeedsObjects)?;
        write(row, out)
    }))
}

fn mac_text(stored: &str) -> Option<String> {
    stored.parse().ok().map(|mac: devices::Mac| mac.to_string())
}

/// The number as an `Int`.
fn shed_messages(device: &devices::Device) -> i32 {
    i32::try_from(device.state.shed_messages).unwrap_or(i32::MAX)
}
