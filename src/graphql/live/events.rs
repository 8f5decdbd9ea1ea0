//! The events of subscriptions to a target whose access was checked.

use std::future::ready;

use async_graphql::Context;
use futures_util::{Stream, StreamExt};

use super::super::commands::Command;
use super::super::context::ContextExt;
use super::super::device_config::DeviceConfig;
use super::super::devices::Device;
use super::super::error::Result;
use super::super::rows::Direct;
use super::super::telemetry::Telemetry;
use super::known_devices::KnownDevices;
use super::target::SubscriptionTarget;
use super::{Events, subscription};
use crate::commands::CommandFilter;
use crate::devices::StateItem;
use crate::ids::DeviceId;
use crate::telemetry::LastReceived;

/// New readings, after those that were stored since `after`.
pub(super) async fn readings<'a>(
    ctx: &Context<'a>,
    target: SubscriptionTarget,
    after: Option<LastReceived>,
) -> Result<impl Stream<Item = Result<Direct<Telemetry>>> + 'a> {
    let services = ctx.services();
    let turns = &services.subscription_turns;
    let readings = services.live_readings.follow(target.access, target.device, after, turns)?;
    let object = |reading, device| Direct(Telemetry::with_device(reading, device));
    with_devices(ctx, target, readings.boxed(), |reading| reading.device, object).await
}

/// The present devices, then each device whose state changes.
pub(super) async fn devices<'a>(
    ctx: &Context<'a>,
    target: SubscriptionTarget,
) -> Result<impl Stream<Item = Result<Direct<Device>>> + 'a> {
    let services = ctx.services();
    let (states, turns) = (&services.states, &services.subscription_turns);
    let devices = services.devices.follow(states, target.access, target.device, turns, &services.metrics)?;
    let known = KnownDevices::new(ctx, target.access, None);
    subscription(ctx, target, devices.boxed(), StateItem::device, move |item| ready(Direct(known.with_state(item))))
        .await
}

/// Commands whose state changes.
pub(super) async fn commands<'a>(
    ctx: &Context<'a>,
    target: SubscriptionTarget,
    filter: CommandFilter,
) -> Result<impl Stream<Item = Result<Command>> + 'a> {
    let services = ctx.services();
    let commands = services.commands.follow(target.access, filter, &services.subscription_turns).await?;
    with_devices(ctx, target, commands.boxed(), |command| command.device, Command).await
}

/// Configurations that are pushed or whose status changes.
pub(super) async fn configs<'a>(
    ctx: &Context<'a>,
    target: SubscriptionTarget,
) -> Result<impl Stream<Item = Result<DeviceConfig>> + 'a> {
    let services = ctx.services();
    let configs = services.configs.follow(target.access, target.device, &services.subscription_turns).await?;
    with_devices(ctx, target, configs.boxed(), |config| config.device, DeviceConfig).await
}

/// Events with a field `device`.
async fn with_devices<'a, T: Send + 'static, O: Send + 'a>(
    ctx: &Context<'a>,
    target: SubscriptionTarget,
    events: Events<T>,
    device: fn(&T) -> DeviceId,
    object: fn(T, Option<Device>) -> O,
) -> Result<impl Stream<Item = Result<O>> + 'a> {
    let devices = KnownDevices::new(ctx, target.access, Some("device"));
    let with_device = move |event: T| {
        let devices = devices.clone();
        async move {
            let device = devices.find(device(&event)).await;
            object(event, device)
        }
    };
    subscription(ctx, target, events, device, with_device).await
}
