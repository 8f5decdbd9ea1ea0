//! Device configurations.

use std::sync::Arc;

use async_graphql::{Context, Enum, ID, InputObject, Object};

use super::context::ContextExt;
use super::devices::Device;
use super::error::Result;
use super::members::{self, User};
use super::mutation_input::{Deprecated, input_or};
use super::paging::{self, Page, PageArguments, PageRequest};
use super::scalars::{Instant, Json, parse_id};
use crate::device_config::{self, NewConfig};
use crate::devices::DeviceAccess;
use crate::homes::Permission;

pub(super) const PAGE: usize = 20;

/// The state of one version of a configuration. Each state reports only what the server has observed.
#[derive(Enum, Copy, Clone, PartialEq, Eq)]
#[graphql(remote = "device_config::ConfigStatus")]
pub(super) enum ConfigStatus {
    /// Stored. The broker has not acknowledged it yet.
    Pending,
    /// The broker acknowledged it and retains it for the device.
    Sent,
    /// The device reported that it applied the version.
    Applied,
    /// The device rejected the version. See `errors`.
    Rejected,
    /// A newer version was pushed before the device answered.
    Superseded,
}

/// How a pushed configuration changes the newest version.
#[derive(Enum, Copy, Clone, PartialEq, Eq)]
#[graphql(remote = "device_config::ConfigMode")]
pub(super) enum ConfigMode {
    /// JSON Merge Patch (RFC 7396): given keys are set, keys with null are removed, absent keys stay unchanged.
    Merge,
    /// The pushed object replaces the configuration. Absent keys are removed.
    Replace,
}

/// A version of a configuration, and its device if that is known already.
pub(super) struct DeviceConfig(pub(super) Arc<device_config::DeviceConfig>, pub(super) Option<Device>);

impl From<Arc<device_config::DeviceConfig>> for DeviceConfig {
    fn from(config: Arc<device_config::DeviceConfig>) -> Self {
        Self(config, None)
    }
}

/// One version of a device's configuration.
#[Object(serial)]
impl DeviceConfig {
    /// The ID of this version of the device's configuration.
    async fn id(&self) -> ID {
        format!("{}:{}", self.0.device, self.0.version).into()
    }

    /// The device that the configuration belongs to.
    async fn device(&self, ctx: &Context<'_>) -> Result<Device> {
        if let Some(device) = &self.1 {
            return Ok(device.clone());
        }
        Device::load(ctx, self.0.device).await
    }

    /// The version number. It starts at 1 and increases by 1 with every push.
    async fn version(&self) -> i32 {
        self.0.version
    }

    /// The configuration. A secret (the value of a key that ends in `password`, `secret` or `token`) is shown as
    /// `"[secret]"`. To keep the stored secret, push that text back.
    async fn config(&self, ctx: &Context<'_>) -> Json {
        ctx.json(&self.0.config).await
    }

    /// The state of this version.
    async fn status(&self) -> ConfigStatus {
        self.0.status.into()
    }

    /// The reasons that the device gave for rejecting the version, by key.
    async fn errors(&self, ctx: &Context<'_>) -> Option<Json> {
        match &self.0.errors {
            Some(errors) => Some(ctx.json(errors).await),
            None => None,
        }
    }

    /// The user who pushed the version. Null if they are no longer a member of the home.
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

    /// The time at which the version was pushed.
    async fn created_at(&self) -> Instant {
        self.0.created_at.into()
    }

    /// The time at which the broker acknowledged the version.
    async fn sent_at(&self) -> Option<Instant> {
        self.0.sent_at.map(Instant)
    }

    /// The time at which the device reported that it applied the version.
    async fn applied_at(&self) -> Option<Instant> {
        self.0.applied_at.map(Instant)
    }
}

/// A configuration to push to a device.
#[derive(InputObject)]
pub(super) struct PushConfigInput {
    /// The ID of the device.
    device_id: ID,
    /// A JSON object of at most 8 KiB. The server validates `sampleRate` (seconds), `alertThresholds`,
    /// `powerSaving`, `wifiConfig` and `mqttConfig`, and accepts any other key. The value of a key that ends in
    /// `password`, `secret` or `token` is stored encrypted and never shown again.
    config: Json,
    /// How `config` changes the newest version.
    #[graphql(default_with = "ConfigMode::Merge")]
    mode: ConfigMode,
    /// The newest version that you know, 0 for none. The push fails with CONFLICT if there is a newer one.
    expected_version: Option<i32>,
}

/// A page of a device's versions, newest first.
pub(super) async fn page(
    ctx: &Context<'_>,
    device: DeviceAccess,
    arguments: PageArguments,
) -> Result<Page<DeviceConfig>> {
    let page = PageRequest::parse("config", &arguments, PAGE)?;
    let group = (device.access().user(), page.after, page.limit());
    let rows = ctx.loaders().config_pages.get(ctx.batch_scope(), group, device);
    let configs = paging::load_page(ctx, page.size, rows).await?;
    Ok(page.page(configs, |config| (config.version.into(), config.into())))
}

/// An older version of a configuration to go back to.
#[derive(InputObject)]
pub(super) struct RollbackConfigInput {
    /// The ID of the device.
    device_id: ID,
    /// The version to copy.
    to_version: i32,
}

#[derive(Default)]
pub(super) struct ConfigMutation;

#[Object]
impl ConfigMutation {
    /// Creates the next version of a device's configuration. The server sends it as soon as the broker is
    /// connected. Requires the role ADMIN or OWNER.
    async fn push_config(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The configuration to push.")] input: PushConfigInput,
    ) -> Result<DeviceConfig> {
        let (services, viewer) = (ctx.services(), ctx.viewer()?);
        let device = services.devices.find(viewer.user, parse_id(&input.device_id, "device")?).await?;
        let access = device.allow(Permission::PushConfig)?;
        let PushConfigInput { config, mode, expected_version, .. } = input;
        let new = NewConfig { config: config.into_json(), mode: mode.into(), expected_version };
        Ok(Arc::new(services.configs.push(access, &ctx.request_context()?, &device, new).await?).into())
    }

    /// Creates a new version with the content of an older one, including its secrets. The server keeps the newest
    /// 100 versions of a device. Requires the role ADMIN or OWNER.
    async fn rollback_config(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The device and the version to copy.")] input: Option<RollbackConfigInput>,
        #[graphql(desc = "The ID of the device.", deprecation = "Use `input`.")] device_id: Option<ID>,
        #[graphql(desc = "The version to copy.", deprecation = "Use `input`.")] to_version: Option<i32>,
    ) -> Result<DeviceConfig> {
        let (services, viewer) = (ctx.services(), ctx.viewer()?);
        let given = [
            Deprecated::required("deviceId", device_id.as_ref()),
            Deprecated::required("toVersion", to_version.as_ref()),
        ];
        let deprecated = device_id.zip(to_version);
        let deprecated = deprecated.map(|(device_id, to_version)| RollbackConfigInput { device_id, to_version });
        let RollbackConfigInput { device_id, to_version } = input_or(ctx, input, &given, deprecated)?;
        let device = services.devices.find(viewer.user, parse_id(&device_id, "device")?).await?;
        let access = device.allow(Permission::PushConfig)?;
        let config = services.configs.rollback(access, &ctx.request_context()?, &device, to_version).await?;
        Ok(Arc::new(config).into())
    }
}
