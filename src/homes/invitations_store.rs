//! SQL of invitations.

use chrono::{DateTime, Utc};
use diesel::dsl::exists;
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::{Access, HomeRole, Invitation, Membership, store};
use crate::db::schema::{invitations, memberships, users};
use crate::ids::{HomeId, InvitationId, UserId};

type Columns = (
    invitations::id,
    invitations::home_id,
    invitations::email,
    invitations::role,
    invitations::created_at,
    invitations::expires_at,
);
const COLUMNS: Columns = (
    invitations::id,
    invitations::home_id,
    invitations::email,
    invitations::role,
    invitations::created_at,
    invitations::expires_at,
);
type Row = (InvitationId, HomeId, String, HomeRole, DateTime<Utc>, DateTime<Utc>);

fn invitation((id, home, email, role, created_at, expires_at): Row) -> Invitation {
    Invitation { id, home, email, role, created_at, expires_at }
}

pub(super) struct NewInvitation<'a> {
    pub(super) email: &'a str,
    pub(super) role: HomeRole,
    pub(super) digest: &'a [u8],
    pub(super) created_at: DateTime<Utc>,
    pub(super) expires_at: DateTime<Utc>,
}

/// Inserts an invitation of the access's user into its home.
pub(super) async fn insert(
    conn: &mut AsyncPgConnection,
    access: Access,
    new: &NewInvitation<'_>,
) -> QueryResult<Invitation> {
    let row: Row = diesel::insert_into(invitations::table)
        .values((
            invitations::home_id.eq(access.home()),
            invitations::email.eq(new.email),
            invitations::role.eq(new.role),
            invitations::token_hash.eq(new.digest),
            invitations::invited_by.eq(access.user()),
            invitations::created_at.eq(new.created_at),
            invitations::expires_at.eq(new.expires_at),
        ))
        .returning(COLUMNS)
        .get_result(conn)
        .await?;
    Ok(invitation(row))
}

/// Whether the account with this e-mail is a member.
pub(super) async fn is_member(conn: &mut AsyncPgConnection, home: HomeId, email: &str) -> QueryResult<bool> {
    let member = memberships::table
        .inner_join(users::table.on(users::id.eq(memberships::user_id)))
        .filter(memberships::home_id.eq(home))
        .filter(users::email.eq(email));
    diesel::select(exists(member)).get_result(conn).await
}

/// Deletes the home's expired invitations and the one for this e-mail. Returns the latter's id and role if it was
/// open.
pub(super) async fn delete_replaced(
    conn: &mut AsyncPgConnection,
    home: HomeId,
    email: &str,
    now: DateTime<Utc>,
) -> QueryResult<Option<(InvitationId, HomeRole)>> {
    let old = invitations::table
        .filter(invitations::home_id.eq(home))
        .filter(invitations::email.eq(email).or(invitations::expires_at.le(now)));
    let columns = (invitations::id, invitations::role, invitations::expires_at);
    let deleted: Vec<(InvitationId, HomeRole, DateTime<Utc>)> =
        diesel::delete(old).returning(columns).get_results(conn).await?;
    let open = deleted.into_iter().find(|(.., expires_at)| *expires_at > now);
    Ok(open.map(|(id, role, _)| (id, role)))
}

/// Deletes a user's invitations that their new role no longer permits, and returns their ids.
pub(super) async fn delete_above(
    conn: &mut AsyncPgConnection,
    home: HomeId,
    by: UserId,
    role: HomeRole,
) -> QueryResult<Vec<InvitationId>> {
    let mine = invitations::table.filter(invitations::home_id.eq(home)).filter(invitations::invited_by.eq(by));
    let is_permitted = |offered: &HomeRole| role >= HomeRole::Admin && *offered <= role;
    let too_high: Vec<_> = HomeRole::ALL.iter().filter(|offered| !is_permitted(offered)).copied().collect();
    let too_high = mine.filter(invitations::role.eq_any(too_high));
    diesel::delete(too_high).returning(invitations::id).get_results(conn).await
}

pub(super) async fn count(conn: &mut AsyncPgConnection, home: HomeId) -> QueryResult<i64> {
    invitations::table.filter(invitations::home_id.eq(home)).count().get_result(conn).await
}

/// Invitations that can still be accepted, ordered by home, oldest first.
pub(super) async fn open(
    conn: &mut AsyncPgConnection,
    homes: &[HomeId],
    now: DateTime<Utc>,
) -> QueryResult<Vec<Invitation>> {
    let rows: Vec<Row> = invitations::table
        .filter(invitations::home_id.eq_any(homes))
        .filter(invitations::expires_at.gt(now))
        .order((invitations::home_id, invitations::id))
        .select(COLUMNS)
        .load(conn)
        .await?;
    Ok(rows.into_iter().map(invitation).collect())
}

/// The role an invitation offers and the viewer's membership in its home.
pub(super) async fn visible(
    conn: &mut AsyncPgConnection,
    viewer: UserId,
    id: InvitationId,
) -> QueryResult<Option<(HomeRole, Membership)>> {
    invitations::table
        .inner_join(memberships::table.on(memberships::home_id.eq(invitations::home_id)))
        .filter(memberships::user_id.eq(viewer))
        .filter(invitations::id.eq(id))
        .select((invitations::role, store::MEMBERSHIP))
        .first(conn)
        .await
        .optional()
}

/// Returns the deleted invitation's e-mail.
pub(super) async fn delete(
    conn: &mut AsyncPgConnection,
    home: HomeId,
    id: InvitationId,
) -> QueryResult<Option<String>> {
    let row = invitations::table.filter(invitations::id.eq(id)).filter(invitations::home_id.eq(home));
    diesel::delete(row).returning(invitations::email).get_result(conn).await.optional()
}

/// The home of a token, if the token was issued for this user's e-mail.
pub(super) async fn home_of(conn: &mut AsyncPgConnection, digest: &[u8], user: UserId) -> QueryResult<Option<HomeId>> {
    let found = invitations::table
        .inner_join(users::table.on(users::email.eq(invitations::email)))
        .filter(invitations::token_hash.eq(digest))
        .filter(users::id.eq(user));
    found.select(invitations::home_id).first(conn).await.optional()
}

/// Consumes a token and returns its invitation's id, e-mail and role. Of concurrent callers exactly one succeeds.
pub(super) async fn consume(
    conn: &mut AsyncPgConnection,
    digest: &[u8],
    user: UserId,
    now: DateTime<Utc>,
) -> QueryResult<Option<(InvitationId, String, HomeRole)>> {
    let email = users::table.filter(users::id.eq(user)).select(users::email);
    let live = invitations::table
        .filter(invitations::token_hash.eq(digest))
        .filter(invitations::email.eq_any(email))
        .filter(invitations::expires_at.gt(now));
    let columns = (invitations::id, invitations::email, invitations::role);
    diesel::delete(live).returning(columns).get_result(conn).await.optional()
}
