//! Write transactions that a dropped request can't cut in half: each runs in a task of its own, to
//! its commit or its rollback, whatever becomes of the caller.

use diesel_async::{AsyncConnection, AsyncPgConnection};
use futures_util::future::BoxFuture;

use super::Pool;
use crate::error::Error;

/// Runs `work` in one transaction. Commits when it succeeds, rolls back when it fails.
pub async fn transaction<T, F>(pool: &Pool, work: F) -> Result<T, Error>
where
    T: Send + 'static,
    F: for<'c> FnOnce(&'c mut AsyncPgConnection) -> BoxFuture<'c, Result<T, Error>> + Send + Sync + 'static,
{
    let mut conn = pool.get_owned().await?;
    to_the_end(async move { conn.transaction(async |conn| work(conn).await).await }).await
}

/// Runs several transactions to the end, whatever becomes of the caller.
pub async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    tokio::spawn(work).await.map_err(Error::internal)?
}
