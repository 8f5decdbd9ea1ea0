//! Subscriptions. Each checks the viewer's access, is counted while it runs, and ends when its viewer loses rights in
//! the home. Its hub ends it when its home or its device is deleted, or when another server may ingest. Whatever ends it,
//! the last event is an error that says why.

mod known_devices;
mod sharing;
mod target;

use std::future::ready;
use std::task::Poll;

use async_graphql::{Context, ID};
use futures_util::stream::{self, PollNext};
use futures_util::{Stream, StreamExt};
use prometheus_client::metrics::gauge::Gauge;

use super::commands::Command;
use super::context::ContextExt;
use super::device_config::DeviceConfig;
use super::devices::Device;
use super::error::{ResolverError, Result};
use super::rows::Direct;
use super::telemetry::Telemetry;
use crate::devices::StateItem;
use crate::error::Error;
use crate::follow::Followed;
use crate::homes::Permission;
use crate::ids::{DeviceId, TelemetryId};
use known_devices::KnownDevices;
pub(super) use sharing::{Handover, key, share};
use target::SubscriptionTarget;

/// A member was removed, has left, or has another role.
const RIGHTS_ENDED: Error = Error::Forbidden("your rights in this home have ended or changed");

pub struct Subscription;

/// The subscriptions of the API. A server that is on standby while another one receives the messages of devices ends and refuses
/// them with UNAVAILABLE: connect again, to reach the other one.
#[async_graphql::Subscription]
impl Subscription {
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
        let services = ctx.services();
        let turns = &services.subscription_turns;
        let readings = services.live_readings.follow(target.access, target.device, after, turns)?;
        let devices = KnownDevices::new(ctx, target.access, Some("device"));
        subscription(
            ctx,
            target,
            readings,
            |reading| reading.device,
            move |reading| {
                let devices = devices.clone();
                async move {
                    let device = devices.find(reading.device).await;
                    Direct(Telemetry::with_device(reading, device))
                }
            },
        )
        .await
    }

    /// Devices whenever their state changes: presence, status or health. Starts with the current state of each
    /// device. Give either `deviceId` or `homeId`.
    async fn device_status<'a>(
        &self,
        ctx: &Context<'a>,
        #[graphql(desc = "The ID of a device: delivers its changes.")] device_id: Option<ID>,
        #[graphql(desc = "The ID of a home: delivers the changes of all its devices.")] home_id: Option<ID>,
    ) -> Result<impl Stream<Item = Result<Direct<Device>>> + 'a> {
        let services = ctx.services();
        let target = SubscriptionTarget::of_device_or_home(ctx, Permission::Read, device_id, home_id).await?;
        let (states, turns) = (&services.states, &services.subscription_turns);
        let devices = services.devices.follow(states, target.access, target.device, turns, &services.metrics)?;
        let known = KnownDevices::new(ctx, target.access, None);
        subscription(ctx, target, devices, StateItem::device, move |item| ready(Direct(known.with_state(item)))).await
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
        let services = ctx.services();
        let commands = services.commands.follow(target.access, filter, &services.subscription_turns).await?;
        let devices = KnownDevices::new(ctx, target.access, Some("device"));
        subscription(
            ctx,
            target,
            commands,
            |command| command.device,
            move |command| {
                let devices = devices.clone();
                async move {
                    let device = devices.find(command.device).await;
                    Command(command, device)
                }
            },
        )
        .await
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
        let services = ctx.services();
        let turns = &services.subscription_turns;
        let configs = services.configs.follow(target.access, target.device, turns).await?;
        let devices = KnownDevices::new(ctx, target.access, Some("device"));
        subscription(
            ctx,
            target,
            configs,
            |config| config.device,
            move |config| {
                let devices = devices.clone();
                async move {
                    let device = devices.find(config.device).await;
                    DeviceConfig(config, device)
                }
            },
        )
        .await
    }
}

/// What every subscription has in common. `events` has subscribed to its hub already; nothing is read of it
/// before access is checked again.
async fn subscription<'a, T: Send + 'static, O: Send + 'a, F>(
    ctx: &Context<'a>,
    target: SubscriptionTarget,
    events: impl Stream<Item = std::result::Result<Followed<T>, Error>> + Send + 'static,
    device: fn(&T) -> DeviceId,
    object: impl Fn(T) -> F + Send + 'a,
) -> Result<impl Stream<Item = Result<O>> + 'a>
where
    F: Future<Output = O> + Send + 'a,
{
    let (services, budget) = (ctx.services(), ctx.budget());
    let opened = services.standby.open_stream()?;
    let ended = stream::once(async move { Err(opened.error().unwrap_or(target.not_found())) });
    // Watched from here on: the check of access after it covers what happened before.
    let watch = services.revocations.watch_membership(target.access.user(), target.home());
    let scope = target.check_again(ctx).await?;
    let running = GaugeGuard::new(&services.metrics.subscriptions);
    let is_visible = move |event: &std::result::Result<Followed<T>, Error>| {
        ready(event.as_ref().map_or(true, |event| scope.contains(device(&event.item))))
    };
    let revoked = stream::once(async move {
        watch.revoked().await;
        Err(if watch.is_home_deleted() { target.not_found() } else { RIGHTS_ENDED })
    });
    let events = until_error(events.filter(is_visible).chain(ended), revoked).map(move |event| {
        let _counted = &running;
        match event {
            Ok(Followed { item, renderings }) => (Ok(item), renderings),
            Err(error) => (Err(error), None),
        }
    });
    let events = match ctx.handover() {
        Some(handover) => handover.give(target.access, &services.metrics, events).left_stream(),
        None => events.map(|(event, _)| event).right_stream(),
    };
    Ok(events.then(move |event| {
        budget.reset();
        let object = event.map(&object);
        async move {
            match object {
                Ok(object) => Ok(object.await),
                Err(error) => Err(ResolverError::from(error)),
            }
        }
    }))
}

/// The events up to the first error, of which those of `revoked` come first.
fn until_error<T>(
    events: impl Stream<Item = std::result::Result<T, Error>>,
    revoked: impl Stream<Item = std::result::Result<T, Error>>,
) -> impl Stream<Item = std::result::Result<T, Error>> {
    let mut running = Some(Box::pin(stream::select_with_strategy(revoked, events, |_: &mut ()| PollNext::Left)));
    stream::poll_fn(move |cx| {
        let Some(events) = &mut running else { return Poll::Ready(None) };
        let event = std::task::ready!(events.as_mut().poll_next(cx));
        if !matches!(event, Some(Ok(_))) {
            running = None;
        }
        Poll::Ready(event)
    })
}

/// Counts a subscription while it runs.
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
