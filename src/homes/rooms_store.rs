//! SQL of rooms.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::store::MEMBERSHIP;
use super::{Membership, Room};
use crate::db::schema::{memberships, rooms};
use crate::ids::{HomeId, RoomId, UserId};

diesel::define_sql_function! {
    /// Lower case, as in the unique index on room names. This is not the full case folding of Unicode: "ß" and "ss" differ, and so
    /// do the two small forms of sigma.
    fn fold_case(text: diesel::sql_types::Text) -> diesel::sql_types::Text;
}

type Row = (RoomId, HomeId, String);

fn room((id, home, name): Row) -> Room {
    Room { id, home, name }
}

pub(super) async fn of_homes(conn: &mut AsyncPgConnection, homes: &[HomeId]) -> QueryResult<Vec<Room>> {
    let rows: Vec<Row> = rooms::table
        .filter(rooms::home_id.eq_any(homes))
        .order((rooms::home_id, fold_case(rooms::name)))
        .select((rooms::id, rooms::home_id, rooms::name))
        .load(conn)
        .await?;
    Ok(rows.into_iter().map(room).collect())
}

pub(super) async fn visible(
    conn: &mut AsyncPgConnection,
    viewer: UserId,
    ids: &[RoomId],
) -> QueryResult<Vec<(Room, Membership)>> {
    let rows: Vec<(Row, Membership)> = rooms::table
        .inner_join(memberships::table.on(memberships::home_id.eq(rooms::home_id)))
        .filter(memberships::user_id.eq(viewer))
        .filter(rooms::id.eq_any(ids))
        .select(((rooms::id, rooms::home_id, rooms::name), MEMBERSHIP))
        .load(conn)
        .await?;
    Ok(rows.into_iter().map(|(row, membership)| (room(row), membership)).collect())
}

pub(super) async fn count(conn: &mut AsyncPgConnection, home: HomeId) -> QueryResult<i64> {
    rooms::table.filter(rooms::home_id.eq(home)).count().get_result(conn).await
}

/// `None` if the home has a room with this name.
pub(super) async fn insert(
    conn: &mut AsyncPgConnection,
    home: HomeId,
    name: &str,
    created_at: DateTime<Utc>,
) -> QueryResult<Option<RoomId>> {
    diesel::insert_into(rooms::table)
        .values((rooms::home_id.eq(home), rooms::name.eq(name), rooms::created_at.eq(created_at)))
        .on_conflict_do_nothing()
        .returning(rooms::id)
        .get_result(conn)
        .await
        .optional()
}

/// Locks the room until the end of the transaction and returns its name.
pub(super) async fn lock(conn: &mut AsyncPgConnection, home: HomeId, id: RoomId) -> QueryResult<Option<String>> {
    let room = rooms::table.filter(rooms::id.eq(id)).filter(rooms::home_id.eq(home));
    room.select(rooms::name).for_no_key_update().first(conn).await.optional()
}

/// Fails with a unique violation if the name is taken.
pub(super) async fn rename(conn: &mut AsyncPgConnection, home: HomeId, id: RoomId, name: &str) -> QueryResult<usize> {
    let room = rooms::table.filter(rooms::id.eq(id)).filter(rooms::home_id.eq(home));
    diesel::update(room).set(rooms::name.eq(name)).execute(conn).await
}

/// Returns the deleted room's name.
pub(super) async fn delete(conn: &mut AsyncPgConnection, home: HomeId, id: RoomId) -> QueryResult<Option<String>> {
    let room = rooms::table.filter(rooms::id.eq(id)).filter(rooms::home_id.eq(home));
    diesel::delete(room).returning(rooms::name).get_result(conn).await.optional()
}
