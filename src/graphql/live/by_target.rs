//! Subscriptions with one required target each.

use async_graphql::{Context, ID, Subscription};
use futures_util::Stream;

use super::super::commands::Command;
use super::super::device_config::DeviceConfig;
use super::super::devices::Device;
use super::super::error::Result;
use super::super::rows::Direct;
use super::super::telemetry::Telemetry;
use super::events;
use super::target::{SubscriptionTarget, last_received};
use crate::homes::Permission;

#[derive(Default)]
pub(super) struct ByTarget;

#[Subscription]
impl ByTarget {
    /// New readings of all devices of a home, as soon as they are stored, in the order in which they are stored. With
    /// `afterId`, the subscription first replays all readings stored after that one, then continues live, without gaps
    /// or duplicates. A subscription that falls too far behind ends with LAGGED: subscribe again with the last ID that
    /// you received.
    async fn home_telemetry<'a>(
        &self,
        ctx: &Context<'a>,
        #[graphql(desc = "The ID of the home.")] home_id: ID,
        #[graphql(desc = "The last `Telemetry.id` that you received, or 0 for all stored readings.")] after_id: Option<
            ID,
        >,
    ) -> Result<impl Stream<Item = Result<Direct<Telemetry>>> + 'a> {
        let after = last_received("afterId", after_id)?;
        let target = SubscriptionTarget::of_home(ctx, Permission::ReadTelemetry, &home_id).await?;
        events::readings(ctx, target, after).await
    }

    /// New readings of one device, as `homeTelemetry` delivers them.
    async fn device_telemetry<'a>(
        &self,
        ctx: &Context<'a>,
        #[graphql(desc = "The ID of the device.")] device_id: ID,
        #[graphql(desc = "The last `Telemetry.id` that you received, or 0 for all stored readings.")] after_id: Option<
            ID,
        >,
    ) -> Result<impl Stream<Item = Result<Direct<Telemetry>>> + 'a> {
        let after = last_received("afterId", after_id)?;
        let target = SubscriptionTarget::of_device(ctx, Permission::ReadTelemetry, &device_id).await?;
        events::readings(ctx, target, after).await
    }

    /// The devices of a home whenever their state changes: presence, status or health. Starts with the current state of
    /// each device.
    async fn home_device_updates<'a>(
        &self,
        ctx: &Context<'a>,
        #[graphql(desc = "The ID of the home.")] home_id: ID,
    ) -> Result<impl Stream<Item = Result<Direct<Device>>> + 'a> {
        events::devices(ctx, SubscriptionTarget::of_home(ctx, Permission::Read, &home_id).await?).await
    }

    /// A device whenever its state changes: presence, status or health. Starts with its current state.
    async fn device_updates<'a>(
        &self,
        ctx: &Context<'a>,
        #[graphql(desc = "The ID of the device.")] device_id: ID,
    ) -> Result<impl Stream<Item = Result<Direct<Device>>> + 'a> {
        events::devices(ctx, SubscriptionTarget::of_device(ctx, Permission::Read, &device_id).await?).await
    }

    /// A command whenever its state changes. Starts with its current state. A slow subscriber may miss states that were
    /// already replaced, but never the latest.
    async fn command_progress<'a>(
        &self,
        ctx: &Context<'a>,
        #[graphql(desc = "The ID of the command.")] command_id: ID,
    ) -> Result<impl Stream<Item = Result<Command>> + 'a> {
        let (target, filter) = SubscriptionTarget::of_command(ctx, &command_id).await?;
        events::commands(ctx, target, filter).await
    }

    /// The commands to all devices of a home, whenever their state changes. A slow subscriber may miss states that were
    /// already replaced, but never the latest. A subscription that falls too far behind ends with LAGGED.
    async fn home_command_updates<'a>(
        &self,
        ctx: &Context<'a>,
        #[graphql(desc = "The ID of the home.")] home_id: ID,
    ) -> Result<impl Stream<Item = Result<Command>> + 'a> {
        let target = SubscriptionTarget::of_home(ctx, Permission::ReadCommands, &home_id).await?;
        events::commands(ctx, target, target.all_commands()).await
    }

    /// The commands to one device, as `homeCommandUpdates` delivers them.
    async fn device_command_updates<'a>(
        &self,
        ctx: &Context<'a>,
        #[graphql(desc = "The ID of the device.")] device_id: ID,
    ) -> Result<impl Stream<Item = Result<Command>> + 'a> {
        let target = SubscriptionTarget::of_device(ctx, Permission::ReadCommands, &device_id).await?;
        events::commands(ctx, target, target.all_commands()).await
    }

    /// The configurations of all devices of a home, whenever a version is pushed or its status changes. A slow subscriber
    /// may see a state twice, and may miss states that were already replaced. A subscription that falls too far behind
    /// ends with LAGGED.
    async fn home_config_updates<'a>(
        &self,
        ctx: &Context<'a>,
        #[graphql(desc = "The ID of the home.")] home_id: ID,
    ) -> Result<impl Stream<Item = Result<DeviceConfig>> + 'a> {
        events::configs(ctx, SubscriptionTarget::of_home(ctx, Permission::ReadConfig, &home_id).await?).await
    }

    /// The configurations of one device, as `homeConfigUpdates` delivers them.
    async fn device_config_updates<'a>(
        &self,
        ctx: &Context<'a>,
        #[graphql(desc = "The ID of the device.")] device_id: ID,
    ) -> Result<impl Stream<Item = Result<DeviceConfig>> + 'a> {
        events::configs(ctx, SubscriptionTarget::of_device(ctx, Permission::ReadConfig, &device_id).await?).await
    }
}
