//! The target of a subscription, and the checks that the viewer may read it.

use std::collections::HashSet;

use async_graphql::{Context, ID};

use super::super::context::ContextExt;
use super::super::error::Result;
use super::super::scalars::parse_id;
use crate::commands::CommandFilter;
use crate::db::spawn_and_join;
use crate::error::Error;
use crate::homes::{Access, Permission};
use crate::ids::{DeviceId, HomeId, TelemetryId};
use crate::telemetry::LastReceived;

/// The home whose events a subscription delivers, or the one device of it.
#[derive(Clone, Copy)]
pub(super) struct SubscriptionTarget {
    /// Proof that the viewer may read these events of the home.
    pub(super) access: Access,
    pub(super) device: Option<DeviceId>,
    /// The permission that `access` was given for.
    permission: Permission,
}

/// The reading after which a subscription begins. `argument` is the one that names it.
pub(super) fn last_received(argument: &'static str, id: Option<ID>) -> Result<Option<LastReceived>> {
    let Some(id) = id else { return Ok(None) };
    let reading = match id.as_str() {
        "0" => TelemetryId::BEFORE_ALL,
        id => id.parse().map_err(|_| Error::bad_input(argument, format!("{argument} must be the ID of a reading")))?,
    };
    Ok(Some(LastReceived { reading, argument }))
}

/// The devices of a home whose events a viewer receives; `None` for all.
pub(super) struct DeviceScope(Option<HashSet<DeviceId>>);

impl DeviceScope {
    pub(super) fn contains(&self, device: DeviceId) -> bool {
        self.0.as_ref().is_none_or(|devices| devices.contains(&device))
    }
}

impl SubscriptionTarget {
    pub(super) fn home(&self) -> HomeId {
        self.access.home()
    }

    /// All commands to the device or to the devices of the home.
    pub(super) fn all_commands(&self) -> CommandFilter {
        self.device.map_or(CommandFilter::Home, CommandFilter::Device)
    }

    /// The error of a target that was deleted.
    pub(super) fn not_found(&self) -> Error {
        Error::NotFound(if self.device.is_some() { "device" } else { "home" })
    }

    /// A home. Fails where the viewer may not read these events of it.
    pub(super) async fn of_home(ctx: &Context<'_>, permission: Permission, id: &ID) -> Result<Self> {
        let access = access_to_home(ctx, parse_id(id, "home")?, permission).await?;
        Ok(Self { access, device: None, permission })
    }

    /// A device. Fails where the viewer may not read these events of it.
    pub(super) async fn of_device(ctx: &Context<'_>, permission: Permission, id: &ID) -> Result<Self> {
        let device = parse_id(id, "device")?;
        let access = access_to_device(ctx, device, permission).await?;
        Ok(Self { access, device: Some(device), permission })
    }

    /// The device of a command. Fails where the viewer may not read the command.
    pub(super) async fn of_command(ctx: &Context<'_>, id: &ID) -> Result<(Self, CommandFilter)> {
        let (commands, viewer) = (ctx.services().commands.clone(), ctx.viewer()?.user);
        let id = parse_id(id, "command")?;
        let (command, access) = spawn_and_join(async move { commands.find_with_access(viewer, id).await }).await?;
        let target = Self { access, device: Some(command.device), permission: Permission::ReadCommands };
        Ok((target, CommandFilter::Command(id, command.device)))
    }

    /// The target that exactly one of the two ids names.
    pub(super) async fn of_device_or_home(
        ctx: &Context<'_>,
        permission: Permission,
        device_id: Option<ID>,
        home_id: Option<ID>,
    ) -> Result<Self> {
        match (device_id, home_id) {
            (Some(id), None) => Self::of_device(ctx, permission, &id).await,
            (None, Some(id)) => Self::of_home(ctx, permission, &id).await,
            _ => Err(Error::bad_input("deviceId", "give exactly one of deviceId and homeId").into()),
        }
    }

    /// The target and the commands that exactly one of the three ids names.
    pub(super) async fn of_commands(
        ctx: &Context<'_>,
        device_id: Option<ID>,
        home_id: Option<ID>,
        command_id: Option<ID>,
    ) -> Result<(Self, CommandFilter)> {
        match (device_id, home_id, command_id) {
            (None, None, Some(id)) => Self::of_command(ctx, &id).await,
            (device_id, home_id, None) if device_id.is_some() != home_id.is_some() => {
                let target = Self::of_device_or_home(ctx, Permission::ReadCommands, device_id, home_id).await?;
                Ok((target, target.all_commands()))
            }
            _ => Err(Error::bad_input("deviceId", "give exactly one of deviceId, homeId and commandId").into()),
        }
    }

    /// Checks access again, and returns the devices that the viewer may see.
    ///
    /// To be called after the hubs are subscribed. A deletion or a revocation between the first check and the
    /// subscription reaches no hub of ours, so without this check the subscription would outlive it. The scope
    /// of an integration's token never changes, so it is read once.
    pub(super) async fn check_again(&self, ctx: &Context<'_>) -> Result<DeviceScope> {
        if let Some(device) = self.device {
            access_to_device(ctx, device, self.permission).await?;
            return Ok(DeviceScope(None));
        }
        let access = access_to_home(ctx, self.home(), self.permission).await?;
        let integrations = ctx.services().integrations.clone();
        let devices = spawn_and_join(async move { integrations.device_scope(access).await }).await?;
        Ok(DeviceScope(devices.map(HashSet::from_iter)))
    }
}

async fn access_to_device(ctx: &Context<'_>, device: DeviceId, permission: Permission) -> Result<Access> {
    let (devices, viewer) = (ctx.services().devices.clone(), ctx.viewer()?.user);
    Ok(spawn_and_join(async move { devices.find(viewer, device).await }).await?.allow(permission)?)
}

async fn access_to_home(ctx: &Context<'_>, home: HomeId, permission: Permission) -> Result<Access> {
    let (homes, viewer) = (ctx.services().homes.clone(), ctx.viewer()?.clone());
    Ok(spawn_and_join(async move { homes.access(&viewer, home, permission).await }).await?)
}
