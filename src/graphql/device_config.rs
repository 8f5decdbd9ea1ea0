//! Configurations of devices in the graph.

use std::sync::Arc;

use async_graphql::{Context, Enum, ID, InputObject, Object};
use serde_json::Value;

use super::context::ContextExt;
use super::devices::Device;
use super::error::Result;
use super::members::{self, User};
use super::paging::{self, Page, PageSize};
use super::scalars::{Instant, parse_id};
use crate::device_config::{self, NewConfig};
use crate::devices::DeviceAccess;
use crate::error::Error;
use crate::homes::Permission;

/// Versions of a page, unless the client says otherwise.
pub(super) const PAGE: usize = 20;
/// What its cursors are of.
const CURSOR: &str = "config";

/// What was seen of a version of a configuration.
#[derive(Enum, Copy, Clone, PartialEq, Eq)]
#[graphql(remote = "device_config::ConfigStatus")]
pub(super) enum ConfigStatus {
    /// Stored; the broker does not have it for certain.
    Pending,
    /// The broker has it and keeps it for the device.
    Sent,
    /// The device said that it has applied it.
    Applied,
    /// The device said that it won't: see `errors`.
    Rejected,
    /// A newer version came before the device answered.
    Superseded,
}

/// How a pushed configuration relates to the newest version.
#[derive(Enum, Copy, Clone, PartialEq, Eq)]
#[graphql(remote = "device_config::ConfigMode")]
pub(super) enum ConfigMode {
    /// A merge patch (RFC 7396): what is given is set, null deletes, what is absent stays.
    Merge,
    /// The whole: what is absent is gone.
    Replace,
}

/// One version of a device's configuration.
pub(super) struct DeviceConfig(pub(super) Arc<device_config::DeviceConfig>);

/// One version of a device's configuration.
#[Object(serial)]
impl DeviceConfig {
    /// The device it is for.
    async fn device(&self, ctx: &Context<'_>) -> Result<Device> {
        let device = ctx.loaders().devices.get(ctx.batch_scope(), ctx.viewer()?.user, self.0.device).await?;
        Ok(Device(device.ok_or(Error::NotFound("device"))?))
    }

    /// From 1, one more with every push.
    async fn version(&self) -> i32 {
        self.0.version
    }

    /// What the device is to be configured like. A secret (the value of a key that ends in `password`,
    /// `secret` or `token`) is shown as `"[secret]"`; pushed back, that keeps it.
    async fn config(&self, ctx: &Context<'_>) -> Value {
        ctx.json(&self.0.config).await
    }

    /// What was seen of it.
    async fn status(&self) -> ConfigStatus {
        self.0.status.into()
    }

    /// Why the device refused it, by key, as far as it said.
    async fn errors(&self, ctx: &Context<'_>) -> Option<Value> {
        match &self.0.errors {
            Some(errors) => Some(ctx.json(errors).await),
            None => None,
        }
    }

    /// Who pushed it, while they are a member of the home.
    async fn created_by(&self, ctx: &Context<'_>) -> Result<Option<User>> {
        let (Some(user), viewer) = (self.0.created_by, members::viewer_of(ctx, self.0.created_by)?) else {
            return Ok(None);
        };
        let shared = ctx.loaders().shared_homes.get(ctx.batch_scope(), viewer, user).await?;
        if !shared.is_some_and(|homes| homes.iter().any(|home| home.id == self.0.home)) {
            return Ok(None);
        }
        Ok(ctx.loaders().users.get(ctx.batch_scope(), viewer, user).await?.map(|user| User { user, viewer }))
    }

    /// When it was pushed.
    async fn created_at(&self) -> Instant {
        self.0.created_at.into()
    }

    /// When the broker had it for certain.
    async fn sent_at(&self) -> Option<Instant> {
        self.0.sent_at.map(Instant)
    }

    /// When the device said that it has applied it.
    async fn applied_at(&self) -> Option<Instant> {
        self.0.applied_at.map(Instant)
    }
}

/// A configuration to push to a device.
#[derive(InputObject)]
pub(super) struct PushConfigInput {
    /// The device it is for.
    device_id: ID,
    /// An object of up to 8 KiB. `sampleRate` (seconds), `alertThresholds`, `powerSaving`, `wifiConfig` and
    /// `mqttConfig` are checked, other keys pass as they are. The value of a key that ends in `password`,
    /// `secret` or `token` is kept sealed and never shown again.
    config: Value,
    /// Whether `config` is a patch of the newest version or the whole.
    #[graphql(default_with = "ConfigMode::Merge")]
    mode: ConfigMode,
    /// The newest version you know, 0 for none: CONFLICT if another came first.
    expected_version: Option<i32>,
}

/// A page of a device's versions, newest first.
pub(super) async fn page(
    ctx: &Context<'_>,
    device: DeviceAccess,
    first: Option<PageSize>,
    after: Option<String>,
) -> Result<Page<DeviceConfig>> {
    let size = paging::size(first, PAGE)?;
    let after: Option<i32> = paging::parse_id_cursor(CURSOR, after.as_deref())?;
    // Before reading: a wave of pages is read at once.
    ctx.reserve_page(size).await;
    let group = (device.access().user(), after, paging::limit(size));
    let configs = ctx.loaders().config_pages.get(ctx.batch_scope(), group, device).await?;
    let configs = configs.map(|configs| configs.to_vec()).unwrap_or_default();
    ctx.refund_page(size, configs.len()).await;
    Ok(paging::page(configs, size, after.is_some(), |config| {
        (paging::id_cursor(CURSOR, &config.version), DeviceConfig(config))
    }))
}

/// Mutations of configurations.
#[derive(Default)]
pub(super) struct ConfigMutation;

#[Object]
impl ConfigMutation {
    /// Makes the next version of a device's configuration, which goes to the device as soon as the broker
    /// can be reached. For admins and owners.
    async fn push_config(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to push, and to which device.")] input: PushConfigInput,
    ) -> Result<DeviceConfig> {
        let (services, viewer) = (ctx.services(), ctx.viewer()?);
        let device = services.devices.find(viewer.user, parse_id(&input.device_id, "device")?).await?;
        let access = device.allow(Permission::PushConfig)?;
        let PushConfigInput { config, mode, expected_version, .. } = input;
        let new = NewConfig { config, mode: mode.into(), expected_version };
        Ok(DeviceConfig(Arc::new(services.configs.push(access, &ctx.request_context()?, &device, new).await?)))
    }

    /// Makes a new version with the content of an old one, its secrets included. The newest 100 versions of
    /// a device are kept. For admins and owners.
    async fn rollback_config(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The device's id.")] device_id: ID,
        #[graphql(desc = "The version whose content to take.")] to_version: i32,
    ) -> Result<DeviceConfig> {
        let (services, viewer) = (ctx.services(), ctx.viewer()?);
        let device = services.devices.find(viewer.user, parse_id(&device_id, "device")?).await?;
        let access = device.allow(Permission::PushConfig)?;
        Ok(DeviceConfig(Arc::new(
            services.configs.rollback(access, &ctx.request_context()?, &device, to_version).await?,
        )))
    }
}
