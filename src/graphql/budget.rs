//! What one operation may still ask for. The price of a query is judged before it runs, and there a
//! list without pages is taken to be short, and a value to be small; this counts what they really are.
//!
//! Who comes to the end of a budget goes no further: the engine stops the operation and answers with the
//! one error. An error for each field that was asked for would be as large as what is refused.

use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use prometheus_client::metrics::counter::Counter;
use tokio_util::sync::CancellationToken;

use super::answer::Refusal;
use crate::db::{Allowance, MAX_HELD_BYTES};

/// Most objects that the lists of one operation, or of one event of a subscription, may hold together.
pub const MAX_OBJECTS: usize = 50_000;
/// About what a field of an object takes in memory, before it is written.
const FIELD_BYTES: usize = 64;

/// What was asked for so far: request data of every operation. All clones are one.
#[derive(Clone, Default)]
pub struct Budget(Arc<Spent>);

#[derive(Default)]
struct Spent {
    objects: AtomicUsize,
    held: Allowance,
    refusal: OnceLock<Refusal>,
    over: CancellationToken,
}

impl Budget {
    /// Takes so many objects, or ends the operation; `exhausted` counts those that came to their end.
    pub(super) async fn spend(&self, n_objects: usize, exhausted: &Counter) {
        let before = self.0.objects.fetch_add(n_objects, Ordering::Relaxed);
        if before.saturating_add(n_objects) > MAX_OBJECTS {
            let message = format!("the operation asks for more than {MAX_OBJECTS} objects");
            self.end(Refusal::too_complex(message), exhausted).await;
        }
    }

    /// Gives back objects that were taken and are not there.
    pub(super) fn give_back(&self, n_objects: usize) {
        self.0.objects.fetch_sub(n_objects, Ordering::Relaxed);
    }

    /// Takes the memory of so many fields, or ends the operation.
    pub(super) async fn fill(&self, n_fields: usize, exhausted: &Counter) {
        self.hold(n_fields.saturating_mul(FIELD_BYTES), exhausted).await;
    }

    /// Takes so many bytes, or ends the operation.
    pub(super) async fn hold(&self, bytes: usize, exhausted: &Counter) {
        if self.0.held.take(bytes).is_err() {
            self.too_much_held(exhausted).await;
        }
    }

    /// What may still be read of the database.
    pub(super) fn held(&self) -> &Allowance {
        &self.0.held
    }

    /// Ends the operation, whose reading came to the end of [`Budget::held`].
    pub(super) async fn too_much_held(&self, exhausted: &Counter) {
        let message = format!("the operation asks for more than {MAX_HELD_BYTES} bytes: ask for less at a time");
        self.end(Refusal::too_large(message), exhausted).await;
    }

    async fn end(&self, refusal: Refusal, exhausted: &Counter) {
        if self.0.refusal.set(refusal).is_ok() {
            exhausted.inc();
            self.0.over.cancel();
        }
        pending::<()>().await;
    }

    /// Runs something of the operation to its end or to the end of the budget.
    pub async fn bound<T>(&self, running: impl Future<Output = T>) -> Result<T, Refusal> {
        tokio::select! {
            biased;
            () = self.0.over.cancelled() => Err(self.0.refusal.get().expect("set before it is over").clone()),
            ended = running => Ok(ended),
        }
    }

    /// Starts anew, at an event.
    pub(super) fn renew(&self) {
        self.0.objects.store(0, Ordering::Relaxed);
        self.0.held.renew();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn what_is_spent_ends_the_operation_and_is_counted_once() {
        let (budget, exhausted) = (Budget::default(), Counter::default());
        assert!(budget.spend(MAX_OBJECTS, &exhausted).now_or_never().is_some());
        budget.give_back(1);
        assert!(budget.spend(1, &exhausted).now_or_never().is_some());
        budget.renew();
        assert!(budget.hold(MAX_HELD_BYTES, &exhausted).now_or_never().is_some());
        budget.renew();
        let running = async {
            budget.fill(MAX_HELD_BYTES / FIELD_BYTES, &exhausted).await;
            tokio::join!(budget.spend(MAX_OBJECTS + 1, &exhausted), budget.hold(1, &exhausted));
        };
        let mut running = std::pin::pin!(budget.bound(running));
        // Noticed at the next look.
        assert!(running.as_mut().now_or_never().is_none());
        let refusal = running.now_or_never().unwrap().unwrap_err();
        assert_eq!((refusal.code(), exhausted.get()), ("BAD_USER_INPUT", 1));
    }
}
