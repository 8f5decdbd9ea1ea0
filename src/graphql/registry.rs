//! Registering and changing devices.

use std::sync::Arc;
use std::time::Duration;

use async_graphql::{Context, ID, InputObject, MaybeUndefined, Object, SimpleObject};

use super::context::ContextExt;
use super::devices::Device;
use super::error::Result;
use super::scalars::{DeviceType, MacAddress, parse_id};
use crate::devices::{self, DeviceChange, NewDevice};
use crate::error::Error;
use crate::homes::Permission;

/// A device to register.
#[derive(InputObject)]
pub(super) struct RegisterDeviceInput {
    /// The home it belongs to.
    home_id: ID,
    /// The name in its topics, unique in its home: 1 to 64 letters, digits, `_`, `.`, `-`; no number
    /// and nothing like a MAC address. It never changes.
    key: String,
    /// What to call it: 1 to 100 characters.
    name: String,
    /// What sort of thing it is.
    #[graphql(name = "type", default_with = "DeviceType::SensorNode")]
    kind: DeviceType,
    /// Another name for it in topics, unique in its home.
    mac_address: Option<MacAddress>,
    /// The room it stands in.
    room_id: Option<ID>,
}

/// Devices to register in one home.
#[derive(InputObject)]
pub(super) struct RegisterDevicesInput {
    /// The home they belong to.
    home_id: ID,
    /// 1 to 1,000 devices: all are registered, or none.
    devices: Vec<NewDeviceInput>,
}

/// One of several devices to register.
#[derive(InputObject)]
pub(super) struct NewDeviceInput {
    /// The name in its topics, unique in its home: 1 to 64 letters, digits, `_`, `.`, `-`; no number
    /// and nothing like a MAC address. It never changes.
    key: String,
    /// What to call it: 1 to 100 characters.
    name: String,
    /// What sort of thing it is.
    #[graphql(name = "type", default_with = "DeviceType::SensorNode")]
    kind: DeviceType,
    /// Another name for it in topics, unique in its home.
    mac_address: Option<MacAddress>,
    /// The room it stands in.
    room_id: Option<ID>,
}

/// What to change about a device; what is absent stays, null clears.
#[derive(InputObject)]
pub(super) struct UpdateDeviceInput {
    /// What to call it: 1 to 100 characters.
    name: Option<String>,
    /// What sort of thing it is.
    #[graphql(name = "type")]
    kind: Option<DeviceType>,
    /// Another name for it in topics, unique in its home.
    mac_address: MaybeUndefined<MacAddress>,
    /// The room it stands in.
    room_id: MaybeUndefined<ID>,
}

/// A device that was just registered, and what it needs to connect.
#[derive(SimpleObject)]
#[graphql(serial)]
pub(super) struct RegisteredDevice {
    /// The device.
    device: Device,
    /// Its credentials. The password is shown this once.
    credentials: MqttCredentials,
}

/// What a device needs to connect to the broker.
#[derive(SimpleObject)]
#[graphql(serial)]
pub(super) struct MqttCredentials {
    /// `{home key}/{device key}`; behind it `~1` where a rotation with a grace period needs a second name.
    username: String,
    /// 192 random bits, shown once: only a digest is kept.
    password: String,
    /// `{device key}@{home key}`, the MQTT client id to use: two clients with one id throw each other out.
    client_id: String,
    /// Where to connect.
    broker_url: String,
}

impl NewDeviceInput {
    fn parse(self) -> Result<NewDevice> {
        Ok(NewDevice {
            key: self.key,
            name: self.name,
            kind: self.kind.into(),
            mac: self.mac_address.map(|mac| mac.0),
            room: self.room_id.map(|id| parse_id(&id, "room")).transpose()?,
        })
    }
}

impl From<devices::MqttCredentials> for MqttCredentials {
    fn from(credentials: devices::MqttCredentials) -> Self {
        Self {
            username: credentials.username,
            password: credentials.password.reveal().to_owned(),
            client_id: credentials.client_id,
            broker_url: credentials.broker_url,
        }
    }
}

impl From<devices::RegisteredDevice> for RegisteredDevice {
    fn from(registered: devices::RegisteredDevice) -> Self {
        Self { device: Device(Arc::new(registered.device)), credentials: registered.credentials.into() }
    }
}

async fn register(ctx: &Context<'_>, home_id: &ID, new: Vec<NewDeviceInput>) -> Result<Vec<RegisteredDevice>> {
    let services = ctx.services();
    let home = parse_id(home_id, "home")?;
    let access = services.homes.access(ctx.viewer()?, home, Permission::Configure).await?;
    let new = new.into_iter().map(NewDeviceInput::parse).collect::<Result<_>>()?;
    Ok(services
        .devices
        .register(access, &ctx.request_context()?, new)
        .await?
        .into_iter()
        .map(RegisteredDevice::from)
        .collect())
}

/// Mutations of devices.
#[derive(Default)]
pub(super) struct DeviceMutation;

#[Object]
impl DeviceMutation {
    /// Registers a device. For admins and owners. CONFLICT names the key or MAC address that is taken.
    async fn register_device(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The device to register.")] input: RegisterDeviceInput,
    ) -> Result<RegisteredDevice> {
        let RegisterDeviceInput { home_id, key, name, kind, mac_address, room_id } = input;
        let new = vec![NewDeviceInput { key, name, kind, mac_address, room_id }];
        let registered = register(ctx, &home_id, new).await?.pop();
        Ok(registered.ok_or_else(|| Error::internal("a registered device is missing"))?)
    }

    /// Registers up to 1,000 devices in one home, all or none, and returns them in the order given. For
    /// admins and owners.
    #[graphql(complexity = "super::paging::list_complexity(50, child_complexity)")]
    async fn register_devices(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The devices to register.")] input: RegisterDevicesInput,
    ) -> Result<Vec<RegisteredDevice>> {
        ctx.charge_objects(input.devices.len()).await;
        register(ctx, &input.home_id, input.devices).await
    }

    /// Changes a device. For admins and owners.
    async fn update_device(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The device's id.")] id: ID,
        #[graphql(desc = "What to change.")] input: UpdateDeviceInput,
    ) -> Result<Device> {
        let (devices, viewer) = (&ctx.services().devices, ctx.viewer()?);
        let device = devices.find(viewer.user, parse_id(&id, "device")?).await?;
        let access = device.allow(Permission::Configure)?;
        let room = match input.room_id {
            MaybeUndefined::Undefined => None,
            MaybeUndefined::Null => Some(None),
            MaybeUndefined::Value(id) => Some(Some(parse_id(&id, "room")?)),
        };
        let mac = match input.mac_address {
            MaybeUndefined::Undefined => None,
            MaybeUndefined::Null => Some(None),
            MaybeUndefined::Value(mac) => Some(Some(mac.0)),
        };
        let change = DeviceChange { name: input.name, kind: input.kind.map(Into::into), mac, room };
        Ok(Device(Arc::new(devices.update(access, &ctx.request_context()?, device.id, change).await?)))
    }

    /// Gives a device a new MQTT password. For admins and owners. Without a grace period the old one ends
    /// now and the device is cut off; with one it holds on that much longer, so that the device can be told
    /// the new one. At most two hold at once: a third ends the oldest. Use the username of the answer.
    async fn rotate_device_credentials(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The device's id.")] device_id: ID,
        #[graphql(
            desc = "For how many seconds the old password still holds: 0 to 2,592,000 (30 days).",
            default_with = "Some(0)"
        )]
        grace_seconds: Option<i32>,
    ) -> Result<MqttCredentials> {
        let (devices, viewer) = (&ctx.services().devices, ctx.viewer()?);
        let device = devices.find(viewer.user, parse_id(&device_id, "device")?).await?;
        let access = device.allow(Permission::Configure)?;
        // What is negative is as much out of range as what is too long.
        let grace = u64::try_from(grace_seconds.unwrap_or_default()).map_or(Duration::MAX, Duration::from_secs);
        Ok(devices.rotate_credentials(access, &ctx.request_context()?, device.id, grace).await?.into())
    }

    /// Deletes a device with all its readings, ends its subscriptions and locks it out of the broker. For
    /// admins and owners.
    async fn delete_device(&self, ctx: &Context<'_>, #[graphql(desc = "The device's id.")] id: ID) -> Result<bool> {
        let (devices, viewer) = (&ctx.services().devices, ctx.viewer()?);
        let device = devices.find(viewer.user, parse_id(&id, "device")?).await?;
        devices.delete(device.allow(Permission::Configure)?, &ctx.request_context()?, device.id).await?;
        Ok(true)
    }
}
