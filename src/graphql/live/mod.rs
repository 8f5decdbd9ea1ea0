//! Subscriptions. Each opens with a check of the viewer's membership, is counted while it runs, and
//! ends when its home or its device is deleted or its viewer loses rights in the home.

mod commands;
mod states;
mod until;

use std::collections::HashSet;
use std::future::ready;

use async_graphql::{Context, ID};
use futures_util::{Stream, StreamExt};
use prometheus_client::metrics::gauge::Gauge;

use super::commands::Command;
use super::context::ContextExt;
use super::device_config::DeviceConfig;
use super::devices::Device;
use super::error::{ResolverError, Result};
use super::scalars::parse_id;
use super::telemetry::Telemetry;
use crate::auth::Principal;
use crate::db::spawn_and_join;
use crate::error::Error;
use crate::homes::{Access, Permission};
use crate::ids::{DeviceId, HomeId, TelemetryId};

/// What is pushed.
pub struct Subscription;

/// Whose events are wanted: all of a home, or one device's.
#[derive(Clone, Copy)]
struct SubscriptionTarget {
    home: HomeId,
    device: Option<DeviceId>,
    /// What the events are of.
    permission: Permission,
}

/// The devices of a home whose events somebody is told of.
struct DeviceScope(Option<HashSet<DeviceId>>);

impl DeviceScope {
    fn contains(&self, device: DeviceId) -> bool {
        self.0.as_ref().is_none_or(|devices| devices.contains(&device))
    }
}

/// Counts a subscription for as long as it lives.
struct GaugeGuard(Gauge);

impl GaugeGuard {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What is pushed.
#[async_graphql::Subscription]
impl Subscription {
    /// Readings, each as soon as it is committed, in the order of commits. Give either `deviceId` or
    /// `homeId`. With `after`, what was stored after that reading comes first: no gap, nothing twice. A
    /// subscriber that can't keep up at all is told LAGGED: subscribe again with the last id it saw.
    async fn telemetry<'a>(
        &self,
        ctx: &Context<'a>,
        #[graphql(desc = "Readings of this device.")] device_id: Option<ID>,
        #[graphql(desc = "Readings of all devices of this home.")] home_id: Option<ID>,
        #[graphql(desc = "The last `Telemetry.id` you have seen.")] after: Option<ID>,
    ) -> Result<impl Stream<Item = Result<Telemetry>> + 'a> {
        let services = ctx.services();
        let after: Option<TelemetryId> = after
            .map(|after| after.parse())
            .transpose()
            .map_err(|_| Error::bad_input("after", "after must be the id of a reading"))?;
        let target = target(ctx, Permission::ReadTelemetry, device_id, home_id).await?;
        let gone = until::end_of_subscription(services, ctx.viewer()?.user, target);
        let readings = services.live_readings.stream(target.home, target.device, after);
        let reach = verify(ctx, target).await?;
        let (running, budget) = (GaugeGuard::new(&services.metrics.subscriptions), ctx.budget());
        let readings =
            readings.filter(move |reading| ready(reading.as_ref().map_or(true, |it| reach.contains(it.device))));
        Ok(readings.take_until(gone).map(move |reading| {
            let _counted = &running;
            budget.reset();
            reading.map(Telemetry).map_err(ResolverError::from)
        }))
    }

    /// Devices whenever their state changes: presence, status, health. Opens with the present state of
    /// each. Give either `deviceId` or `homeId`.
    async fn device_status<'a>(
        &self,
        ctx: &Context<'a>,
        #[graphql(desc = "Changes of this device.")] device_id: Option<ID>,
        #[graphql(desc = "Changes of all devices of this home.")] home_id: Option<ID>,
    ) -> Result<impl Stream<Item = Result<Device>> + 'a> {
        let services = ctx.services();
        let viewer = ctx.viewer()?;
        let target = target(ctx, Permission::Read, device_id, home_id).await?;
        let gone = until::end_of_subscription(services, viewer.user, target);
        // What is read again for each event tells which devices the viewer reaches.
        let states = states::stream(services, viewer.user, target);
        verify(ctx, target).await?;
        let (running, budget) = (GaugeGuard::new(&services.metrics.subscriptions), ctx.budget());
        Ok(states.take_until(gone).map(move |device| {
            let _counted = &running;
            budget.reset();
            device
        }))
    }

    /// Commands whenever they change, each as it then stands. Give exactly one of the ids; with `commandId`
    /// its present state comes first. A subscriber that falls behind is caught up: a state that was followed
    /// by another meanwhile may be left out, the last one never.
    async fn command_updates<'a>(
        &self,
        ctx: &Context<'a>,
        #[graphql(desc = "Commands to this device.")] device_id: Option<ID>,
        #[graphql(desc = "Commands to all devices of this home.")] home_id: Option<ID>,
        #[graphql(desc = "This command alone.")] command_id: Option<ID>,
    ) -> Result<impl Stream<Item = Result<Command>> + 'a> {
        let services = ctx.services();
        let wanted = commands::wanted(ctx, device_id, home_id, command_id).await?;
        let target = wanted.target;
        let gone = until::end_of_subscription(services, ctx.viewer()?.user, target);
        let commands = commands::stream(services, wanted).await?;
        let reach = verify(ctx, target).await?;
        let (running, budget) = (GaugeGuard::new(&services.metrics.subscriptions), ctx.budget());
        let commands =
            commands.filter(move |command| ready(command.as_ref().map_or(true, |it| reach.contains(it.0.device))));
        Ok(commands.take_until(gone).map(move |command| {
            let _counted = &running;
            budget.reset();
            command
        }))
    }

    /// Versions of configurations whenever one is pushed or its status changes. Give either `deviceId` or
    /// `homeId`. To a subscriber that fell behind a state may come again; none is left out but for those a
    /// newer one of the same version has replaced.
    async fn config_updates<'a>(
        &self,
        ctx: &Context<'a>,
        #[graphql(desc = "Configurations of this device.")] device_id: Option<ID>,
        #[graphql(desc = "Configurations of all devices of this home.")] home_id: Option<ID>,
    ) -> Result<impl Stream<Item = Result<DeviceConfig>> + 'a> {
        let services = ctx.services();
        let target = target(ctx, Permission::ReadConfig, device_id, home_id).await?;
        let gone = until::end_of_subscription(services, ctx.viewer()?.user, target);
        let configs = services.configs.follow(target.home, target.device).await?;
        let reach = verify(ctx, target).await?;
        let (running, budget) = (GaugeGuard::new(&services.metrics.subscriptions), ctx.budget());
        let configs = configs.filter(move |config| ready(config.as_ref().map_or(true, |it| reach.contains(it.device))));
        Ok(configs.take_until(gone).map(move |config| {
            let _counted = &running;
            budget.reset();
            config.map(DeviceConfig).map_err(ResolverError::from)
        }))
    }
}

/// Exactly one of the two ids, and the right to read what it names.
async fn target(
    ctx: &Context<'_>,
    permission: Permission,
    device_id: Option<ID>,
    home_id: Option<ID>,
) -> Result<SubscriptionTarget> {
    let viewer = ctx.viewer()?;
    match (device_id, home_id) {
        (Some(id), None) => {
            let (devices, viewer, id) = (ctx.services().devices.clone(), viewer.user, parse_id(&id, "device")?);
            let device = spawn_and_join(async move { devices.find(viewer, id).await }).await?;
            let access = device.allow(permission)?;
            Ok(SubscriptionTarget { home: access.home(), device: Some(device.id), permission })
        }
        (None, Some(id)) => {
            let access = access(ctx, viewer, parse_id(&id, "home")?, permission).await?;
            Ok(SubscriptionTarget { home: access.home(), device: None, permission })
        }
        _ => Err(Error::bad_input("deviceId", "give exactly one of deviceId and homeId").into()),
    }
}

async fn access(ctx: &Context<'_>, viewer: &Principal, home: HomeId, permission: Permission) -> Result<Access> {
    let (homes, viewer) = (ctx.services().homes.clone(), viewer.clone());
    Ok(spawn_and_join(async move { homes.access(&viewer, home, permission).await }).await?)
}

/// Once more, now that the hubs are listened to: what was deleted in between would never end. Tells of
/// which devices the viewer may hear: an integration is made for these or for all, and that never changes.
async fn verify(ctx: &Context<'_>, target: SubscriptionTarget) -> Result<DeviceScope> {
    let (services, viewer) = (ctx.services(), ctx.viewer()?);
    match target.device {
        Some(device) => {
            let (devices, viewer) = (services.devices.clone(), viewer.user);
            spawn_and_join(async move { devices.find(viewer, device).await }).await?.allow(target.permission)?;
            Ok(DeviceScope(None))
        }
        None => {
            let access = access(ctx, viewer, target.home, target.permission).await?;
            let integrations = services.integrations.clone();
            let devices = spawn_and_join(async move { integrations.reach(access).await }).await?;
            Ok(DeviceScope(devices.map(HashSet::from_iter)))
        }
    }
}
