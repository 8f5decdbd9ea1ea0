//! Write transactions that a dropped request can't cut in half: each runs in a task of its own, to
//! its commit or its rollback, whatever becomes of the caller; and what is to be told of a commit is told
//! in that task too.

use diesel_async::{AsyncConnection, AsyncPgConnection};
use futures_util::future::BoxFuture;

use super::Pool;
use crate::error::Error;

/// Runs `work` in one transaction. Commits when it succeeds, rolls back when it fails. Where the connection
/// is lost in between, whether it is committed is unknown, and the error says so.
pub async fn transaction<T, F>(pool: &Pool, work: F) -> Result<T, Error>
where
    T: Send + 'static,
    F: for<'c> FnOnce(&'c mut AsyncPgConnection) -> BoxFuture<'c, Result<T, Error>> + Send + Sync + 'static,
{
    transaction_then(pool, |done| done, work).await
}

/// As [`transaction`]; after the commit `tell` tells whoever is to hear of it. It is for what must not be left
/// out where the caller has gone meanwhile: an event, an end, a wake-up.
pub async fn transaction_then<T, U, F>(
    pool: &Pool,
    tell: impl FnOnce(T) -> U + Send + 'static,
    work: F,
) -> Result<U, Error>
where
    T: Send + 'static,
    U: Send + 'static,
    F: for<'c> FnOnce(&'c mut AsyncPgConnection) -> BoxFuture<'c, Result<T, Error>> + Send + Sync + 'static,
{
    let mut conn = pool.get_owned().await?;
    to_the_end(async move {
        let mut is_at_commit = false;
        let done = conn.transaction(async |conn| {
            let done = work(conn).await?;
            is_at_commit = true;
            Ok(done)
        });
        let done: Result<T, Error> = done.await;
        done.map(tell).map_err(|error| if is_at_commit { error.of_commit() } else { error })
    })
    .await
}

/// Runs several transactions to the end, whatever becomes of the caller.
pub async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    tokio::spawn(work).await.map_err(Error::internal)?
}
