//! SQL of leaving all homes.

use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::db::schema::memberships;
use crate::db::statement;
use crate::ids::{HomeId, UserId};

statement! {
    struct FindOnlyOwned("sql/find_only_owned.sql") -> BigInt { user_id: BigInt = UserId }
}

/// The homes of which the user is the only owner.
pub(super) async fn find_only_owned(conn: &mut AsyncPgConnection, user_id: UserId) -> QueryResult<Vec<HomeId>> {
    FindOnlyOwned { user_id }.get_results(conn).await
}

/// Up to `limit` homes of a user.
pub(super) async fn page(conn: &mut AsyncPgConnection, user: UserId, limit: i64) -> QueryResult<Vec<HomeId>> {
    let mine = memberships::table.filter(memberships::user_id.eq(user)).select(memberships::home_id);
    mine.order(memberships::home_id).limit(limit).load(conn).await
}
