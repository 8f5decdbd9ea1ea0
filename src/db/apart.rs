//! Work that holds a connection, in a task of its own.
//!
//! A future that waits inside a stream is only polled while its reader reads: a reader that stops
//! would keep the connection for as long as it likes. A task goes on by itself.

use std::panic::resume_unwind;

use tokio::task::{JoinSet, unconstrained};

/// Runs a future to its end whether or not this one is polled meanwhile; dropping this one ends it.
pub async fn apart<F>(work: F) -> F::Output
where
    F: Future<Output: Send> + Send + 'static,
{
    let mut task = JoinSet::new();
    task.spawn(work);
    // Out of tokio's budget: what has ended is not to come late for the next batch of a loader.
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
    async fn it_ends_without_being_polled_and_with_being_dropped() {
        let (done, is_done) = oneshot::channel();
        let mut work = Box::pin(apart(async move { done.send(()) }));
        assert!(futures_util::poll!(&mut work).is_pending());
        is_done.await.unwrap();
        assert_eq!(work.await, Ok(()));

        let (held, is_free) = oneshot::channel::<()>();
        let mut work = Box::pin(apart(async move {
            let _held = held;
            std::future::pending::<()>().await;
        }));
        assert!(futures_util::poll!(&mut work).is_pending());
        drop(work);
        assert!(is_free.await.is_err());
    }
}
