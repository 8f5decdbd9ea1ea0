//! The budget of one operation: how many objects and bytes it may load. Complexity is checked before the
//! operation runs, with assumed lengths of lists and sizes of values; the budget counts the real ones.
//!
//! An operation that exhausts its budget is stopped and gets one error. An error for each of its fields would be
//! as large as the refused response.

use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use prometheus_client::metrics::counter::Counter;
use tokio_util::sync::CancellationToken;

use super::super::request::RequestId;
use super::super::request_error::RequestError;
use crate::db::{MAX_OPERATION_BYTES, MemoryBudget, spawn_and_join};
use crate::request_memory::Reservation;
use crate::turns::UserTurns;

/// Most objects in all lists of one operation, or of one event of a subscription.
const MAX_OBJECTS: usize = 50_000;
/// Approximate memory of one field of a response before it is written.
const FIELD_BYTES: usize = 64;

/// What one operation has used: request data of every operation. Clones share one count.
#[derive(Clone, Default)]
pub struct Budget(Arc<Used>);

#[derive(Default)]
struct Used {
    request: RequestId,
    objects: AtomicUsize,
    memory: MemoryBudget,
    /// Of its user's statements.
    turns: Option<UserTurns>,
    /// Why the operation ends.
    error: OnceLock<RequestError>,
    exhausted: CancellationToken,
}

impl Budget {
    /// A budget whose memory counts for the operation's user and address.
    pub(in crate::graphql) fn within(reservation: Reservation, turns: Option<UserTurns>) -> Self {
        Self(Arc::new(Used { memory: MemoryBudget::within(reservation), turns, ..Used::default() }))
    }

    /// Runs a statement when it is its turn. On a task of its own: the client of the operation may have stopped reading,
    /// and then nothing polls it.
    pub(in crate::graphql) async fn run_statement<T>(&self, work: impl Future<Output = T> + Send + 'static) -> T
    where
        T: Send + 'static,
    {
        match &self.0.turns {
            Some(turns) => turns.run(work).await,
            None => spawn_and_join(work).await,
        }
    }

    /// Charges objects, or ends the operation. `exhausted` counts operations that were ended.
    pub(in crate::graphql) async fn charge_objects(&self, n_objects: usize, exhausted: &Counter) {
        let before = self.0.objects.fetch_add(n_objects, Ordering::Relaxed);
        if before.saturating_add(n_objects) > MAX_OBJECTS {
            let message = format!("the operation asks for more than {MAX_OBJECTS} objects");
            self.end(RequestError::too_complex(message), exhausted).await;
        }
    }

    /// Refunds objects that were charged and do not exist.
    pub(in crate::graphql) fn refund(&self, n_objects: usize) {
        self.0.objects.fetch_sub(n_objects, Ordering::Relaxed);
    }

    /// Charges the memory of fields, or ends the operation.
    pub(in crate::graphql) async fn charge_fields(&self, n_fields: usize, exhausted: &Counter) {
        self.charge_bytes(n_fields.saturating_mul(FIELD_BYTES), exhausted).await;
    }

    /// Charges bytes, or ends the operation.
    pub(in crate::graphql) async fn charge_bytes(&self, bytes: usize, exhausted: &Counter) {
        if self.0.memory.charge(bytes).is_err() {
            self.end_memory_exhausted(exhausted).await;
        }
    }

    /// Charges bytes that are held for a moment, and reserves the JSON that was made of them, or ends the operation.
    pub(in crate::graphql) async fn charge_row(&self, bytes: usize, json_bytes: usize, exhausted: &Counter) {
        let memory = &self.0.memory;
        if memory.charge_unreserved(bytes).is_err() || memory.reserve(json_bytes).is_err() {
            self.end_memory_exhausted(exhausted).await;
        }
    }

    pub(in crate::graphql) fn request_id(&self) -> RequestId {
        self.0.request
    }

    /// The budget for bytes that the operation reads from the database.
    pub(in crate::graphql) fn memory(&self) -> &MemoryBudget {
        &self.0.memory
    }

    /// Ends the operation because it exhausted [`Budget::memory`].
    pub(in crate::graphql) async fn end_memory_exhausted(&self, exhausted: &Counter) {
        if let Some(exceeded) = self.0.memory.refused() {
            self.end(exceeded.into(), exhausted).await;
        }
        let message = format!("the operation asks for more than {MAX_OPERATION_BYTES} bytes: ask for less at a time");
        self.end(RequestError::too_large(message), exhausted).await;
    }

    async fn end(&self, error: RequestError, exhausted: &Counter) {
        if self.0.error.set(error).is_ok() {
            exhausted.inc();
            self.0.exhausted.cancel();
        }
        // The engine drops the operation here.
        pending::<()>().await;
    }

    /// Runs a part of the operation until it ends or exhausts the budget.
    pub async fn run_within<T>(&self, running: impl Future<Output = T>) -> Result<T, RequestError> {
        tokio::select! {
            biased;
            () = self.0.exhausted.cancelled() => Err(self.0.error.get().expect("set before the token").clone()),
            ended = running => Ok(ended),
        }
    }

    /// Returns the memory of rows and values, once the response is complete.
    pub(in crate::graphql) fn release(&self) {
        self.0.memory.reservation().shrink_to(0);
    }

    /// Resets the counts, at each event of a subscription.
    pub(in crate::graphql) fn reset(&self) {
        self.0.objects.store(0, Ordering::Relaxed);
        self.0.memory.reset();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn an_exhausted_budget_ends_the_operation_and_is_counted_once() {
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
        // The first poll exhausts the budget, the second one notices.
        assert!(running.as_mut().now_or_never().is_none());
        let error = running.now_or_never().unwrap().unwrap_err();
        assert_eq!((error.code(), exhausted.get()), ("BAD_USER_INPUT", 1));
    }
}
