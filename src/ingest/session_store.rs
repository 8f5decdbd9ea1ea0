//! SQL of the sessions at the broker with which servers ingest.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Integer, Text, Untyped};
use diesel::upsert::excluded;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};

use crate::db::schema::ingest_sessions as sessions;
use crate::db::{locks, statement};

/// The session that receives the messages of a prefix by a plain subscription.
pub(super) async fn find_plain(conn: &mut AsyncPgConnection, prefix: &str) -> QueryResult<Option<String>> {
    let of_prefix = sessions::table.filter(sessions::plain_prefix.eq(prefix));
    of_prefix.select(sessions::client_id).first(conn).await.optional()
}

/// A term that has begun.
pub(super) struct BegunTerm {
    pub(super) number: i64,
    /// Whether the broker has to discard what it holds in the session: a term before may have ended before that.
    pub(super) starts_clean: bool,
    /// Client ids of sessions whose messages are given up.
    pub(super) given_up: Vec<String>,
}

/// Whether the session receives messages of another prefix.
pub(super) async fn has_other_prefix(conn: &mut AsyncPgConnection, client_id: &str, prefix: &str) -> QueryResult<bool> {
    let is_other = sessions::plain_prefix.ne(prefix).or(sessions::group_prefix.ne(prefix));
    let other = sessions::table.find(client_id).filter(is_other);
    diesel::select(diesel::dsl::exists(other)).get_result(conn).await
}

/// Whether a server has ever ingested with this session.
pub(super) async fn exists(conn: &mut AsyncPgConnection, client_id: &str) -> QueryResult<bool> {
    diesel::select(diesel::dsl::exists(sessions::table.find(client_id))).get_result(conn).await
}

/// Begins to store for a session, and gives up the other ones of its prefix that no server may continue.
pub(super) async fn begin_term(
    conn: &mut AsyncPgConnection,
    client_id: &str,
    prefix: &str,
    is_shared: bool,
    is_stale: bool,
) -> QueryResult<BegunTerm> {
    conn.transaction(async |conn| {
        let given_up = release_others(conn, prefix, client_id, is_shared).await?;
        let plain_prefix = (!is_shared).then_some(prefix);
        let (number, starts_clean) = next_term(conn, client_id, plain_prefix, is_stale).await?;
        Ok(BegunTerm { number, starts_clean, given_up })
    })
    .await
}

/// Ends what every other session receives of this prefix: its plain subscription, and beside a plain subscription of this session
/// also its share as a member of a group. What it still holds then is stored from this session.
async fn release_others(
    conn: &mut AsyncPgConnection,
    prefix: &str,
    client_id: &str,
    is_shared: bool,
) -> QueryResult<Vec<String>> {
    let is_replaced = (!is_shared).into_sql::<Bool>();
    let of_prefix = sessions::plain_prefix.eq(prefix).or(sessions::group_prefix.eq(prefix).and(is_replaced));
    let others = sessions::table.filter(of_prefix).filter(sessions::client_id.ne(client_id));
    let nothing = (sessions::plain_prefix.eq(None::<&str>), sessions::group_prefix.eq(None::<&str>));
    let released = diesel::update(others).set((nothing, sessions::is_stale.eq(sessions::is_stale.or(is_replaced))));
    released.returning(sessions::client_id).get_results(conn).await
}

async fn next_term(
    conn: &mut AsyncPgConnection,
    client_id: &str,
    plain_prefix: Option<&str>,
    is_stale: bool,
) -> QueryResult<(i64, bool)> {
    let row = (
        sessions::client_id.eq(client_id),
        sessions::plain_prefix.eq(plain_prefix),
        sessions::term.eq(1),
        sessions::is_stale.eq(is_stale),
    );
    diesel::insert_into(sessions::table)
        .values(row)
        .on_conflict(sessions::client_id)
        .do_update()
        .set((
            sessions::plain_prefix.eq(excluded(sessions::plain_prefix)),
            sessions::group_prefix.eq(None::<&str>),
            sessions::term.eq(sessions::term + 1),
            sessions::is_stale.eq(sessions::is_stale.or(excluded(sessions::is_stale))),
            sessions::used_at.eq(diesel::dsl::now),
        ))
        .returning((sessions::term, sessions::is_stale))
        .get_result(conn)
        .await
}

/// The broker has begun a new session: it holds nothing of the one before.
pub(super) async fn session_is_new(conn: &AsyncPgConnection, client_id: &str) -> QueryResult<()> {
    let session = sessions::table.find(client_id);
    diesel::update(session).set(sessions::is_stale.eq(false)).execute(&mut &*conn).await.map(drop)
}

/// Notes that the session receives a share of the messages of a prefix.
pub(super) async fn join_group(conn: &mut AsyncPgConnection, client_id: &str, prefix: &str) -> QueryResult<()> {
    let session = sessions::table.find(client_id);
    diesel::update(session).set(sessions::group_prefix.eq(prefix)).execute(conn).await.map(drop)
}

statement! {
    struct LeaveGroup<'a>("sql/leave_group.sql") -> Untyped {
        client_id: Text = &'a str,
        prefix: Text = &'a str,
        writer_class: Integer = i32,
    }
}

/// Notes that the session is about to end its shared subscription, if that of another running server remains; returns whether
/// it does.
pub(super) async fn leave_group(conn: &mut AsyncPgConnection, client_id: &str, prefix: &str) -> QueryResult<bool> {
    let leave = LeaveGroup { client_id, prefix, writer_class: locks::WRITER };
    Ok(leave.execute(conn).await? > 0)
}

statement! {
    struct MarkUsedSessions("sql/mark_used_sessions.sql") -> Untyped {
        writer_class: Integer = i32,
    }
}

/// Notes the sessions that servers use now.
pub(super) async fn mark_used(conn: &mut AsyncPgConnection) -> QueryResult<()> {
    MarkUsedSessions { writer_class: locks::WRITER }.execute(conn).await.map(drop)
}

statement! {
    struct DeleteUnusedSession("sql/delete_unused_session.sql") -> BigInt {
        max_unused_hours: Integer = i32,
        writer_class: Integer = i32,
    }
}

/// Deletes what is kept for a session that no server has used for this time; returns how many there were, 0 or 1.
pub(super) async fn delete_unused(conn: &mut AsyncPgConnection, max_unused_hours: i32) -> QueryResult<i64> {
    DeleteUnusedSession { max_unused_hours, writer_class: locks::WRITER }.get_result(conn).await
}

/// Whether this is the last term that began, and the session is still the one of its prefix.
pub(super) async fn is_current(
    conn: &mut AsyncPgConnection,
    client_id: &str,
    plain_prefix: Option<&str>,
    term: i64,
) -> QueryResult<bool> {
    let current = sessions::table
        .find(client_id)
        .filter(sessions::term.eq(term))
        .filter(sessions::plain_prefix.is_not_distinct_from(plain_prefix));
    diesel::select(diesel::dsl::exists(current)).get_result(conn).await
}
