//! Subscriptions. Each checks the viewer's access, is counted while it runs, and ends when its viewer loses rights in
//! the home. Its hub ends it when its home or its device is deleted, or when another server may ingest. Whatever ends it,
//! the last event is an error that says why.

mod by_target;
mod either_target;
mod events;
mod known_devices;
mod sharing;
mod target;

use std::task::{Poll, ready};

use async_graphql::{Context, MergedSubscription};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, Stream, StreamExt};
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
    // Watched from here on: the check of access after it covers what happened before.
    let watch = services.revocations.watch_membership(target.access.user(), target.home());
    let scope = target.check_again(ctx).await?;
    let running = GaugeGuard::new(&services.metrics.subscriptions);
    let revoked = async move {
        watch.revoked().await;
        if watch.is_home_deleted() { target.not_found() } else { RIGHTS_ENDED }
    };
    let ended = move || opened.error().unwrap_or(target.not_found());
    let mut events = until_error(events, revoked.boxed(), ended);
    let events = stream::poll_fn(move |cx| {
        let _counted = &running;
        loop {
            let event = match ready!(events.poll_next_unpin(cx)) {
                Some(Ok(event)) if !scope.contains(device(&event.item)) => continue,
                Some(Ok(Followed { item, renderings })) => Some((Ok(item), renderings)),
                Some(Err(error)) => Some((Err(error), None)),
                None => None,
            };
            return Poll::Ready(event);
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

/// The events up to the first error, which is the last item. As soon as the rights have ended, it is the one of `revoked`; where
/// the events end without an error, the one of `ended`.
//
// Without `async_stream`, whose generator takes several times the memory: a thousand of these run at each event.
fn until_error<T: Send + 'static>(
    mut events: Events<T>,
    mut revoked: BoxFuture<'static, Error>,
    ended: impl Fn() -> Error + Send + 'static,
) -> impl Stream<Item = std::result::Result<Followed<T>, Error>> + Unpin + Send + 'static {
    let mut is_over = false;
    stream::poll_fn(move |cx| {
        if is_over {
            return Poll::Ready(None);
        }
        let event = match revoked.poll_unpin(cx) {
            Poll::Ready(error) => Err(error),
            Poll::Pending => ready!(events.poll_next_unpin(cx)).unwrap_or_else(|| Err(ended())),
        };
        is_over = event.is_err();
        Poll::Ready(Some(event))
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
