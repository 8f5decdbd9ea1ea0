//! SQL of losses of our broker session, as far as an outbox has not recovered from them.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::db::schema::broker_losses as losses;

/// A session and the time up to which the broker lost the messages of this outbox with it. It may be the session of a server
/// that has ended.
pub(super) async fn find(conn: &mut AsyncPgConnection, outbox: &str) -> QueryResult<Option<(String, DateTime<Utc>)>> {
    let of_outbox = losses::table.filter(losses::outbox.eq(outbox)).order(losses::client_id);
    of_outbox.select((losses::client_id, losses::before)).first(conn).await.optional()
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
