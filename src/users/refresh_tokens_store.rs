//! SQL of refresh tokens.

use std::net::IpAddr;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::dsl::{exists, max, sql};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Text, Timestamptz, Untyped};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::SessionInfo;
use crate::db::schema::refresh_tokens;
use crate::db::statement;
use crate::ids::{SessionId, UserId};

diesel::define_sql_function! {
    /// The database's clock, by which servers agree.
    fn clock_timestamp() -> Timestamptz;
}

diesel::define_sql_function! {
    /// The earlier of two times.
    fn least(one: Timestamptz, other: Timestamptz) -> Timestamptz;
}

/// A refresh token to insert.
pub(super) struct NewRefreshToken<'a> {
    pub(super) user: UserId,
    pub(super) family: Uuid,
    pub(super) generation: i32,
    pub(super) hash: &'a [u8],
    pub(super) created_at: DateTime<Utc>,
    pub(super) expires_at: DateTime<Utc>,
    pub(super) address: Option<String>,
}

pub(super) async fn insert_refresh(conn: &mut AsyncPgConnection, token: &NewRefreshToken<'_>) -> QueryResult<()> {
    diesel::insert_into(refresh_tokens::table)
        .values((
            refresh_tokens::user_id.eq(token.user),
            refresh_tokens::family.eq(token.family),
            refresh_tokens::generation.eq(token.generation),
            refresh_tokens::token_hash.eq(token.hash),
            refresh_tokens::created_at.eq(token.created_at),
            refresh_tokens::expires_at.eq(token.expires_at),
            refresh_tokens::address.eq(token.address.as_deref()),
        ))
        .execute(conn)
        .await
        .map(drop)
}

/// A stored refresh token that has not expired.
pub(super) struct RefreshToken {
    id: i64,
    pub(super) family: Uuid,
    pub(super) generation: i32,
    /// The time since one of its generation was used, by the database's clock.
    pub(super) age_of_use: Option<TimeDelta>,
}

pub(super) async fn find_token(
    conn: &mut AsyncPgConnection,
    hash: &[u8],
    now: DateTime<Utc>,
) -> QueryResult<Option<RefreshToken>> {
    type Row = (i64, Uuid, i32, Option<DateTime<Utc>>, DateTime<Utc>);
    let found: Option<Row> = refresh_tokens::table
        .filter(refresh_tokens::token_hash.eq(hash))
        .filter(refresh_tokens::expires_at.gt(now))
        .select((
            refresh_tokens::id,
            refresh_tokens::family,
            refresh_tokens::generation,
            refresh_tokens::used_at,
            clock_timestamp(),
        ))
        .first(conn)
        .await
        .optional()?;
    Ok(found.map(|(id, family, generation, used_at, now)| RefreshToken {
        id,
        family,
        generation,
        age_of_use: used_at.map(|used_at| now - used_at),
    }))
}

/// Marks the tokens of one generation as used. Their rows are retained until `retained_until`, or until their original
/// expiry if that is earlier.
pub(super) async fn use_generation(
    conn: &mut AsyncPgConnection,
    token: &RefreshToken,
    retained_until: DateTime<Utc>,
) -> QueryResult<()> {
    let unused = refresh_tokens::table
        .filter(refresh_tokens::family.eq(token.family))
        .filter(refresh_tokens::generation.eq(token.generation))
        .filter(refresh_tokens::used_at.is_null());
    let expires_at = least(refresh_tokens::expires_at, retained_until);
    diesel::update(unused)
        .set((refresh_tokens::used_at.eq(clock_timestamp().nullable()), refresh_tokens::expires_at.eq(expires_at)))
        .execute(conn)
        .await
        .map(drop)
}

/// Whether a token that descends from this one's generation was used.
pub(super) async fn has_used_successor(conn: &mut AsyncPgConnection, token: &RefreshToken) -> QueryResult<bool> {
    let used = refresh_tokens::table
        .filter(refresh_tokens::family.eq(token.family))
        .filter(refresh_tokens::generation.gt(token.generation))
        .filter(refresh_tokens::used_at.is_not_null());
    diesel::select(exists(used)).get_result(conn).await
}

/// Whether this token's generation has another one.
pub(super) async fn has_twin(conn: &mut AsyncPgConnection, token: &RefreshToken) -> QueryResult<bool> {
    let twins = refresh_tokens::table
        .filter(refresh_tokens::family.eq(token.family))
        .filter(refresh_tokens::generation.eq(token.generation))
        .filter(refresh_tokens::id.ne(token.id));
    diesel::select(exists(twins)).get_result(conn).await
}

/// The address from which this token's generation was first exchanged.
pub(super) async fn first_exchange_address(
    conn: &mut AsyncPgConnection,
    token: &RefreshToken,
) -> QueryResult<Option<String>> {
    let first = refresh_tokens::table
        .filter(refresh_tokens::family.eq(token.family))
        .filter(refresh_tokens::generation.eq(token.generation + 1))
        .order(refresh_tokens::id);
    first.select(refresh_tokens::address).first(conn).await.optional().map(Option::flatten)
}

/// Deletes every token of a family and returns their number. Later presentations are unknown tokens.
pub(super) async fn delete_family(conn: &mut AsyncPgConnection, family: Uuid) -> QueryResult<usize> {
    diesel::delete(refresh_tokens::table.filter(refresh_tokens::family.eq(family))).execute(conn).await
}

/// Deletes every token of a user except those of one family, and returns the ended families.
pub(super) async fn delete_refresh_tokens(
    conn: &mut AsyncPgConnection,
    user: UserId,
    except: Option<Uuid>,
) -> QueryResult<Vec<Uuid>> {
    let tokens = refresh_tokens::table.filter(refresh_tokens::user_id.eq(user));
    let tokens = tokens.filter(refresh_tokens::family.ne(except.unwrap_or_default()));
    let mut families: Vec<Uuid> = diesel::delete(tokens).returning(refresh_tokens::family).get_results(conn).await?;
    families.sort_unstable();
    families.dedup();
    Ok(families)
}

/// Deletes all but the `n` most recently used families of a user and returns their ids. Call it after
/// [`delete_expired_of_user`], or expired families would displace open ones.
pub(super) async fn delete_oldest_families(
    conn: &mut AsyncPgConnection,
    user: UserId,
    n: i64,
) -> QueryResult<Vec<Uuid>> {
    let old: Vec<Uuid> = refresh_tokens::table
        .filter(refresh_tokens::user_id.eq(user))
        .group_by(refresh_tokens::family)
        .order(max(refresh_tokens::id).desc())
        .select(refresh_tokens::family)
        .offset(n)
        .load(conn)
        .await?;
    if !old.is_empty() {
        diesel::delete(refresh_tokens::table.filter(refresh_tokens::family.eq_any(&old))).execute(conn).await?;
    }
    Ok(old)
}

/// Open sessions: of each family the newest token that can still be exchanged, newest first.
pub(super) async fn sessions(
    conn: &mut AsyncPgConnection,
    of: &[UserId],
    now: DateTime<Utc>,
) -> QueryResult<Vec<(UserId, SessionInfo)>> {
    type Row = (i64, UserId, Uuid, DateTime<Utc>, DateTime<Utc>, Option<String>);
    let mut rows: Vec<Row> = refresh_tokens::table
        .distinct_on(refresh_tokens::family)
        .filter(refresh_tokens::user_id.eq_any(of))
        .filter(refresh_tokens::used_at.is_null())
        .filter(refresh_tokens::expires_at.gt(now))
        .order((refresh_tokens::family, refresh_tokens::id.desc()))
        .select((
            refresh_tokens::id,
            refresh_tokens::user_id,
            refresh_tokens::family,
            refresh_tokens::created_at,
            refresh_tokens::expires_at,
            refresh_tokens::address,
        ))
        .load(conn)
        .await?;
    rows.sort_unstable_by_key(|row| std::cmp::Reverse(row.0));
    let info = |(_, user, family, last_used_at, expires_at, address)| {
        (user, SessionInfo { id: SessionId::from_database(family), last_used_at, expires_at, address })
    };
    Ok(rows.into_iter().map(info).collect())
}

/// Whether a user ever received a token at an address of this range.
pub(super) async fn has_signed_in(
    conn: &mut AsyncPgConnection,
    user: UserId,
    (first, last): (IpAddr, IpAddr),
) -> QueryResult<bool> {
    // An index on (user, address) makes the cost independent of the number of tokens.
    let is_near = sql::<Bool>("address::inet between ")
        .bind::<Text, _>(first.to_string())
        .sql("::inet and ")
        .bind::<Text, _>(last.to_string())
        .sql("::inet");
    let tokens = refresh_tokens::table.filter(refresh_tokens::user_id.eq(user)).filter(is_near);
    diesel::select(exists(tokens)).get_result(conn).await
}

/// Whether a family belongs to the user and is open.
pub(super) async fn is_open(
    conn: &mut AsyncPgConnection,
    user: UserId,
    family: Uuid,
    now: DateTime<Utc>,
) -> QueryResult<bool> {
    let live = refresh_tokens::table
        .filter(refresh_tokens::user_id.eq(user))
        .filter(refresh_tokens::family.eq(family))
        .filter(refresh_tokens::used_at.is_null())
        .filter(refresh_tokens::expires_at.gt(now));
    diesel::select(exists(live)).get_result(conn).await
}

/// Deletes a user's expired tokens, and with them all ended families.
pub(super) async fn delete_expired_of_user(
    conn: &mut AsyncPgConnection,
    user: UserId,
    now: DateTime<Utc>,
) -> QueryResult<usize> {
    let expired =
        refresh_tokens::table.filter(refresh_tokens::user_id.eq(user)).filter(refresh_tokens::expires_at.le(now));
    diesel::delete(expired).execute(conn).await
}

statement! {
    struct DeleteExpired("sql/delete_expired_refresh_tokens.sql") -> Untyped { now: Timestamptz = DateTime<Utc>, limit: BigInt = i64 }
}

/// Deletes up to `limit` expired tokens of all users and returns their number. Locked rows are skipped.
pub(super) async fn delete_expired(
    conn: &mut AsyncPgConnection,
    now: DateTime<Utc>,
    limit: usize,
) -> QueryResult<usize> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    DeleteExpired { now, limit }.execute(conn).await
}
