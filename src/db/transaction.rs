//! Write transactions that outlive their caller: each runs in a task of its own until it has committed or
//! rolled back, and then notifies others in the same task. A request that is dropped half-way cuts neither.

use std::marker::PhantomData;

use diesel_async::AsyncConnection;
use futures_util::future::BoxFuture;
use tracing::Instrument;

use super::{Connection, Pool};
use crate::error::Error;

/// A transaction that starts when it is awaited.
#[must_use = "a transaction runs when it is awaited"]
pub struct Transaction<'p, T, F, A> {
    pool: &'p Pool,
    work: F,
    after_commit: A,
    done: PhantomData<fn() -> T>,
}

/// Runs `work` in one transaction. Commits when it succeeds, rolls back when it fails. If the connection is lost
/// during the commit, the error is [`Error::OutcomeUnknown`].
pub fn transaction<T, F>(pool: &Pool, work: F) -> Transaction<'_, T, F, fn(T) -> T>
where
    F: for<'c> FnOnce(&'c mut Connection) -> BoxFuture<'c, Result<T, Error>>,
{
    Transaction { pool, work, after_commit: |done| done, done: PhantomData }
}

impl<'p, T, F> Transaction<'p, T, F, fn(T) -> T> {
    /// Runs `notify` with the outcome once it is committed, even if the caller is gone by then. It is for events,
    /// revocations and wake-ups, and may turn the outcome into another one.
    pub fn after_commit<U, A: FnOnce(T) -> U>(self, notify: A) -> Transaction<'p, T, F, A> {
        let Self { pool, work, done, .. } = self;
        Transaction { pool, work, after_commit: notify, done }
    }
}

impl<'p, T, U, F, A> IntoFuture for Transaction<'p, T, F, A>
where
    T: Send + 'static,
    U: Send + 'static,
    F: for<'c> FnOnce(&'c mut Connection) -> BoxFuture<'c, Result<T, Error>> + Send + Sync + 'static,
    A: FnOnce(T) -> U + Send + 'static,
{
    type Output = Result<U, Error>;
    type IntoFuture = BoxFuture<'p, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { pool, work, after_commit, .. } = self;
        Box::pin(async move {
            let mut conn = pool.get_owned().await?;
            run_to_completion(async move {
                let mut is_committing = false;
                let done = conn.transaction(async |conn| {
                    let done = work(conn).await?;
                    is_committing = true;
                    Ok(done)
                });
                let done: Result<T, Error> = done.await;
                done.map(after_commit).map_err(|error| if is_committing { error.of_commit() } else { error })
            })
            .await
        })
    }
}

/// Runs work of several transactions to its end, even if the caller is dropped.
pub async fn run_to_completion<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    tokio::spawn(work.in_current_span()).await.map_err(Error::internal)?
}
