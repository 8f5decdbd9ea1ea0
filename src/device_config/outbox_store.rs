//! SQL of sending. Devices are locked before what hangs on them, and rows in the order of devices, so
//! that neither another server nor the deletion of a device can be waited for in a circle.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, Binary, Bool, Integer, Json, Nullable, Text, Timestamptz, Untyped};
use diesel::{QueryResult, QueryableByName};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use serde_json::Value;

use super::store::{COLUMNS, configs};
use super::{ConfigKey, DeviceConfig};
use crate::downlink::Outgoing;
use crate::ids::DeviceId;

/// Where devices `d` of homes `h` listen, their states being `s`: where they speak.
const SEGMENTS: &str = "coalesce(s.home_segment, h.key), coalesce(s.device_segment, d.key)";
/// Joins these to a device's id.
const JOINS: &str = " join homes h on h.id = d.home_id left join device_states s on s.device_id = d.id ";
/// A clearing `l` may go: no version is about to take its topic. (One that has it ends the clearing.)
const MAY_GO: &str = " not exists (select from device_configs p join devices d on d.id = p.device_id \
     join homes h on h.id = d.home_id left join device_states s on s.device_id = d.id \
     where p.status = 'PENDING' and coalesce(s.home_segment, h.key) = l.home_segment \
     and coalesce(s.device_segment, d.key) = l.device_segment) ";

macro_rules! statement {
    ($name:ty, $id:ty) => {
        impl QueryId for $name {
            type QueryId = $id;
            const HAS_STATIC_QUERY_ID: bool = true;
        }

        impl Query for $name {
            type SqlType = Untyped;
        }
    };
}

struct Due<'a> {
    busy: &'a [DeviceId],
    unreadable_devices: Vec<i64>,
    unreadable_versions: Vec<i32>,
    limit: i64,
}

#[derive(QueryableByName)]
struct DueRow {
    #[diesel(sql_type = BigInt)]
    device_id: DeviceId,
}

impl Due<'_> {
    /// The device of this column is not busy.
    fn is_free<'b>(&'b self, out: &mut AstPass<'_, 'b, Pg>, of: &str) -> QueryResult<()> {
        out.push_sql(of);
        out.push_sql(" <> all(");
        out.push_bind_param::<Array<BigInt>, _>(&self.busy)?;
        out.push_sql(")");
        Ok(())
    }

    /// The version `c` is not one that can't be read.
    fn is_readable<'b>(&'b self, out: &mut AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(" and (c.device_id, c.version) not in (select * from unnest(");
        out.push_bind_param::<Array<BigInt>, _>(&self.unreadable_devices)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Integer>, _>(&self.unreadable_versions)?;
        out.push_sql("))");
        Ok(())
    }
}

impl QueryFragment<Pg> for Due<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        // New versions first, then what the broker lost, then what it is to forget; each by an index of
        // its own that holds nothing else. A device that was deleted with its home leaves versions for a while.
        out.push_sql(
            "select device_id from (
             (select c.device_id, 1 as rank, c.created_at as since from device_configs c
                where c.status = 'PENDING' and exists (select from devices d where d.id = c.device_id) and ",
        );
        self.is_free(&mut out, "c.device_id")?;
        self.is_readable(&mut out)?;
        out.push_sql(" order by c.created_at, c.device_id limit ");
        out.push_bind_param::<BigInt, _>(&self.limit)?;
        out.push_sql(
            ") union all
             (select r.device_id, 2, null from retained_configs r
                cross join lateral (select device_id, version from device_configs
                    where device_id = r.device_id order by version desc limit 1) c
                where r.is_lost and ",
        );
        self.is_free(&mut out, "r.device_id")?;
        self.is_readable(&mut out)?;
        out.push_sql(" order by r.device_id limit ");
        out.push_bind_param::<BigInt, _>(&self.limit)?;
        out.push_sql(") union all (select l.device_id, 3, null from retained_clearings l where l.done_at is null and ");
        self.is_free(&mut out, "l.device_id")?;
        out.push_sql(" and");
        out.push_sql(MAY_GO);
        out.push_sql("order by l.device_id, l.id limit ");
        out.push_bind_param::<BigInt, _>(&self.limit)?;
        out.push_sql(")) due group by device_id order by min(rank), min(since), device_id limit ");
        out.push_bind_param::<BigInt, _>(&self.limit)?;
        Ok(())
    }
}

statement!(Due<'_>, Due<'static>);

/// Devices that something is to be sent to, but for the busy ones and versions that can't be read.
pub(super) async fn due(
    conn: &mut AsyncPgConnection,
    busy: &[DeviceId],
    unreadable: &[(DeviceId, i32)],
    limit: i64,
) -> QueryResult<Vec<DeviceId>> {
    let (unreadable_devices, unreadable_versions) =
        unreadable.iter().map(|(device, version)| (device.get(), *version)).unzip();
    let rows: Vec<DueRow> = Due { busy, unreadable_devices, unreadable_versions, limit }.load(conn).await?;
    Ok(rows.into_iter().map(|row| row.device_id).collect())
}

/// A newest version that is not known to be at the broker, and where it belongs.
#[derive(QueryableByName)]
pub(super) struct Candidate {
    #[diesel(sql_type = BigInt, column_name = "device_id")]
    pub(super) device: DeviceId,
    #[diesel(sql_type = Integer)]
    pub(super) version: i32,
    #[diesel(sql_type = Json)]
    pub(super) config: Value,
    #[diesel(sql_type = Nullable<Binary>)]
    pub(super) secrets: Option<Vec<u8>>,
    #[diesel(sql_type = Timestamptz)]
    pub(super) created_at: DateTime<Utc>,
    #[diesel(sql_type = Text)]
    pub(super) home_segment: String,
    #[diesel(sql_type = Text)]
    pub(super) device_segment: String,
}

struct Candidates<'a> {
    devices: &'a [DeviceId],
}

impl QueryFragment<Pg> for Candidates<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "select d.id as device_id, c.version, c.config, c.secrets, c.created_at,
                coalesce(s.home_segment, h.key) as home_segment, coalesce(s.device_segment, d.key) as device_segment
             from devices d",
        );
        out.push_sql(JOINS);
        out.push_sql(
            "cross join lateral (select * from device_configs where device_id = d.id order by version desc limit 1) c
             left join retained_configs r on r.device_id = d.id
             where d.id = any(",
        );
        out.push_bind_param::<Array<BigInt>, _>(&self.devices)?;
        out.push_sql(
            ") and (c.status = 'PENDING' or r.device_id is null or r.is_lost or r.version <> c.version
                or (r.home_segment, r.device_segment) is distinct from (",
        );
        out.push_sql(SEGMENTS);
        out.push_sql(")) order by d.id for key share of d");
        Ok(())
    }
}

statement!(Candidates<'_>, Candidates<'static>);

#[derive(Default)]
struct Note {
    devices: Vec<i64>,
    versions: Vec<i32>,
    home_segments: Vec<String>,
    device_segments: Vec<String>,
}

impl QueryFragment<Pg> for Note {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("with going as (select * from unnest(");
        out.push_bind_param::<Array<BigInt>, _>(&self.devices)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Integer>, _>(&self.versions)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Text>, _>(&self.home_segments)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Text>, _>(&self.device_segments)?;
        // A device that listens elsewhere now leaves a copy behind.
        out.push_sql(
            ") g (device_id, version, home_segment, device_segment)),
             left_behind as (insert into retained_clearings (device_id, home_segment, device_segment)
                select r.device_id, r.home_segment, r.device_segment
                from retained_configs r join going g on g.device_id = r.device_id
                where (r.home_segment, r.device_segment) <> (g.home_segment, g.device_segment))
             insert into retained_configs as r (device_id, home_segment, device_segment, version, is_lost)
             select device_id, home_segment, device_segment, version, true from going order by device_id
             on conflict (device_id) do update set home_segment = excluded.home_segment,
                device_segment = excluded.device_segment, version = excluded.version, is_lost = true",
        );
        Ok(())
    }
}

statement!(Note, Note);

/// Makes messages of the newest versions of devices, where one is to go, and notes of each that it may
/// have left: should the device go, or the server, the broker's copy is known.
pub(super) async fn take_versions(
    conn: &mut AsyncPgConnection,
    devices: &[DeviceId],
    mut message: impl FnMut(Candidate) -> Option<Outgoing<ConfigKey>> + Send,
) -> QueryResult<Vec<Outgoing<ConfigKey>>> {
    conn.transaction(async |conn| {
        let candidates: Vec<Candidate> = Candidates { devices }.load(conn).await?;
        let (mut note, mut outgoing) = (Note::default(), Vec::new());
        for candidate in candidates {
            let version = candidate.version;
            let Some(going) = message(candidate) else { continue };
            note.devices.push(going.device.get());
            note.versions.push(version);
            note.home_segments.push(going.message.home.clone());
            note.device_segments.push(going.message.device.clone());
            outgoing.push(going);
        }
        if !outgoing.is_empty() {
            note.execute(conn).await?;
        }
        Ok(outgoing)
    })
    .await
}

/// A topic whose kept message is to be taken away.
#[derive(QueryableByName)]
pub(super) struct Clearing {
    #[diesel(sql_type = BigInt)]
    pub(super) id: i64,
    #[diesel(sql_type = BigInt, column_name = "device_id")]
    pub(super) device: DeviceId,
    #[diesel(sql_type = Text)]
    pub(super) home_segment: String,
    #[diesel(sql_type = Text)]
    pub(super) device_segment: String,
}

struct TakeClearings<'a> {
    devices: &'a [DeviceId],
}

impl QueryFragment<Pg> for TakeClearings<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        // What another device has put there since must stay; its own end makes a clearing of its own.
        out.push_sql("with needless as (delete from retained_clearings l where l.device_id = any(");
        out.push_bind_param::<Array<BigInt>, _>(&self.devices)?;
        out.push_sql(
            ") and exists (select from retained_configs r
                where r.home_segment = l.home_segment and r.device_segment = l.device_segment) returning l.id)
             select distinct on (l.device_id) l.id, l.device_id, l.home_segment, l.device_segment
             from retained_clearings l where l.done_at is null and l.device_id = any(",
        );
        out.push_bind_param::<Array<BigInt>, _>(&self.devices)?;
        out.push_sql(") and l.id not in (select id from needless) and");
        out.push_sql(MAY_GO);
        out.push_sql("order by l.device_id, l.id");
        Ok(())
    }
}

statement!(TakeClearings<'_>, TakeClearings<'static>);

/// One topic of each of these devices that is to be cleared; drops clearings that are no longer right.
pub(super) async fn take_clearings(conn: &mut AsyncPgConnection, devices: &[DeviceId]) -> QueryResult<Vec<Clearing>> {
    if devices.is_empty() {
        return Ok(Vec::new());
    }
    TakeClearings { devices }.load(conn).await
}

struct Hold<'a> {
    devices: &'a [i64],
}

impl QueryFragment<Pg> for Hold<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("select d.id as device_id from devices d where d.id = any(");
        out.push_bind_param::<Array<BigInt>, _>(&self.devices)?;
        out.push_sql(") order by d.id for key share");
        Ok(())
    }
}

statement!(Hold<'_>, Hold<'static>);

struct Keep<'a> {
    devices: &'a [i64],
    versions: &'a [i32],
    is_kept: &'a [bool],
}

impl QueryFragment<Pg> for Keep<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("with kept as (select r.device_id, (r.home_segment, r.device_segment) is distinct from (");
        out.push_sql(SEGMENTS);
        // Heard elsewhere while it was under way: it must follow. And what an older version overtook, because
        // its server had lost the device's lock, must go again.
        out.push_sql(") or r.version <> k.version as is_lost from unnest(");
        out.push_bind_param::<Array<BigInt>, _>(&self.devices)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Integer>, _>(&self.versions)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Bool>, _>(&self.is_kept)?;
        out.push_sql(
            ") k (device_id, version, is_kept)
             join retained_configs r on r.device_id = k.device_id
             join devices d on d.id = r.device_id",
        );
        out.push_sql(JOINS);
        out.push_sql(
            "where k.is_kept order by r.device_id for no key update of r)
             update retained_configs r set is_lost = kept.is_lost, confirmed_at = case when kept.is_lost then r.confirmed_at else clock_timestamp() end
             from kept where r.device_id = kept.device_id",
        );
        Ok(())
    }
}

statement!(Keep<'_>, Keep<'static>);

struct Confirm<'a> {
    devices: &'a [i64],
    versions: &'a [i32],
    now: DateTime<Utc>,
}

impl QueryFragment<Pg> for Confirm<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("with old as (select c.device_id, c.version from device_configs c join unnest(");
        out.push_bind_param::<Array<BigInt>, _>(&self.devices)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Integer>, _>(&self.versions)?;
        out.push_sql(
            ") k (device_id, version) on k.device_id = c.device_id and k.version = c.version
                where c.status = 'PENDING' order by c.device_id, c.version for no key update of c)
             update device_configs c set status = 'SENT', sent_at = ",
        );
        out.push_bind_param::<Timestamptz, _>(&self.now)?;
        out.push_sql(
            ", updated_at = clock_timestamp() from old
             where c.device_id = old.device_id and c.version = old.version returning ",
        );
        out.push_sql(COLUMNS);
        Ok(())
    }
}

statement!(Confirm<'_>, Confirm<'static>);

/// Records what the broker confirmed: versions, each with whether its copy is known to be there still,
/// and clearings. Returns the versions that became SENT.
pub(super) async fn settle(
    conn: &mut AsyncPgConnection,
    now: DateTime<Utc>,
    versions: &[(DeviceId, i32, bool)],
    clearings: &[i64],
) -> QueryResult<Vec<DeviceConfig>> {
    use crate::db::schema::retained_clearings as cleared;
    use diesel::{ExpressionMethods, QueryDsl};

    let devices: Vec<i64> = versions.iter().map(|(device, ..)| device.get()).collect();
    let is_kept: Vec<bool> = versions.iter().map(|(.., is_kept)| *is_kept).collect();
    let versions: Vec<i32> = versions.iter().map(|(_, version, _)| *version).collect();
    conn.transaction(async |conn| {
        let mut sent = Vec::new();
        if !devices.is_empty() {
            let (devices, versions) = (&devices[..], &versions[..]);
            Hold { devices }.load::<DueRow>(conn).await?;
            Keep { devices, versions, is_kept: &is_kept }.execute(conn).await?;
            sent = configs(Confirm { devices, versions, now }.load(conn).await?)?;
        }
        if !clearings.is_empty() {
            diesel::update(cleared::table.filter(cleared::id.eq_any(clearings)))
                .set(cleared::done_at.eq(now))
                .execute(conn)
                .await?;
        }
        Ok(sent)
    })
    .await
}
