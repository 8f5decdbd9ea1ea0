//! SQL of the sessions at the broker with which servers ingest.

use diesel::prelude::*;
use diesel::sql_types::{Integer, Text, Untyped};
use diesel::upsert::excluded;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::db::schema::ingest_sessions as sessions;
use crate::db::{locks, statement};

/// The session that receives the messages of a prefix by a plain subscription.
pub(super) async fn find_plain(conn: &mut AsyncPgConnection, prefix: &str) -> QueryResult<Option<String>> {
    let of_prefix = sessions::table.filter(sessions::plain_prefix.eq(prefix));
    of_prefix.select(sessions::client_id).first(conn).await.optional()
}

/// Whether a server has ever ingested with this session.
pub(super) async fn exists(conn: &mut AsyncPgConnection, client_id: &str) -> QueryResult<bool> {
    diesel::select(diesel::dsl::exists(sessions::table.find(client_id))).get_result(conn).await
}

/// Gives up the plain subscription of every other session for this prefix.
pub(super) async fn release_others(conn: &mut AsyncPgConnection, prefix: &str, client_id: &str) -> QueryResult<()> {
    let others = sessions::table.filter(sessions::plain_prefix.eq(prefix)).filter(sessions::client_id.ne(client_id));
    diesel::update(others).set(sessions::plain_prefix.eq(None::<&str>)).execute(conn).await.map(drop)
}

/// Begins to store for a session and returns the number of the term.
pub(super) async fn begin_term(
    conn: &mut AsyncPgConnection,
    client_id: &str,
    plain_prefix: Option<&str>,
) -> QueryResult<i64> {
    let row = (sessions::client_id.eq(client_id), sessions::plain_prefix.eq(plain_prefix), sessions::term.eq(1));
    diesel::insert_into(sessions::table)
        .values(row)
        .on_conflict(sessions::client_id)
        .do_update()
        .set((
            sessions::plain_prefix.eq(excluded(sessions::plain_prefix)),
            sessions::group_prefix.eq(None::<&str>),
            sessions::term.eq(sessions::term + 1),
        ))
        .returning(sessions::term)
        .get_result(conn)
        .await
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
