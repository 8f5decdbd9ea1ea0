//! SQL of users.

use chrono::{DateTime, Utc};
use diesel::dsl::exists;
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::User;
use crate::db::schema::{memberships, refresh_tokens, users};
use crate::ids::UserId;

type Columns = (users::id, users::email, users::email_verified, users::name, users::created_at);
const COLUMNS: Columns = (users::id, users::email, users::email_verified, users::name, users::created_at);
type Row = (UserId, String, bool, String, DateTime<Utc>);

fn user((id, email, email_verified, name, created_at): Row) -> User {
    User { id, email, email_verified, name, created_at }
}

/// `None` if the e-mail is taken.
pub(super) async fn insert(
    conn: &mut AsyncPgConnection,
    email: &str,
    email_verified: bool,
    name: &str,
    password_hash: &str,
    created_at: DateTime<Utc>,
) -> QueryResult<Option<User>> {
    diesel::insert_into(users::table)
        .values((
            users::email.eq(email),
            users::email_verified.eq(email_verified),
            users::name.eq(name),
            users::password_hash.eq(password_hash),
            users::created_at.eq(created_at),
        ))
        .on_conflict(users::email)
        .do_nothing()
        .returning(COLUMNS)
        .get_result(conn)
        .await
        .optional()
        .map(|row| row.map(user))
}

pub(super) async fn by_ids(conn: &mut AsyncPgConnection, ids: &[UserId]) -> QueryResult<Vec<User>> {
    let rows = users::table.filter(users::id.eq_any(ids)).select(COLUMNS).load(conn).await?;
    Ok(rows.into_iter().map(user).collect())
}

pub(super) async fn by_email(conn: &mut AsyncPgConnection, email: &str) -> QueryResult<Option<(User, String)>> {
    let people = users::table.filter(users::home_id.is_null());
    let found = people.filter(users::email.eq(email)).select((COLUMNS, users::password_hash));
    Ok(found.first::<(Row, String)>(conn).await.optional()?.map(|(row, hash)| (user(row), hash)))
}

/// Locks the token's user until the end of the transaction. Every change of a user's sessions takes this lock first: a
/// statement waiting for a row of tokens would not see rows inserted meanwhile.
pub(super) async fn lock_by_token(conn: &mut AsyncPgConnection, hash: &[u8]) -> QueryResult<Option<UserId>> {
    let whose = refresh_tokens::table.filter(refresh_tokens::token_hash.eq(hash)).select(refresh_tokens::user_id);
    let user = users::table.filter(users::id.eq_any(whose)).select(users::id);
    user.for_no_key_update().first(conn).await.optional()
}

/// Locks a user by id and returns the password hash under the lock.
pub(super) async fn lock_password(conn: &mut AsyncPgConnection, user: UserId) -> QueryResult<Option<String>> {
    let hash = users::table.filter(users::id.eq(user)).filter(users::home_id.is_null()).select(users::password_hash);
    hash.for_no_key_update().first(conn).await.optional()
}

/// Locks the user with this e-mail. `None` also if another request gave the address up while the lock was awaited.
pub(super) async fn lock_by_email(conn: &mut AsyncPgConnection, email: &str) -> QueryResult<Option<UserId>> {
    let Some((found, _)) = by_email(conn, email).await? else { return Ok(None) };
    lock_password(conn, found.id).await?;
    let locked = by_email(conn, email).await?;
    Ok(locked.map(|(user, _)| user.id).filter(|user| *user == found.id))
}

pub(super) async fn password(conn: &mut AsyncPgConnection, user: UserId) -> QueryResult<Option<(String, String)>> {
    let person = users::table.find(user).filter(users::home_id.is_null());
    person.select((users::email, users::password_hash)).first(conn).await.optional()
}

pub(super) async fn set_password(conn: &mut AsyncPgConnection, user: UserId, password_hash: &str) -> QueryResult<()> {
    let row = diesel::update(users::table.find(user)).set(users::password_hash.eq(password_hash));
    row.execute(conn).await.map(drop)
}

pub(super) async fn set_name(conn: &mut AsyncPgConnection, user: UserId, name: &str) -> QueryResult<()> {
    diesel::update(users::table.find(user)).set(users::name.eq(name)).execute(conn).await.map(drop)
}

/// Fails with a unique violation if the e-mail is taken.
pub(super) async fn set_email(
    conn: &mut AsyncPgConnection,
    user: UserId,
    email: &str,
    is_verified: bool,
) -> QueryResult<()> {
    let columns = (users::email.eq(email), users::email_verified.eq(is_verified));
    diesel::update(users::table.find(user)).set(columns).execute(conn).await.map(drop)
}

pub(super) async fn set_email_verified(conn: &mut AsyncPgConnection, user: UserId) -> QueryResult<()> {
    diesel::update(users::table.find(user)).set(users::email_verified.eq(true)).execute(conn).await.map(drop)
}

/// `true` also for a user that does not exist.
pub(super) async fn is_email_verified(conn: &mut AsyncPgConnection, user: UserId) -> QueryResult<bool> {
    Ok(unverified_email(conn, user).await?.is_none())
}

/// The address of a user, if it is not verified.
pub(super) async fn unverified_email(conn: &mut AsyncPgConnection, user: UserId) -> QueryResult<Option<String>> {
    let unverified = users::table.find(user).filter(users::email_verified.eq(false));
    unverified.select(users::email).first(conn).await.optional()
}

/// As [`lock_password`], and no transaction can insert a row that refers to the user.
pub(super) async fn lock_for_deletion(conn: &mut AsyncPgConnection, user: UserId) -> QueryResult<Option<String>> {
    let hash = users::table.filter(users::id.eq(user)).filter(users::home_id.is_null()).select(users::password_hash);
    hash.for_update().first(conn).await.optional()
}

/// Whether the user is a member of any home.
pub(super) async fn belongs_to_a_home(conn: &mut AsyncPgConnection, user: UserId) -> QueryResult<bool> {
    diesel::select(exists(memberships::table.filter(memberships::user_id.eq(user)))).get_result(conn).await
}

/// Deletes a user with tokens, links and invitations.
pub(super) async fn delete(conn: &mut AsyncPgConnection, user: UserId) -> QueryResult<()> {
    diesel::delete(users::table.find(user)).execute(conn).await.map(drop)
}

/// `None` if the user does not exist. Locks the user as [`lock_by_token`] does.
pub(super) async fn set_password_of(
    conn: &mut AsyncPgConnection,
    email: &str,
    password_hash: &str,
) -> QueryResult<Option<UserId>> {
    diesel::update(users::table.filter(users::email.eq(email)).filter(users::home_id.is_null()))
        .set(users::password_hash.eq(password_hash))
        .returning(users::id)
        .get_result(conn)
        .await
        .optional()
}
