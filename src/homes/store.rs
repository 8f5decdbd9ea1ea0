//! SQL of homes and memberships.

use chrono::{DateTime, Utc};
use diesel::deserialize;
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, SmallInt, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};

use super::scopes::Scopes;
use super::{Access, Home, HomeRole, Member, Membership};
use crate::db::schema::{homes, memberships, used_home_keys, users};
use crate::ids::{HomeId, UserId};

/// SQL types of the columns of a [`Membership`], for statements that join memberships.
pub(crate) type MembershipColumns = (BigInt, BigInt, Text, Nullable<SmallInt>);

impl Queryable<MembershipColumns, Pg> for Membership {
    type Row = (UserId, HomeId, HomeRole, Option<i16>);

    fn build((user, home, role, scopes): Self::Row) -> deserialize::Result<Self> {
        Ok(Self::new(user, home, role, scopes.map(Scopes::from_bits)))
    }
}

type Columns = (homes::id, homes::key, homes::name, homes::timezone, homes::created_at);
const COLUMNS: Columns = (homes::id, homes::key, homes::name, homes::timezone, homes::created_at);
/// Id, key, name, time zone, and when it was created.
pub(crate) type HomeRow = (HomeId, String, String, String, DateTime<Utc>);

pub(super) type MembershipOf = (memberships::user_id, memberships::home_id, memberships::role, memberships::scopes);
/// The columns of a [`Membership`].
pub(super) const MEMBERSHIP: MembershipOf =
    (memberships::user_id, memberships::home_id, memberships::role, memberships::scopes);

fn home(((id, key, name, timezone, created_at), membership): (HomeRow, Membership)) -> Home {
    Home { id, key, name, timezone, created_at, membership }
}

impl Home {
    /// The home as the member with this access sees it.
    pub(crate) fn seen_by(row: HomeRow, access: Access) -> Self {
        home((row, access.membership()))
    }
}

pub(super) async fn membership(
    conn: &mut AsyncPgConnection,
    user: UserId,
    home: HomeId,
) -> QueryResult<Option<Membership>> {
    let row = memberships::table.filter(memberships::user_id.eq(user)).filter(memberships::home_id.eq(home));
    row.select(MEMBERSHIP).first(conn).await.optional()
}

/// The viewer's homes, or those of `ids` among them, ordered by id.
pub(super) async fn visible(
    conn: &mut AsyncPgConnection,
    viewer: UserId,
    ids: Option<&[HomeId]>,
) -> QueryResult<Vec<Home>> {
    let mine = homes::table
        .inner_join(memberships::table.on(memberships::home_id.eq(homes::id)))
        .filter(memberships::user_id.eq(viewer))
        .order(homes::id)
        .select((COLUMNS, MEMBERSHIP));
    let rows: Vec<(HomeRow, Membership)> = match ids {
        Some(ids) => mine.filter(homes::id.eq_any(ids)).load(conn).await?,
        None => mine.load(conn).await?,
    };
    Ok(rows.into_iter().map(home).collect())
}

/// For each of `users` the homes shared with the viewer, as the viewer sees them.
pub(super) async fn shared(
    conn: &mut AsyncPgConnection,
    viewer: UserId,
    users: &[UserId],
) -> QueryResult<Vec<(UserId, Home)>> {
    let theirs = diesel::alias!(memberships as theirs);
    let rows: Vec<(UserId, (HomeRow, Membership))> = homes::table
        .inner_join(memberships::table.on(memberships::home_id.eq(homes::id)))
        .inner_join(theirs.on(theirs.field(memberships::home_id).eq(homes::id)))
        .filter(memberships::user_id.eq(viewer))
        .filter(theirs.field(memberships::user_id).eq_any(users))
        .order(homes::id)
        .select((theirs.field(memberships::user_id), (COLUMNS, MEMBERSHIP)))
        .load(conn)
        .await?;
    Ok(rows.into_iter().map(|(user, row)| (user, home(row))).collect())
}

/// Counts the homes that a user owns. Locks the user until the end of the transaction: otherwise concurrent requests
/// would all count before one of them adds a home. To be called after the home is locked.
pub(super) async fn lock_and_count_owned(conn: &mut AsyncPgConnection, user: UserId) -> QueryResult<i64> {
    let row = users::table.find(user).select(users::id).for_no_key_update();
    row.first::<UserId>(conn).await.optional()?;
    let owned = memberships::table.filter(memberships::user_id.eq(user)).filter(memberships::role.eq(HomeRole::Owner));
    owned.count().get_result(conn).await
}

/// A home to insert. Its key is its id if none is given.
pub(super) struct NewHome {
    pub(super) key: Option<String>,
    pub(super) name: String,
    pub(super) timezone: String,
    pub(super) created_at: DateTime<Utc>,
}

/// Whether devices were ever registered under this key, in a home that may be deleted.
pub(super) async fn is_used_key(conn: &mut AsyncPgConnection, key: &str) -> QueryResult<bool> {
    let row = used_home_keys::table.find(key).select(used_home_keys::key);
    Ok(row.first::<String>(conn).await.optional()?.is_some())
}

/// `None` if the key is taken.
pub(super) async fn insert(conn: &mut AsyncPgConnection, new: &NewHome, owner: UserId) -> QueryResult<Option<Home>> {
    let id: HomeId =
        diesel::select(sql::<BigInt>("nextval(pg_get_serial_sequence('homes', 'id'))")).get_result(conn).await?;
    let row: Option<HomeRow> = diesel::insert_into(homes::table)
        .values((
            homes::id.eq(id),
            homes::key.eq(new.key.clone().unwrap_or_else(|| id.to_string())),
            homes::name.eq(&new.name),
            homes::timezone.eq(&new.timezone),
            homes::created_at.eq(new.created_at),
        ))
        .on_conflict(homes::key)
        .do_nothing()
        .returning(COLUMNS)
        .get_result(conn)
        .await
        .optional()?;
    let Some(row) = row else { return Ok(None) };
    let membership: Membership = diesel::insert_into(memberships::table)
        .values((
            memberships::home_id.eq(id),
            memberships::user_id.eq(owner),
            memberships::role.eq(HomeRole::Owner),
            memberships::joined_at.eq(new.created_at),
        ))
        .returning(MEMBERSHIP)
        .get_result(conn)
        .await?;
    Ok(Some(home((row, membership))))
}

/// Locks the home until the end of the transaction and returns its name and time zone.
pub(super) async fn lock_settings(conn: &mut AsyncPgConnection, id: HomeId) -> QueryResult<Option<(String, String)>> {
    let row = homes::table.find(id).select((homes::name, homes::timezone));
    row.for_no_key_update().first(conn).await.optional()
}

pub(super) async fn update(
    conn: &mut AsyncPgConnection,
    id: HomeId,
    name: Option<&str>,
    timezone: Option<&str>,
) -> QueryResult<()> {
    let (name, timezone) = (name.map(|name| homes::name.eq(name)), timezone.map(|zone| homes::timezone.eq(zone)));
    if name.is_none() && timezone.is_none() {
        return Ok(());
    }
    diesel::update(homes::table.find(id)).set((name, timezone)).execute(conn).await.map(drop)
}

/// Members without integrations, ordered by home and time of joining.
pub(super) async fn members(conn: &mut AsyncPgConnection, ids: &[HomeId]) -> QueryResult<Vec<(HomeId, Member)>> {
    let rows: Vec<(Membership, DateTime<Utc>)> = memberships::table
        .filter(memberships::home_id.eq_any(ids))
        .filter(memberships::scopes.is_null())
        .order((memberships::home_id, memberships::joined_at, memberships::user_id))
        .select((MEMBERSHIP, memberships::joined_at))
        .load(conn)
        .await?;
    Ok(rows.into_iter().map(|(member, joined_at)| (member.home(), Member::new(member, joined_at))).collect())
}

/// Waits for the batch that ingest is writing and blocks the next one until the end of the transaction.
pub(crate) async fn acquire_ingest_lock(conn: &mut AsyncPgConnection) -> QueryResult<()> {
    conn.batch_execute(crate::db::locks::TAKE_INGEST).await
}

/// Locks the home's rooms and devices until the end of the transaction, so that nothing has to be waited for while
/// the ingest lock is held. Rooms first, in the same order as deleting a room. Also deletes device credentials, on
/// which no batch of ingest waits.
pub(super) async fn prepare_deletion(conn: &mut AsyncPgConnection, home: HomeId) -> QueryResult<()> {
    for sql in [
        "select from rooms where home_id = $1 order by id for no key update",
        "select from devices where home_id = $1 order by id for no key update",
        "delete from device_credentials c using devices d where d.home_id = $1 and c.device_id = d.id",
    ] {
        diesel::sql_query(sql).bind::<BigInt, _>(home).execute(conn).await?;
    }
    Ok(())
}

/// Deletes the home and its small dependents. Call it while holding the ingest lock.
pub(super) async fn delete(conn: &mut AsyncPgConnection, home: HomeId) -> QueryResult<()> {
    // Devices are locked before their dependents and in the order of their ids, as everywhere.
    let devices = diesel::sql_query("select from devices where home_id = $1 order by id for update");
    devices.bind::<BigInt, _>(home).execute(conn).await?;
    diesel::delete(homes::table.find(home)).execute(conn).await.map(drop)
}
