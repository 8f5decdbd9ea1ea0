//! Subscriptions with several optional arguments, of which a client gives exactly one.

use async_graphql::{Context, ID, Subscription};
use futures_util::Stream;

use super::super::commands::Command;
use super::super::device_config::DeviceConfig;
use super::super::devices::Device;
use super::super::error::Result;
use super::super::rows::Direct;
use super::super::telemetry::Telemetry;
use super::events;
use super::target::SubscriptionTarget;
use crate::error::Error;
use crate::homes::Permission;
use crate::ids::TelemetryId;

#[derive(Default)]
pub(super) struct EitherTarget;

#[Subscription]
impl EitherTarget {
    /// New readings, as soon as they are stored, in the order in which they are stored. Give either `deviceId` or
    /// `homeId`. With `after`, the subscription first replays all readings stored after that one, then continues
    /// live, without gaps or duplicates. A subscription that falls too far behind ends with LAGGED: subscribe again
    /// with the last ID that you received.
    async fn telemetry<'a>(
        &self,
        ctx: &Context<'a>,
        #[graphql(desc = "The ID of a device: delivers its readings.")] device_id: Option<ID>,
        #[graphql(desc = "The ID of a home: delivers the readings of all its devices.")] home_id: Option<ID>,
        #[graphql(desc = "The last `Telemetry.id` that you received.")] after: Option<ID>,
    ) -> Result<impl Stream<Item = Result<Direct<Telemetry>>> + 'a> {
        let after: Option<TelemetryId> = after
            .map(|after| after.parse())
            .transpose()
            .map_err(|_| Error::bad_input("after", "after must be the id of a reading"))?;
        let target = SubscriptionTarget::of_device_or_home(ctx, Permission::ReadTelemetry, device_id, home_id).await?;
        events::readings(ctx, target, after).await
    }

    /// Devices whenever their state changes: presence, status or health. Starts with the current state of each
    /// device. Give either `deviceId` or `homeId`.
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
    /// with the current state. A slow subscriber may miss states that were already replaced, but never the latest.
    /// A subscription that falls too far behind ends with LAGGED.
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

    /// Configuration versions whenever one is pushed or its status changes. Give either `deviceId` or `homeId`. A slow
    /// subscriber may see a state twice, and may miss states that were already replaced. A subscription that falls
    /// too far behind ends with LAGGED.
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
