//! SQL of what has ended.

use chrono::{DateTime, Utc};
use diesel::dsl::{now, sql};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use uuid::Uuid;

use super::{RecordedRevocation, Revocation};
use crate::db::schema::revocations;
use crate::ids::{HomeId, SessionId, UserId};

/// What a server that starts must know: as long as tokens may live.
const ALIVE: &str =
    "(at > now() - interval '30 minutes' or issued_before is not null and at > now() - interval '400 days')";

type Row = (i64, Option<UserId>, Option<Uuid>, Option<HomeId>, Option<DateTime<Utc>>);

fn recorded((id, user, session, home, before): Row) -> Option<RecordedRevocation> {
    let ended = match (user, session, home, before) {
        (_, Some(session), _, _) => Revocation::Session(SessionId::from_database(session)),
        (Some(user), None, None, Some(before)) => Revocation::Tokens(user, before),
        (Some(user), None, Some(home), _) => Revocation::Membership(user, home),
        (None, None, Some(home), _) => Revocation::Home(home),
        // Of a newer version of ours.
        _ => return None,
    };
    Some(RecordedRevocation { id, ended })
}

/// In the order given. Whoever listens is told with the commit.
pub(super) async fn insert(conn: &mut AsyncPgConnection, ended: &[Revocation]) -> QueryResult<Vec<RecordedRevocation>> {
    let rows: Vec<_> = ended
        .iter()
        .map(|ended| {
            let (user, session, home, before) = match *ended {
                Revocation::Session(session) => (None, Some(session.as_uuid()), None, None),
                Revocation::Tokens(user, before) => (Some(user), None, None, Some(before)),
                Revocation::Membership(user, home) => (Some(user), None, Some(home), None),
                Revocation::Home(home) => (None, None, Some(home), None),
            };
            (
                revocations::user_id.eq(user),
                revocations::session_id.eq(session),
                revocations::home_id.eq(home),
                revocations::issued_before.eq(before),
            )
        })
        .collect();
    let ids: Vec<i64> =
        diesel::insert_into(revocations::table).values(rows).returning(revocations::id).get_results(conn).await?;
    conn.batch_execute("notify revocations").await?;
    Ok(ids.into_iter().zip(ended).map(|(id, ended)| RecordedRevocation { id, ended: *ended }).collect())
}

pub(super) async fn listen(conn: &mut AsyncPgConnection) -> QueryResult<()> {
    conn.batch_execute("listen revocations").await
}

/// The database's clock, by which the rows are dated.
pub(super) async fn clock(conn: &mut AsyncPgConnection) -> QueryResult<DateTime<Utc>> {
    diesel::select(now.into_sql::<Timestamptz>()).get_result(conn).await
}

/// What was written down after that moment.
pub(super) async fn since(conn: &mut AsyncPgConnection, at: DateTime<Utc>) -> QueryResult<Vec<RecordedRevocation>> {
    read(conn, revocations::table.into_boxed().filter(revocations::at.gt(at))).await
}

/// What may still matter to a server that holds no sockets yet.
pub(super) async fn alive(conn: &mut AsyncPgConnection) -> QueryResult<Vec<RecordedRevocation>> {
    read(conn, revocations::table.into_boxed().filter(sql::<Bool>(ALIVE))).await
}

async fn read(
    conn: &mut AsyncPgConnection,
    which: revocations::BoxedQuery<'_, Pg>,
) -> QueryResult<Vec<RecordedRevocation>> {
    let rows: Vec<Row> = which
        .order(revocations::id)
        .select((
            revocations::id,
            revocations::user_id,
            revocations::session_id,
            revocations::home_id,
            revocations::issued_before,
        ))
        .load(conn)
        .await?;
    Ok(rows.into_iter().filter_map(recorded).collect())
}

/// Deletes what no token can outlive, once every server had a day to read it ([`super::follow`]).
pub(super) async fn purge(conn: &mut AsyncPgConnection) -> QueryResult<()> {
    let over = "at < now() - interval '1 day' and (issued_before is null or at < now() - interval '400 days')";
    diesel::delete(revocations::table.filter(sql::<Bool>(over))).execute(conn).await.map(drop)
}
