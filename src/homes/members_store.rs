//! SQL of members. All of it runs under the lock of the home's row.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::{Access, HomeRole, Member, Membership, Permission, store};
use crate::db::schema::{homes, memberships, users};
use crate::error::Error;
use crate::ids::{HomeId, UserId};

/// Locks a home until the end of the transaction against other changes of its members; `false` if it does not
/// exist. Creating rooms and registering devices takes the same lock.
pub(super) async fn lock_home(conn: &mut AsyncPgConnection, home: HomeId) -> QueryResult<bool> {
    let row = homes::table.filter(homes::id.eq(home)).select(homes::id);
    Ok(row.for_no_key_update().first::<HomeId>(conn).await.optional()?.is_some())
}

/// Locks the home and reads the caller's access again: the given one was read before the lock.
pub(crate) async fn lock(conn: &mut AsyncPgConnection, access: Access) -> Result<Access, Error> {
    lock_home(conn, access.home()).await?;
    let membership = store::membership(conn, access.user(), access.home()).await?;
    membership.ok_or(Error::NotFound("home"))?.allow(Permission::Read)
}

/// A person's role. Integrations are not members.
pub(super) async fn role_of(conn: &mut AsyncPgConnection, home: HomeId, user: UserId) -> Result<HomeRole, Error> {
    let membership = store::membership(conn, user, home).await?.filter(|membership| !membership.is_integration());
    Ok(membership.ok_or(Error::NotFound("member"))?.role())
}

pub(super) async fn count(conn: &mut AsyncPgConnection, home: HomeId) -> QueryResult<i64> {
    let people = memberships::table.filter(memberships::home_id.eq(home)).filter(memberships::scopes.is_null());
    people.count().get_result(conn).await
}

pub(super) async fn owners(conn: &mut AsyncPgConnection, home: HomeId) -> QueryResult<i64> {
    let owners =
        memberships::table.filter(memberships::home_id.eq(home)).filter(memberships::role.eq(HomeRole::Owner.as_str()));
    owners.count().get_result(conn).await
}

/// An existing membership is left unchanged.
pub(super) async fn insert(
    conn: &mut AsyncPgConnection,
    home: HomeId,
    user: UserId,
    role: HomeRole,
    joined_at: DateTime<Utc>,
) -> QueryResult<()> {
    diesel::insert_into(memberships::table)
        .values((
            memberships::home_id.eq(home),
            memberships::user_id.eq(user),
            memberships::role.eq(role),
            memberships::joined_at.eq(joined_at),
        ))
        .on_conflict_do_nothing()
        .execute(conn)
        .await
        .map(drop)
}

pub(super) async fn set_role(
    conn: &mut AsyncPgConnection,
    home: HomeId,
    user: UserId,
    role: HomeRole,
) -> QueryResult<Member> {
    let row: (Membership, DateTime<Utc>) = diesel::update(memberships::table.find((home, user)))
        .set(memberships::role.eq(role))
        .returning((store::MEMBERSHIP, memberships::joined_at))
        .get_result(conn)
        .await?;
    Ok(Member::new(row.0, row.1))
}

pub(super) async fn delete(conn: &mut AsyncPgConnection, home: HomeId, user: UserId) -> QueryResult<()> {
    diesel::delete(memberships::table.find((home, user))).execute(conn).await.map(drop)
}

pub(super) async fn email(conn: &mut AsyncPgConnection, user: UserId) -> QueryResult<Option<String>> {
    users::table.find(user).select(users::email).first(conn).await.optional()
}
