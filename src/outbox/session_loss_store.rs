//! SQL of losses of our broker session, as far as an outbox has not recovered from them.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::db::schema::broker_losses as losses;

/// The time up to which the broker lost the messages of this outbox.
pub(super) async fn find(
    conn: &mut AsyncPgConnection,
    client_id: &str,
    outbox: &str,
) -> QueryResult<Option<DateTime<Utc>>> {
    losses::table.find((client_id, outbox)).select(losses::before).first(conn).await.optional()
}

/// A loss that was recorded again in between stays.
pub(super) async fn delete(
    conn: &mut AsyncPgConnection,
    client_id: &str,
    outbox: &str,
    before: DateTime<Utc>,
) -> QueryResult<()> {
    let recovered = losses::table.find((client_id, outbox)).filter(losses::before.eq(before));
    diesel::delete(recovered).execute(conn).await.map(drop)
}
