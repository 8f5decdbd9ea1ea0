//! SQL of tokens that a person gets by mail or from the operator.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text, Timestamptz, Untyped};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::db::schema::{account_tokens, users};
use crate::db::statement;
use crate::ids::UserId;

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It sets a new password without the old one.
    NewPassword,
    /// It proves that the user gets the mails to an address.
    Email,
}

impl Purpose {
    /// The spelling in the database.
    fn as_str(self) -> &'static str {
        match self {
            Self::NewPassword => "NEW_PASSWORD",
            Self::Email => "EMAIL",
        }
    }
}

statement! {
    struct DeleteOld("sql/delete_old_account_tokens.sql") -> Untyped {
        user_id: BigInt = UserId,
        purpose: Text = &'static str,
        kept: BigInt = i64,
    }
}

statement! {
    struct DeleteExpired("sql/delete_expired_account_tokens.sql") -> Untyped {
        now: Timestamptz = DateTime<Utc>,
        limit: BigInt = i64,
    }
}

/// A token to insert.
pub(super) struct NewToken<'a> {
    pub(super) purpose: Purpose,
    pub(super) user: UserId,
    /// The address that it proves.
    pub(super) email: Option<&'a str>,
    pub(super) digest: &'a [u8],
    pub(super) created_at: DateTime<Utc>,
    pub(super) expires_at: DateTime<Utc>,
}

pub(super) async fn insert(conn: &mut AsyncPgConnection, new: NewToken<'_>) -> QueryResult<()> {
    diesel::insert_into(account_tokens::table)
        .values((
            account_tokens::purpose.eq(new.purpose.as_str()),
            account_tokens::token_hash.eq(new.digest),
            account_tokens::user_id.eq(new.user),
            account_tokens::email.eq(new.email),
            account_tokens::created_at.eq(new.created_at),
            account_tokens::expires_at.eq(new.expires_at),
        ))
        .execute(conn)
        .await
        .map(drop)
}

/// The user of a valid token, and their e-mail.
pub(super) async fn find_user(
    conn: &mut AsyncPgConnection,
    purpose: Purpose,
    digest: &[u8],
    now: DateTime<Utc>,
) -> QueryResult<Option<(UserId, String)>> {
    account_tokens::table
        .inner_join(users::table.on(users::id.eq(account_tokens::user_id)))
        .filter(account_tokens::token_hash.eq(digest))
        .filter(account_tokens::purpose.eq(purpose.as_str()))
        .filter(account_tokens::expires_at.gt(now))
        .select((users::id, users::email))
        .first(conn)
        .await
        .optional()
}

/// Counts the valid tokens of a user.
pub(super) async fn count_valid(
    conn: &mut AsyncPgConnection,
    purpose: Purpose,
    user: UserId,
    now: DateTime<Utc>,
) -> QueryResult<i64> {
    let all = account_tokens::table
        .filter(account_tokens::user_id.eq(user))
        .filter(account_tokens::purpose.eq(purpose.as_str()));
    all.filter(account_tokens::expires_at.gt(now)).count().get_result(conn).await
}

/// Deletes a token. `false` if it does not exist.
pub(super) async fn delete(conn: &mut AsyncPgConnection, digest: &[u8]) -> QueryResult<bool> {
    Ok(diesel::delete(account_tokens::table.find(digest)).execute(conn).await? == 1)
}

/// Deletes a token for the user's present address. `false` if there is none. The user's row is locked.
pub(super) async fn delete_for_present_email(
    conn: &mut AsyncPgConnection,
    user: UserId,
    digest: &[u8],
) -> QueryResult<bool> {
    let present = users::table.filter(users::id.eq(user)).select(users::email.nullable());
    let token = account_tokens::table
        .filter(account_tokens::token_hash.eq(digest))
        .filter(account_tokens::user_id.eq(user))
        .filter(account_tokens::email.eq_any(present));
    Ok(diesel::delete(token).execute(conn).await? == 1)
}

/// Deletes all tokens of a user for one purpose.
pub(super) async fn delete_of_user(conn: &mut AsyncPgConnection, purpose: Purpose, user: UserId) -> QueryResult<()> {
    let all = account_tokens::table
        .filter(account_tokens::user_id.eq(user))
        .filter(account_tokens::purpose.eq(purpose.as_str()));
    diesel::delete(all).execute(conn).await.map(drop)
}

/// Deletes all but the `kept` newest tokens of a user for one purpose.
pub(super) async fn delete_old(
    conn: &mut AsyncPgConnection,
    purpose: Purpose,
    user_id: UserId,
    kept: i64,
) -> QueryResult<()> {
    DeleteOld { user_id, purpose: purpose.as_str(), kept }.execute(conn).await.map(drop)
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
