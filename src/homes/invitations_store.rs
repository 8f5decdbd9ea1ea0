//! SQL of invitations.

use chrono::{DateTime, Utc};
use diesel::dsl::exists;
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::{Access, HomeRole, Invitation, Membership, store};
use crate::db::schema::{invitations, memberships, users};
use crate::error::Error;
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
type Row = (InvitationId, HomeId, String, String, DateTime<Utc>, DateTime<Utc>);

fn invitation((id, home, email, role, created_at, expires_at): Row) -> Result<Invitation, Error> {
    Ok(Invitation { id, home, email, role: parse(&role)?, created_at, expires_at })
}

fn parse(role: &str) -> Result<HomeRole, Error> {
    role.parse().map_err(Error::internal)
}

/// One invitation to keep.
pub(super) struct NewInvitation<'a> {
    pub(super) email: &'a str,
    pub(super) role: HomeRole,
    pub(super) digest: &'a [u8],
    pub(super) created_at: DateTime<Utc>,
    pub(super) expires_at: DateTime<Utc>,
}

/// Into the home of the access, by its holder.
pub(super) async fn insert(
    conn: &mut AsyncPgConnection,
    access: Access,
    new: &NewInvitation<'_>,
) -> Result<Invitation, Error> {
    let row: Row = diesel::insert_into(invitations::table)
        .values((
            invitations::home_id.eq(access.home()),
            invitations::email.eq(new.email),
            invitations::role.eq(new.role.as_str()),
            invitations::token_hash.eq(new.digest),
            invitations::invited_by.eq(access.user()),
            invitations::created_at.eq(new.created_at),
            invitations::expires_at.eq(new.expires_at),
        ))
        .returning(COLUMNS)
        .get_result(conn)
        .await?;
    invitation(row)
}

/// Whether the account of an e-mail is a member.
pub(super) async fn is_member(conn: &mut AsyncPgConnection, home: HomeId, email: &str) -> QueryResult<bool> {
    let member = memberships::table
        .inner_join(users::table.on(users::id.eq(memberships::user_id)))
        .filter(memberships::home_id.eq(home))
        .filter(users::email.eq(email));
    diesel::select(exists(member)).get_result(conn).await
}

/// Deletes the home's invitations that are over, and the one of this e-mail; tells which that was, and the
/// role it offered, if it was open.
pub(super) async fn clear(
    conn: &mut AsyncPgConnection,
    home: HomeId,
    email: &str,
    now: DateTime<Utc>,
) -> Result<Option<(InvitationId, HomeRole)>, Error> {
    let old = invitations::table
        .filter(invitations::home_id.eq(home))
        .filter(invitations::email.eq(email).or(invitations::expires_at.le(now)));
    let columns = (invitations::id, invitations::role, invitations::expires_at);
    let gone: Vec<(InvitationId, String, DateTime<Utc>)> =
        diesel::delete(old).returning(columns).get_results(conn).await?;
    let open = gone.into_iter().find(|(.., expires_at)| *expires_at > now);
    open.map(|(id, role, _)| Ok((id, parse(&role)?))).transpose()
}

/// Deletes what somebody whose role is now this one could no longer offer, and tells it.
pub(super) async fn clear_of(
    conn: &mut AsyncPgConnection,
    home: HomeId,
    by: UserId,
    role: HomeRole,
) -> QueryResult<Vec<InvitationId>> {
    let mine = invitations::table.filter(invitations::home_id.eq(home)).filter(invitations::invited_by.eq(by));
    let stays = |offered: &HomeRole| role >= HomeRole::Admin && *offered <= role;
    let too_high: Vec<_> = HomeRole::ALL.into_iter().filter(|offered| !stays(offered)).map(HomeRole::as_str).collect();
    let too_high = mine.filter(invitations::role.eq_any(too_high));
    diesel::delete(too_high).returning(invitations::id).get_results(conn).await
}

pub(super) async fn count(conn: &mut AsyncPgConnection, home: HomeId) -> QueryResult<i64> {
    invitations::table.filter(invitations::home_id.eq(home)).count().get_result(conn).await
}

/// Those of `homes` that may still be accepted, by home, oldest first.
pub(super) async fn open(
    conn: &mut AsyncPgConnection,
    homes: &[HomeId],
    now: DateTime<Utc>,
) -> Result<Vec<Invitation>, Error> {
    let rows: Vec<Row> = invitations::table
        .filter(invitations::home_id.eq_any(homes))
        .filter(invitations::expires_at.gt(now))
        .order((invitations::home_id, invitations::id))
        .select(COLUMNS)
        .load(conn)
        .await?;
    rows.into_iter().map(invitation).collect()
}

/// The role an invitation offers and the viewer's place in its home, if they have one.
pub(super) async fn visible(
    conn: &mut AsyncPgConnection,
    viewer: UserId,
    id: InvitationId,
) -> Result<Option<(HomeRole, Membership)>, Error> {
    let found: Option<(String, Membership)> = invitations::table
        .inner_join(memberships::table.on(memberships::home_id.eq(invitations::home_id)))
        .filter(memberships::user_id.eq(viewer))
        .filter(invitations::id.eq(id))
        .select((invitations::role, store::MEMBERSHIP))
        .first(conn)
        .await
        .optional()?;
    found.map(|(role, membership)| Ok((parse(&role)?, membership))).transpose()
}

/// Tells whose it was.
pub(super) async fn delete(
    conn: &mut AsyncPgConnection,
    home: HomeId,
    id: InvitationId,
) -> QueryResult<Option<String>> {
    let row = invitations::table.filter(invitations::id.eq(id)).filter(invitations::home_id.eq(home));
    diesel::delete(row).returning(invitations::email).get_result(conn).await.optional()
}

/// The home of a token, if it was made for this user's e-mail.
pub(super) async fn home_of(conn: &mut AsyncPgConnection, digest: &[u8], user: UserId) -> QueryResult<Option<HomeId>> {
    let found = invitations::table
        .inner_join(users::table.on(users::email.eq(invitations::email)))
        .filter(invitations::token_hash.eq(digest))
        .filter(users::id.eq(user));
    found.select(invitations::home_id).first(conn).await.optional()
}

/// Uses a token up and tells which it was, whose, and the role it offers. Of several at once exactly one gets it.
pub(super) async fn take(
    conn: &mut AsyncPgConnection,
    digest: &[u8],
    user: UserId,
    now: DateTime<Utc>,
) -> Result<Option<(InvitationId, String, HomeRole)>, Error> {
    let email = users::table.filter(users::id.eq(user)).select(users::email);
    let live = invitations::table
        .filter(invitations::token_hash.eq(digest))
        .filter(invitations::email.eq_any(email))
        .filter(invitations::expires_at.gt(now));
    let columns = (invitations::id, invitations::email, invitations::role);
    let taken: Option<(InvitationId, String, String)> =
        diesel::delete(live).returning(columns).get_result(conn).await.optional()?;
    taken.map(|(id, email, role)| Ok((id, email, parse(&role)?))).transpose()
}
