//! Mutations of devices.

use std::sync::Arc;
use std::time::Duration;

use async_graphql::{Context, ID, InputObject, MaybeUndefined, Object, SimpleObject};

use super::context::ContextExt;
use super::devices::Device;
use super::error::Result;
use super::inputs::IntInput;
use super::mutation_input::{Deprecated, id_or, input_or};
use super::scalars::{DeviceType, MacAddress, changed, parse_id};
use crate::devices::{self, DeviceChange, NewDevice};
use crate::error::Error;
use crate::homes::Permission;

/// A device to register.
#[derive(InputObject)]
pub(super) struct RegisterDeviceInput {
    /// The ID of the home of the device.
    home_id: ID,
    /// The name of the device in topics, unique in its home: 1 to 64 letters, digits, `_`, `.`, `-`, but neither
    /// a number nor a MAC address. It cannot be changed later.
    key: String,
    /// The display name: 1 to 100 characters.
    name: String,
    /// The kind of the device.
    #[graphql(name = "type", default_with = "DeviceType::SensorNode")]
    kind: DeviceType,
    /// The MAC address, unique in the home. It can replace the key in topics.
    mac_address: Option<MacAddress>,
    /// The ID of the room of the device.
    room_id: Option<ID>,
}

/// Devices to register in one home.
#[derive(InputObject)]
pub(super) struct RegisterDevicesInput {
    /// The ID of the home of the devices.
    home_id: ID,
    /// 1 to 1,000 devices. Either all are registered, or none.
    devices: Vec<NewDeviceInput>,
}

/// One of several devices to register.
#[derive(InputObject)]
pub(super) struct NewDeviceInput {
    /// The name of the device in topics, unique in its home: 1 to 64 letters, digits, `_`, `.`, `-`, but neither
    /// a number nor a MAC address. It cannot be changed later.
    key: String,
    /// The display name: 1 to 100 characters.
    name: String,
    /// The kind of the device.
    #[graphql(name = "type", default_with = "DeviceType::SensorNode")]
    kind: DeviceType,
    /// The MAC address, unique in the home. It can replace the key in topics.
    mac_address: Option<MacAddress>,
    /// The ID of the room of the device.
    room_id: Option<ID>,
}

/// The fields of a device to change. Absent fields stay unchanged. Null removes the MAC address or the room. A device
/// always has a name and a type.
#[derive(InputObject)]
pub(super) struct UpdateDeviceInput {
    /// The ID of the device. Required, unless the deprecated argument `id` has it.
    id: Option<ID>,
    /// The display name: 1 to 100 characters.
    name: MaybeUndefined<String>,
    /// The kind of the device.
    #[graphql(name = "type")]
    kind: MaybeUndefined<DeviceType>,
    /// The MAC address, unique in the home. It can replace the key in topics.
    mac_address: MaybeUndefined<MacAddress>,
    /// The ID of the room of the device.
    room_id: MaybeUndefined<ID>,
}

/// A device that gets a new MQTT password.
#[derive(InputObject)]
pub(super) struct RotateDeviceCredentialsInput {
    /// The ID of the device.
    device_id: ID,
    /// How many seconds the old password stays valid: 0 to 2,592,000 (30 days).
    #[graphql(default_with = "Some(IntInput::default_of(0))")]
    grace_seconds: Option<IntInput>,
}

/// A new device, with the credentials that it needs to connect.
#[derive(SimpleObject)]
#[graphql(serial)]
pub(super) struct RegisteredDevice {
    /// The registered device.
    device: Device,
    /// The credentials of the device. The password is shown only once.
    credentials: MqttCredentials,
}

/// The credentials with which a device connects to the MQTT broker.
#[derive(SimpleObject)]
#[graphql(serial)]
pub(super) struct MqttCredentials {
    /// The username: `{home key}/{device key}`, with the suffix `~1` if a rotation with a grace period needs a second
    /// username.
    username: String,
    /// The password: 192 random bits. It is shown only once, because the server stores a digest.
    password: String,
    /// The MQTT client ID that the device must use. It stays the same when the credentials are rotated. No other device
    /// ever gets it, not even one that is registered with the same key after this one was deleted.
    client_id: String,
    /// The address of the broker.
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
        Self { device: Device::new(Arc::new(registered.device)), credentials: registered.credentials.into() }
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

#[derive(Default)]
pub(super) struct DeviceMutation;

#[Object]
impl DeviceMutation {
    /// Registers a device. Requires the role ADMIN or OWNER. Fails with CONFLICT if the key or the MAC address is
    /// taken; the message names it.
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

    /// Registers up to 1,000 devices in one home, either all or none, and returns them in the given order.
    /// Requires the role ADMIN or OWNER.
    async fn register_devices(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The devices to register.")] input: RegisterDevicesInput,
    ) -> Result<Vec<RegisteredDevice>> {
        ctx.charge_objects(input.devices.len()).await;
        register(ctx, &input.home_id, input.devices).await
    }

    /// Changes a device. Requires the role ADMIN or OWNER.
    async fn update_device(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The device, and the fields to change.")] input: UpdateDeviceInput,
        #[graphql(desc = "The ID of the device.", deprecation = "Use `id` of `input`.")] id: Option<ID>,
    ) -> Result<Device> {
        let (devices, viewer) = (&ctx.services().devices, ctx.viewer()?);
        let id = id_or::<UpdateDeviceInput>(input.id, id)?;
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
        let (name, kind) = (changed("name", input.name)?, changed("type", input.kind)?);
        let change = DeviceChange { name, kind: kind.map(Into::into), mac, room };
        Ok(Device::new(Arc::new(devices.update(access, &ctx.request_context()?, device.id, change).await?)))
    }

    /// Creates a new MQTT password for a device. Without a grace period, the old password becomes invalid at once
    /// and the device is disconnected. With a grace period, it stays valid for that time, so that you can update
    /// the device. At most two passwords are valid; a third invalidates the oldest. The username may change as
    /// well: use the returned one. Requires the role ADMIN or OWNER.
    async fn rotate_device_credentials(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The device.")] input: Option<RotateDeviceCredentialsInput>,
        #[graphql(desc = "The ID of the device.", deprecation = "Use `input`.")] device_id: Option<ID>,
        #[graphql(
            desc = "How many seconds the old password stays valid: 0 to 2,592,000 (30 days).",
            default_with = "Some(IntInput::default_of(0))",
            deprecation = "Use `input`."
        )]
        grace_seconds: Option<IntInput>,
    ) -> Result<MqttCredentials> {
        let (devices, viewer) = (&ctx.services().devices, ctx.viewer()?);
        let has_grace = grace_seconds.is_some_and(IntInput::is_given);
        let given =
            [Deprecated::required("deviceId", device_id.as_ref()), Deprecated::optional("graceSeconds", has_grace)];
        let deprecated = device_id.map(|device_id| RotateDeviceCredentialsInput { device_id, grace_seconds });
        let RotateDeviceCredentialsInput { device_id, grace_seconds } = input_or(ctx, input, &given, deprecated)?;
        let device = devices.find(viewer.user, parse_id(&device_id, "device")?).await?;
        let access = device.allow(Permission::Configure)?;
        // A negative value is refused like one above the maximum.
        let seconds = IntInput::seconds(grace_seconds, "graceSeconds")?.unwrap_or_default();
        let grace = u64::try_from(seconds).map_or(Duration::MAX, Duration::from_secs);
        Ok(devices.rotate_credentials(access, &ctx.request_context()?, device.id, grace).await?.into())
    }

    /// Deletes a device with all its readings, ends its subscriptions and revokes its access to the broker.
    /// Requires the role ADMIN or OWNER.
    async fn delete_device(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The ID of the device.")] id: ID,
    ) -> Result<bool> {
        let (devices, viewer) = (&ctx.services().devices, ctx.viewer()?);
        let device = devices.find(viewer.user, parse_id(&id, "device")?).await?;
        devices.delete(device.allow(Permission::Configure)?, &ctx.request_context()?, device.id).await?;
        Ok(true)
    }
}
