//! The older subscriptions: several optional arguments, of which a client gives exactly one.

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
pub(super) struct EitherTarget;

#[Subscription]
impl EitherTarget {
    /// New readings. Give either `deviceId` or `homeId`.
    #[graphql(deprecation = "Use `homeTelemetry` or `deviceTelemetry`, which can't be given both IDs or none. Their \
                             `afterId` is `after` here.")]
    async fn telemetry<'a>(
        &self,
        ctx: &Context<'a>,
        #[graphql(desc = "The ID of a device: delivers its readings.")] device_id: Option<ID>,
        #[graphql(desc = "The ID of a home: delivers the readings of all its devices.")] home_id: Option<ID>,
        #[graphql(desc = "The last `Telemetry.id` that you received. It is no cursor.")] after: Option<ID>,
    ) -> Result<impl Stream<Item = Result<Direct<Telemetry>>> + 'a> {
        let after = last_received("after", after)?;
        let target = SubscriptionTarget::of_device_or_home(ctx, Permission::ReadTelemetry, device_id, home_id).await?;
        events::readings(ctx, target, after).await
    }

    /// Devices whenever their state changes. Give either `deviceId` or `homeId`.
    #[graphql(deprecation = "Use `homeDeviceUpdates` or `deviceUpdates`, which can't be given both IDs or none.")]
    async fn device_status<'a>(
        &self,
        ctx: &Context<'a>,
        #[graphql(desc = "The ID of a device: delivers its changes.")] device_id: Option<ID>,
        #[graphql(desc = "The ID of a home: delivers the changes of all its devices.")] home_id: Option<ID>,
    ) -> Result<impl Stream<Item = Result<Direct<Device>>> + 'a> {
        let target = SubscriptionTarget::of_device_or_home(ctx, Permission::Read, device_id, home_id).await?;
        events::devices(ctx, target).await
    }

    /// Commands whenever their state changes. Give exactly one of the IDs. With `commandId`, the subscription starts
    /// with the current state.
    #[graphql(
        deprecation = "Use `commandProgress`, `homeCommandUpdates` or `deviceCommandUpdates`, which can't be given \
                             several IDs or none."
    )]
    async fn command_updates<'a>(
        &self,
        ctx: &Context<'a>,
        #[graphql(desc = "The ID of a device: delivers the commands to it.")] device_id: Option<ID>,
        #[graphql(desc = "The ID of a home: delivers the commands to all its devices.")] home_id: Option<ID>,
        #[graphql(desc = "The ID of a command: delivers only this one.")] command_id: Option<ID>,
    ) -> Result<impl Stream<Item = Result<Command>> + 'a> {
        let (target, filter) = SubscriptionTarget::of_commands(ctx, device_id, home_id, command_id).await?;
        events::commands(ctx, target, filter).await
    }

    /// Configuration versions whenever one is pushed or its status changes. Give either `deviceId` or `homeId`.
    #[graphql(deprecation = "Use `homeConfigUpdates` or `deviceConfigUpdates`, which can't be given both IDs or none.")]
    async fn config_updates<'a>(
        &self,
        ctx: &Context<'a>,
        #[graphql(desc = "The ID of a device: delivers its configurations.")] device_id: Option<ID>,
        #[graphql(desc = "The ID of a home: delivers the configurations of all its devices.")] home_id: Option<ID>,
    ) -> Result<impl Stream<Item = Result<DeviceConfig>> + 'a> {
        let target = SubscriptionTarget::of_device_or_home(ctx, Permission::ReadConfig, device_id, home_id).await?;
        events::configs(ctx, target).await
    }
}
