//! SQL of reading devices. Each statement joins the viewer's membership, so what they can't see is not
//! in the answer, and the device's state, so a list costs one statement.

use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, Bool, Double, Jsonb, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::device::{Device, LastState, Metadata};
use crate::db::{JsonText, MemoryBudget, collect_bounded};
use crate::error::Error;
use crate::homes::{Membership, MembershipColumns};
use crate::ids::{DeviceId, HomeId, RoomId, UserId};

type SqlRow = (
    (BigInt, BigInt, Text, Text, Text, Nullable<Text>, Text, Nullable<BigInt>, Timestamptz),
    (Bool, Nullable<Timestamptz>, Nullable<Timestamptz>, Nullable<Text>, Nullable<Double>, Nullable<Double>, Jsonb),
    (BigInt, Nullable<Timestamptz>),
    (Nullable<Text>, Nullable<Text>),
    MembershipColumns,
);
type Entered = (DeviceId, HomeId, String, String, String, Option<String>, String, Option<RoomId>, DateTime<Utc>);
type Said = (bool, Option<DateTime<Utc>>, Option<DateTime<Utc>>, Option<String>, Option<f64>, Option<f64>, JsonText);
/// Messages let go, and when the last of them came.
type Shed = (i64, Option<DateTime<Utc>>);
type Segments = (Option<String>, Option<String>);
type Row = (Entered, Said, Shed, Segments, Membership);

const COLUMNS: &str = "d.id, d.home_id, h.key, d.key, d.name, d.mac_address, d.type, d.room_id, d.created_at, \
     coalesce(s.online, false), s.online_changed_at, s.last_seen_at, s.firmware_version, s.signal_strength, \
     s.battery_level, coalesce(s.metadata, '{}'), coalesce(s.shed_messages, 0), s.last_shed_at, s.home_segment, \
     s.device_segment, m.user_id, m.home_id, m.role, m.scopes";

fn device((entered, said, (shed_messages, last_shed_at), segments, membership): Row) -> QueryResult<Device> {
    let (id, home, home_key, key, name, mac, kind, room, created_at) = entered;
    let (online, online_changed_at, last_seen_at, firmware_version, signal_strength, battery_level, metadata) = said;
    let kind = kind.parse().map_err(|error| diesel::result::Error::DeserializationError(Box::new(error)))?;
    Ok(Device {
        id,
        home,
        home_key,
        key,
        name,
        mac,
        kind,
        room,
        created_at,
        state: LastState {
            online,
            online_changed_at,
            last_seen_at,
            firmware_version,
            signal_strength,
            battery_level,
            shed_messages,
            last_shed_at,
            metadata: Metadata::Stored(metadata),
        },
        home_segment: segments.0,
        device_segment: segments.1,
        membership,
    })
}

/// What a page of devices is cut from; the same for all homes of one statement.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct DeviceFilter {
    /// In this room.
    pub room: Option<RoomId>,
    /// Of this type, as [`super::DeviceType::as_str`] spells it.
    pub kind: Option<&'static str>,
    /// Present or not.
    pub online: Option<bool>,
    /// With this in its name, key or MAC address, whatever the case.
    pub search: Option<String>,
}

/// Up to `limit` devices of each home that pass the filter, by id, from after a device on.
struct Page<'a> {
    viewer: UserId,
    homes: &'a [HomeId],
    filter: &'a DeviceFilter,
    after: i64,
    limit: i64,
}

impl QueryFragment<Pg> for Page<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        // One text whatever is asked, so that it is prepared once; a filter that is null lets all pass.
        out.push_sql("select ");
        out.push_sql(COLUMNS);
        out.push_sql(" from memberships m join homes h on h.id = m.home_id cross join lateral (select d.* from devices d where d.home_id = m.home_id and (m.device_ids is null or d.id = any (m.device_ids)) and d.id > ");
        out.push_bind_param::<BigInt, _>(&self.after)?;
        out.push_sql(" and coalesce(d.room_id = ");
        out.push_bind_param::<Nullable<BigInt>, _>(&self.filter.room)?;
        out.push_sql(", ");
        out.push_bind_param::<Nullable<BigInt>, _>(&self.filter.room)?;
        out.push_sql(" is null) and coalesce(d.type = ");
        out.push_bind_param::<Nullable<Text>, _>(&self.filter.kind)?;
        out.push_sql(", true) and coalesce(");
        out.push_bind_param::<Nullable<Bool>, _>(&self.filter.online)?;
        out.push_sql(" = exists (select from device_states o where o.device_id = d.id and o.online), true) and coalesce(strpos(lower(concat_ws(' ', d.name, d.key, d.mac_address)), lower(");
        out.push_bind_param::<Nullable<Text>, _>(&self.filter.search)?;
        out.push_sql(")) > 0, true) order by d.id limit ");
        out.push_bind_param::<BigInt, _>(&self.limit)?;
        out.push_sql(") d left join device_states s on s.device_id = d.id where m.user_id = ");
        out.push_bind_param::<BigInt, _>(&self.viewer)?;
        out.push_sql(" and m.home_id = any(");
        out.push_bind_param::<Array<BigInt>, _>(&self.homes)?;
        out.push_sql(") order by d.home_id, d.id");
        Ok(())
    }
}

impl QueryId for Page<'_> {
    type QueryId = Page<'static>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for Page<'_> {
    type SqlType = SqlRow;
}

pub(super) async fn page(
    conn: &mut AsyncPgConnection,
    viewer: UserId,
    homes: &[HomeId],
    filter: &DeviceFilter,
    after: Option<DeviceId>,
    limit: i64,
    budget: &MemoryBudget,
) -> Result<Vec<Device>, Error> {
    let page = Page { viewer, homes, filter, after: after.map_or(0, DeviceId::get), limit };
    collect_bounded(page.load_stream::<Row>(conn).await?, budget, device).await
}

/// The column by which devices are looked up.
trait By: 'static {
    const COLUMN: &'static str;
    /// What ends the statement.
    const LIMIT: &'static str;
}

struct Id;
impl By for Id {
    const COLUMN: &'static str = "d.id";
    /// There are no more than were asked for.
    const LIMIT: &'static str = "";
}

struct Room;
impl By for Room {
    const COLUMN: &'static str = "d.room_id";
    /// One over `MAX_IN_ROOMS` tells that there are too many.
    const LIMIT: &'static str = " limit 10001";
}

/// Devices with one of these values in a column, where the viewer sees them.
struct Visible<'a, C> {
    viewer: UserId,
    values: &'a [i64],
    column: PhantomData<C>,
}

impl<C: By> QueryFragment<Pg> for Visible<'_, C> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("select ");
        out.push_sql(COLUMNS);
        out.push_sql(" from devices d join homes h on h.id = d.home_id join memberships m on m.home_id = d.home_id left join device_states s on s.device_id = d.id where (m.device_ids is null or d.id = any (m.device_ids)) and m.user_id = ");
        out.push_bind_param::<BigInt, _>(&self.viewer)?;
        out.push_sql(" and ");
        out.push_sql(C::COLUMN);
        out.push_sql(" = any(");
        out.push_bind_param::<Array<BigInt>, _>(&self.values)?;
        out.push_sql(") order by ");
        out.push_sql(C::COLUMN);
        out.push_sql(", d.id");
        out.push_sql(C::LIMIT);
        Ok(())
    }
}

impl<C: By> QueryId for Visible<'_, C> {
    type QueryId = Visible<'static, C>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl<C> Query for Visible<'_, C> {
    type SqlType = SqlRow;
}

pub(super) async fn by_ids(
    conn: &mut AsyncPgConnection,
    viewer: UserId,
    ids: &[DeviceId],
    budget: &MemoryBudget,
) -> Result<Vec<Device>, Error> {
    let values: Vec<i64> = ids.iter().map(|id| id.get()).collect();
    let visible = Visible::<Id> { viewer, values: &values, column: PhantomData };
    collect_bounded(visible.load_stream::<Row>(conn).await?, budget, device).await
}

pub(super) async fn by_rooms(
    conn: &mut AsyncPgConnection,
    viewer: UserId,
    rooms: &[RoomId],
    budget: &MemoryBudget,
) -> Result<Vec<Device>, Error> {
    let values: Vec<i64> = rooms.iter().map(|id| id.get()).collect();
    let visible = Visible::<Room> { viewer, values: &values, column: PhantomData };
    collect_bounded(visible.load_stream::<Row>(conn).await?, budget, device).await
}
