//! Subscriptions. Each checks the viewer's access, is counted while it runs, and ends when its viewer loses rights in
//! the home. Its hub ends it when its home or its device is deleted, or when another server may ingest. Whatever ends it,
//! the last event is an error that says why.

mod by_target;
mod either_target;
mod events;
mod known_devices;
mod sharing;
mod target;

use std::future::ready;
use std::pin::pin;

use async_graphql::{Context, MergedSubscription};
use async_stream::stream;
use futures_util::stream::{self, BoxStream, PollNext};
use futures_util::{Stream, StreamExt};
use prometheus_client::metrics::gauge::Gauge;

use super::context::ContextExt;
use super::error::{ResolverError, Result};
use crate::error::Error;
use crate::follow::Followed;
use crate::ids::DeviceId;
use by_target::ByTarget;
use either_target::EitherTarget;
pub(super) use sharing::{Handover, key, share};
use target::SubscriptionTarget;

/// A member was removed, has left, or has another role.
const RIGHTS_ENDED: Error = Error::Forbidden("your rights in this home have ended or changed");

/// The subscriptions of the API. A server that is on standby while another one receives the messages of devices ends and refuses
/// them with UNAVAILABLE: connect again, to reach the other one.
#[derive(MergedSubscription, Default)]
pub struct Subscription(ByTarget, EitherTarget);

/// The events of a subscription. Boxed where they are made: every future that hands them on would carry their memory, and
/// the library keeps those futures as long as the subscription runs.
type Events<T> = BoxStream<'static, std::result::Result<Followed<T>, Error>>;

/// What every subscription has in common. `events` has subscribed to its hub already; nothing is read of it
/// before access is checked again.
async fn subscription<'a, T: Send + 'static, O: Send + 'a, F>(
    ctx: &Context<'a>,
    target: SubscriptionTarget,
    events: Events<T>,
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
        Some(handover) => handover.give(target.access, &services.metrics, events),
        None => events.map(|(event, _)| event).boxed(),
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
    stream! {
        let mut events = pin!(stream::select_with_strategy(revoked, events, |_: &mut ()| PollNext::Left));
        while let Some(event) = events.next().await {
            let is_last = event.is_err();
            yield event;
            if is_last {
                break;
            }
        }
    }
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
