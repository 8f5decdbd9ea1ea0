//! SQL of what has ended.

use chrono::{DateTime, Utc};
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Bool;
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use uuid::Uuid;

use super::{Ended, Recorded};
use crate::db::schema::revocations;
use crate::ids::{HomeId, SessionId, UserId};

/// What every server looks at again and again: longer than a transaction may take to commit.
const RECENT: &str = "at > now() - interval '1 minute'";
/// What a server that starts, or was cut off, must know: as long as tokens may live.
const ALIVE: &str =
    "(at > now() - interval '30 minutes' or issued_before is not null and at > now() - interval '400 days')";

type Row = (i64, Option<UserId>, Option<Uuid>, Option<HomeId>, Option<DateTime<Utc>>);

fn recorded((id, user, session, home, before): Row) -> Option<Recorded> {
    let ended = match (user, session, home, before) {
        (_, Some(session), _, _) => Ended::Session(SessionId::from_database(session)),
        (Some(user), None, None, Some(before)) => Ended::Tokens(user, before),
        (Some(user), None, Some(home), _) => Ended::Membership(user, home),
        (None, None, Some(home), _) => Ended::Home(home),
        // Of a newer version of ours.
        _ => return None,
    };
    Some(Recorded { id, ended })
}

/// In the order given. Whoever listens is told with the commit.
pub(super) async fn insert(conn: &mut AsyncPgConnection, ended: &[Ended]) -> QueryResult<Vec<Recorded>> {
    let rows: Vec<_> = ended
        .iter()
        .map(|ended| {
            let (user, session, home, before) = match *ended {
                Ended::Session(session) => (None, Some(session.as_uuid()), None, None),
                Ended::Tokens(user, before) => (Some(user), None, None, Some(before)),
                Ended::Membership(user, home) => (Some(user), None, Some(home), None),
                Ended::Home(home) => (None, None, Some(home), None),
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
    Ok(ids.into_iter().zip(ended).map(|(id, ended)| Recorded { id, ended: *ended }).collect())
}

pub(super) async fn listen(conn: &mut AsyncPgConnection) -> QueryResult<()> {
    conn.batch_execute("listen revocations").await
}

pub(super) async fn recent(conn: &mut AsyncPgConnection) -> QueryResult<Vec<Recorded>> {
    read(conn, RECENT).await
}

pub(super) async fn all(conn: &mut AsyncPgConnection) -> QueryResult<Vec<Recorded>> {
    read(conn, ALIVE).await
}

async fn read(conn: &mut AsyncPgConnection, which: &'static str) -> QueryResult<Vec<Recorded>> {
    let rows: Vec<Row> = revocations::table
        .filter(sql::<Bool>(which))
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

/// Deletes what no token can outlive, with an hour to spare.
pub(super) async fn purge(conn: &mut AsyncPgConnection) -> QueryResult<()> {
    let over = "at < now() - interval '2 hours' and (issued_before is null or at < now() - interval '400 days')";
    diesel::delete(revocations::table.filter(sql::<Bool>(over))).execute(conn).await.map(drop)
}
