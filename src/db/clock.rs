//! The database's clock, which all servers of an installation share.

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use diesel_async::RunQueryDsl;

use super::Connection;

diesel::define_sql_function! {
    /// The time at the moment of the call.
    fn clock_timestamp() -> Timestamptz;
}

/// What the database's clock shows.
pub async fn clock(conn: &mut Connection) -> QueryResult<DateTime<Utc>> {
    diesel::select(clock_timestamp()).get_result(conn).await
}
