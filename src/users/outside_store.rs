//! SQL of links between people and outside issuers.

use chrono::{DateTime, Utc};
use diesel::dsl::exists;
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::db::schema::outside_identities;
use crate::ids::{ExternalIdentityId, UserId};

/// Without a user where the link was taken back.
pub(super) async fn find(
    conn: &mut AsyncPgConnection,
    issuer: &str,
    subject: &str,
) -> QueryResult<Option<(ExternalIdentityId, Option<UserId>)>> {
    outside_identities::table
        .filter(outside_identities::issuer.eq(issuer))
        .filter(outside_identities::subject.eq(subject))
        .select((outside_identities::id, outside_identities::user_id))
        .first(conn)
        .await
        .optional()
}

/// Whether anybody at this issuer is this user. Behind the user's lock it stays so.
pub(super) async fn knows(conn: &mut AsyncPgConnection, issuer: &str, user: UserId) -> QueryResult<bool> {
    let links = outside_identities::table.filter(outside_identities::issuer.eq(issuer));
    let links = links.filter(outside_identities::user_id.eq(user));
    diesel::select(exists(links)).get_result(conn).await
}

/// Leaves what is there already as it is.
pub(super) async fn insert(
    conn: &mut AsyncPgConnection,
    issuer: &str,
    subject: &str,
    user: UserId,
    created_at: DateTime<Utc>,
) -> QueryResult<()> {
    diesel::insert_into(outside_identities::table)
        .values((
            outside_identities::issuer.eq(issuer),
            outside_identities::subject.eq(subject),
            outside_identities::user_id.eq(user),
            outside_identities::created_at.eq(created_at),
        ))
        .on_conflict((outside_identities::issuer, outside_identities::subject))
        .do_nothing()
        .execute(conn)
        .await
        .map(drop)
}

/// The same, but makes a link that was taken back anew.
pub(super) async fn put(
    conn: &mut AsyncPgConnection,
    issuer: &str,
    subject: &str,
    user: UserId,
    created_at: DateTime<Utc>,
) -> QueryResult<()> {
    let link = (outside_identities::user_id.eq(user), outside_identities::created_at.eq(created_at));
    let put = diesel::insert_into(outside_identities::table)
        .values((outside_identities::issuer.eq(issuer), outside_identities::subject.eq(subject), link))
        .on_conflict((outside_identities::issuer, outside_identities::subject))
        .do_update()
        .set(link);
    // Named in full: the prelude's `filter` is another trait's.
    let put = diesel::query_dsl::methods::FilterDsl::filter(put, outside_identities::user_id.is_null());
    put.execute(conn).await.map(drop)
}

/// Keeps the row without its user, and tells whose it was.
pub(super) async fn take_back(
    conn: &mut AsyncPgConnection,
    issuer: &str,
    subject: &str,
) -> QueryResult<Option<UserId>> {
    let link = outside_identities::table
        .filter(outside_identities::issuer.eq(issuer))
        .filter(outside_identities::subject.eq(subject))
        .select((outside_identities::id, outside_identities::user_id));
    let found: Option<(ExternalIdentityId, Option<UserId>)> = link.for_update().first(conn).await.optional()?;
    let Some((id, Some(user))) = found else { return Ok(None) };
    let nobody = outside_identities::user_id.eq(None::<UserId>);
    diesel::update(outside_identities::table.find(id)).set(nobody).execute(conn).await?;
    Ok(Some(user))
}
