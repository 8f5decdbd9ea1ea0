//! SQL of the revocations table.

use chrono::{DateTime, Utc};
use diesel::dsl::now;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Timestamptz, Untyped, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use uuid::Uuid;

use super::{RecordedRevocation, Revocation};
use crate::db::schema::revocations;
use crate::db::statement;
use crate::ids::{HomeId, SessionId, UserId};

type Row = (i64, Option<UserId>, Option<Uuid>, Option<HomeId>, Option<DateTime<Utc>>);
type RowType = (BigInt, Nullable<BigInt>, Nullable<SqlUuid>, Nullable<BigInt>, Nullable<Timestamptz>);

statement! {
    /// Revocations recorded after a moment.
    struct ReadSince("sql/read_since.sql") -> RowType {
        since: Timestamptz = DateTime<Utc>,
    }
}

statement! {
    /// Revocations that may still matter to a server that has no connections yet.
    struct ReadLive("sql/read_live.sql") -> RowType {}
}

statement! {
    /// Deletes revocations that no token can outlive.
    struct Purge("sql/purge.sql") -> Untyped {}
}

/// Inserts rows in the order given and notifies every listening server at commit.
pub(super) async fn insert(
    conn: &mut AsyncPgConnection,
    revocations: &[Revocation],
) -> QueryResult<Vec<RecordedRevocation>> {
    let rows: Vec<_> = revocations
        .iter()
        .map(|revocation| {
            let (user, session, home, before) = match *revocation {
                Revocation::Session(user, session) => (user, Some(session.as_uuid()), None, None),
                Revocation::Integration(home, token) => (None, Some(token.as_uuid()), Some(home), None),
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
    Ok(ids.into_iter().zip(revocations).map(|(id, &revocation)| RecordedRevocation { id, revocation }).collect())
}

pub(super) async fn listen(conn: &mut AsyncPgConnection) -> QueryResult<()> {
    conn.batch_execute("listen revocations").await
}

/// The database's clock, which dates the rows.
pub(super) async fn clock(conn: &mut AsyncPgConnection) -> QueryResult<DateTime<Utc>> {
    diesel::select(now.into_sql::<Timestamptz>()).get_result(conn).await
}

pub(super) async fn read_since(
    conn: &mut AsyncPgConnection,
    since: DateTime<Utc>,
) -> QueryResult<Vec<RecordedRevocation>> {
    Ok(from_rows(ReadSince { since }.load(conn).await?))
}

pub(super) async fn read_live(conn: &mut AsyncPgConnection) -> QueryResult<Vec<RecordedRevocation>> {
    Ok(from_rows(ReadLive {}.load(conn).await?))
}

pub(super) async fn purge(conn: &mut AsyncPgConnection) -> QueryResult<()> {
    Purge {}.execute(conn).await.map(drop)
}

fn from_rows(rows: Vec<Row>) -> Vec<RecordedRevocation> {
    rows.into_iter().filter_map(from_row).collect()
}

/// `None` for a kind of revocation that only a newer release knows.
fn from_row((id, user, session, home, before): Row) -> Option<RecordedRevocation> {
    let revocation = match (user, session, home, before) {
        (None, Some(token), Some(home), _) => Revocation::Integration(home, SessionId::from_database(token)),
        (user, Some(session), _, _) => Revocation::Session(user, SessionId::from_database(session)),
        (Some(user), None, None, Some(before)) => Revocation::Tokens(user, before),
        (Some(user), None, Some(home), _) => Revocation::Membership(user, home),
        (None, None, Some(home), _) => Revocation::Home(home),
        _ => return None,
    };
    Some(RecordedRevocation { id, revocation })
}
