//! A limit on how long the database may take, beside its own statement timeout: a connection whose peer is
//! gone answers nothing at all.

use std::time::Duration;

use diesel::QueryResult;
use diesel::result::{DatabaseErrorKind, Error as DieselError};

/// Fails like a closed connection when `work` takes longer than `limit`. The connection must not be used
/// again: an answer may still be under way on it.
pub async fn with_timeout<T>(limit: Duration, work: impl Future<Output = QueryResult<T>>) -> QueryResult<T> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        let message = format!("the database did not answer within {} s", limit.as_secs_f32());
        Err(DieselError::DatabaseError(DatabaseErrorKind::ClosedConnection, Box::new(message)))
    })
}
