//! SQL of links between accounts and external identities.

use chrono::{DateTime, Utc};
use diesel::dsl::exists;
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::db::schema::external_identities;
use crate::ids::{ExternalIdentityId, UserId};

/// The link of an identity; without a user if it was removed.
pub(super) async fn find(
    conn: &mut AsyncPgConnection,
    issuer: &str,
    subject: &str,
) -> QueryResult<Option<(ExternalIdentityId, Option<UserId>)>> {
    external_identities::table
        .filter(external_identities::issuer.eq(issuer))
        .filter(external_identities::subject.eq(subject))
        .select((external_identities::id, external_identities::user_id))
        .first(conn)
        .await
        .optional()
}

/// Whether the user is linked to any subject of this issuer. Stable while the user's row is locked.
pub(super) async fn has_link(conn: &mut AsyncPgConnection, issuer: &str, user: UserId) -> QueryResult<bool> {
    let links = external_identities::table.filter(external_identities::issuer.eq(issuer));
    let links = links.filter(external_identities::user_id.eq(user));
    diesel::select(exists(links)).get_result(conn).await
}

/// Inserts a link; an existing row is left unchanged.
pub(super) async fn insert(
    conn: &mut AsyncPgConnection,
    issuer: &str,
    subject: &str,
    user: UserId,
    created_at: DateTime<Utc>,
) -> QueryResult<()> {
    diesel::insert_into(external_identities::table)
        .values((
            external_identities::issuer.eq(issuer),
            external_identities::subject.eq(subject),
            external_identities::user_id.eq(user),
            external_identities::created_at.eq(created_at),
        ))
        .on_conflict((external_identities::issuer, external_identities::subject))
        .do_nothing()
        .execute(conn)
        .await
        .map(drop)
}

/// Inserts a link, or restores one that was removed.
pub(super) async fn insert_or_restore(
    conn: &mut AsyncPgConnection,
    issuer: &str,
    subject: &str,
    user: UserId,
    created_at: DateTime<Utc>,
) -> QueryResult<()> {
    let link = (external_identities::user_id.eq(user), external_identities::created_at.eq(created_at));
    let put = diesel::insert_into(external_identities::table)
        .values((external_identities::issuer.eq(issuer), external_identities::subject.eq(subject), link))
        .on_conflict((external_identities::issuer, external_identities::subject))
        .do_update()
        .set(link);
    // Named in full: the prelude's `filter` is another trait's.
    let put = diesel::query_dsl::methods::FilterDsl::filter(put, external_identities::user_id.is_null());
    put.execute(conn).await.map(drop)
}

/// Removes the user from a link, keeps the row, and returns the user.
pub(super) async fn remove_user(
    conn: &mut AsyncPgConnection,
    issuer: &str,
    subject: &str,
) -> QueryResult<Option<UserId>> {
    let link = external_identities::table
        .filter(external_identities::issuer.eq(issuer))
        .filter(external_identities::subject.eq(subject))
        .select((external_identities::id, external_identities::user_id));
    let found: Option<(ExternalIdentityId, Option<UserId>)> = link.for_update().first(conn).await.optional()?;
    let Some((id, Some(user))) = found else { return Ok(None) };
    let nobody = external_identities::user_id.eq(None::<UserId>);
    diesel::update(external_identities::table.find(id)).set(nobody).execute(conn).await?;
    Ok(Some(user))
}
