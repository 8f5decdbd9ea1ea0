//! SQL of tokens that set a new password.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Timestamptz, Untyped};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::db::schema::{password_resets, users};
use crate::db::statement;
use crate::ids::UserId;

statement! {
    struct DeleteOld("sql/delete_old_password_resets.sql") -> Untyped { user_id: BigInt = UserId, kept: BigInt = i64 }
}

statement! {
    struct DeleteExpired("sql/delete_expired_password_resets.sql") -> Untyped {
        now: Timestamptz = DateTime<Utc>,
        limit: BigInt = i64,
    }
}

pub(super) async fn insert(
    conn: &mut AsyncPgConnection,
    user: UserId,
    digest: &[u8],
    created_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
) -> QueryResult<()> {
    diesel::insert_into(password_resets::table)
        .values((
            password_resets::token_hash.eq(digest),
            password_resets::user_id.eq(user),
            password_resets::created_at.eq(created_at),
            password_resets::expires_at.eq(expires_at),
        ))
        .execute(conn)
        .await
        .map(drop)
}

/// The user of a valid token, and their e-mail.
pub(super) async fn find_user(
    conn: &mut AsyncPgConnection,
    digest: &[u8],
    now: DateTime<Utc>,
) -> QueryResult<Option<(UserId, String)>> {
    password_resets::table
        .inner_join(users::table.on(users::id.eq(password_resets::user_id)))
        .filter(password_resets::token_hash.eq(digest))
        .filter(password_resets::expires_at.gt(now))
        .select((users::id, users::email))
        .first(conn)
        .await
        .optional()
}

/// Counts the valid tokens of a user.
pub(super) async fn count_valid(conn: &mut AsyncPgConnection, user: UserId, now: DateTime<Utc>) -> QueryResult<i64> {
    let valid = password_resets::table.filter(password_resets::user_id.eq(user));
    valid.filter(password_resets::expires_at.gt(now)).count().get_result(conn).await
}

/// Deletes a token. `false` if it does not exist.
pub(super) async fn delete(conn: &mut AsyncPgConnection, digest: &[u8]) -> QueryResult<bool> {
    Ok(diesel::delete(password_resets::table.find(digest)).execute(conn).await? == 1)
}

/// Deletes all tokens of a user.
pub(super) async fn delete_of_user(conn: &mut AsyncPgConnection, user: UserId) -> QueryResult<()> {
    diesel::delete(password_resets::table.filter(password_resets::user_id.eq(user))).execute(conn).await.map(drop)
}

/// Deletes all but the `kept` newest tokens of a user.
pub(super) async fn delete_old(conn: &mut AsyncPgConnection, user_id: UserId, kept: i64) -> QueryResult<()> {
    DeleteOld { user_id, kept }.execute(conn).await.map(drop)
}

/// Deletes up to `limit` expired tokens of all users and returns their number.
pub(super) async fn delete_expired(
    conn: &mut AsyncPgConnection,
    now: DateTime<Utc>,
    limit: usize,
) -> QueryResult<usize> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    DeleteExpired { now, limit }.execute(conn).await
}
