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

use super::super::request_error::RequestError;
use crate::db::{MAX_OPERATION_BYTES, MemoryBudget};

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
    held: MemoryBudget,
    refusal: OnceLock<RequestError>,
    over: CancellationToken,
}

impl Budget {
    /// Takes so many objects, or ends the operation; `exhausted` counts those that came to their end.
    pub(in crate::graphql) async fn charge_objects(&self, n_objects: usize, exhausted: &Counter) {
        let before = self.0.objects.fetch_add(n_objects, Ordering::Relaxed);
        if before.saturating_add(n_objects) > MAX_OBJECTS {
            let message = format!("the operation asks for more than {MAX_OBJECTS} objects");
            self.end(RequestError::too_complex(message), exhausted).await;
        }
    }

    /// Gives back objects that were taken and are not there.
    pub(in crate::graphql) fn refund(&self, n_objects: usize) {
        self.0.objects.fetch_sub(n_objects, Ordering::Relaxed);
    }

    /// Takes the memory of so many fields, or ends the operation.
    pub(in crate::graphql) async fn charge_fields(&self, n_fields: usize, exhausted: &Counter) {
        self.charge_bytes(n_fields.saturating_mul(FIELD_BYTES), exhausted).await;
    }

    /// Takes so many bytes, or ends the operation.
    pub(in crate::graphql) async fn charge_bytes(&self, bytes: usize, exhausted: &Counter) {
        if self.0.held.charge(bytes).is_err() {
            self.end_memory_exhausted(exhausted).await;
        }
    }

    /// What may still be read of the database.
    pub(in crate::graphql) fn held(&self) -> &MemoryBudget {
        &self.0.held
    }

    /// Ends the operation, whose reading came to the end of [`Budget::held`].
    pub(in crate::graphql) async fn end_memory_exhausted(&self, exhausted: &Counter) {
        let message = format!("the operation asks for more than {MAX_OPERATION_BYTES} bytes: ask for less at a time");
        self.end(RequestError::too_large(message), exhausted).await;
    }

    async fn end(&self, refusal: RequestError, exhausted: &Counter) {
        if self.0.refusal.set(refusal).is_ok() {
            exhausted.inc();
            self.0.over.cancel();
        }
        pending::<()>().await;
    }

    /// Runs something of the operation to its end or to the end of the budget.
    pub async fn run_within<T>(&self, running: impl Future<Output = T>) -> Result<T, RequestError> {
        tokio::select! {
            biased;
            () = self.0.over.cancelled() => Err(self.0.refusal.get().expect("set before it is over").clone()),
            ended = running => Ok(ended),
        }
    }

    /// Starts anew, at an event.
    pub(in crate::graphql) fn reset(&self) {
        self.0.objects.store(0, Ordering::Relaxed);
        self.0.held.reset();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn what_is_spent_ends_the_operation_and_is_counted_once() {
        let (budget, exhausted) = (Budget::default(), Counter::default());
        assert!(budget.charge_objects(MAX_OBJECTS, &exhausted).now_or_never().is_some());
        budget.refund(1);
        assert!(budget.charge_objects(1, &exhausted).now_or_never().is_some());
        budget.reset();
        assert!(budget.charge_bytes(MAX_OPERATION_BYTES, &exhausted).now_or_never().is_some());
        budget.reset();
        let running = async {
            budget.charge_fields(MAX_OPERATION_BYTES / FIELD_BYTES, &exhausted).await;
            tokio::join!(budget.charge_objects(MAX_OBJECTS + 1, &exhausted), budget.charge_bytes(1, &exhausted));
        };
        let mut running = std::pin::pin!(budget.run_within(running));
        // Noticed at the next look.
        assert!(running.as_mut().now_or_never().is_none());
        let refusal = running.now_or_never().unwrap().unwrap_err();
        assert_eq!((refusal.code(), exhausted.get()), ("BAD_USER_INPUT", 1));
    }
}
