//! SQL of links between people and outside issuers.

use chrono::{DateTime, Utc};
use diesel::dsl::exists;
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::db::schema::outside_identities;
use crate::ids::{OutsideIdentityId, UserId};

pub(super) async fn find(
    conn: &mut AsyncPgConnection,
    issuer: &str,
    subject: &str,
) -> QueryResult<Option<(OutsideIdentityId, UserId)>> {
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

/// Whose it was.
pub(super) async fn delete(conn: &mut AsyncPgConnection, issuer: &str, subject: &str) -> QueryResult<Option<UserId>> {
    diesel::delete(
        outside_identities::table
            .filter(outside_identities::issuer.eq(issuer))
            .filter(outside_identities::subject.eq(subject)),
    )
    .returning(outside_identities::user_id)
    .get_result(conn)
    .await
    .optional()
}
