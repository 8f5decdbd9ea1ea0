//! Work that holds a connection runs in a task of its own.
//!
//! A future inside a stream is polled only while the stream's consumer reads. A consumer that stops reading would
//! keep the connection for as long as it likes; a task continues without being polled by it.

use std::panic::resume_unwind;

use tokio::task::{JoinSet, unconstrained};
use tracing::Instrument;

/// Runs `work` in a task and waits for it. The task makes progress while this future is not polled, and is
/// aborted when this future is dropped.
pub async fn spawn_and_join<F>(work: F) -> F::Output
where
    F: Future<Output: Send> + Send + 'static,
{
    let mut task = JoinSet::new();
    task.spawn(work.in_current_span());
    // Outside tokio's cooperative budget: a finished task must be seen at once, or a data loader's next batch
    // would be sent without its result.
    match unconstrained(task.join_next()).await {
        Some(Ok(output)) => output,
        Some(Err(error)) => resume_unwind(error.into_panic()),
        None => unreachable!("one task was spawned"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn the_task_finishes_unpolled_and_is_aborted_when_dropped() {
        let (done, is_done) = oneshot::channel();
        let mut work = Box::pin(spawn_and_join(async move { done.send(()) }));
        assert!(futures_util::poll!(&mut work).is_pending());
        is_done.await.unwrap();
        assert_eq!(work.await, Ok(()));

        let (resource, is_released) = oneshot::channel::<()>();
        let mut work = Box::pin(spawn_and_join(async move {
            let _resource = resource;
            std::future::pending::<()>().await;
        }));
        assert!(futures_util::poll!(&mut work).is_pending());
        drop(work);
        assert!(is_released.await.is_err());
    }
}
