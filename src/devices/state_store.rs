//! SQL of device states: all changes of a batch in one statement.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, Bool, Double, Jsonb, Nullable, Text, Timestamptz};
use diesel::{QueryResult, QueryableByName};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::{Value, json};

use super::state::{DeviceState, StateChange};
use crate::ids::DeviceId;

#[derive(Debug, Default)]
struct Upsert {
    devices: Vec<i64>,
    online: Vec<bool>,
    at: Vec<DateTime<Utc>>,
    seen_at: Vec<Option<DateTime<Utc>>>,
    firmware: Vec<Option<String>>,
    signal: Vec<Option<f64>>,
    battery: Vec<Option<f64>>,
    metadata: Vec<Value>,
    home_segments: Vec<Option<String>>,
    device_segments: Vec<Option<String>>,
    unless_seen_since: Vec<Option<DateTime<Utc>>>,
    away: Vec<Option<bool>>,
    n_shed: Vec<i64>,
    shed_at: Vec<Option<DateTime<Utc>>>,
    backlog_since: Vec<Option<DateTime<Utc>>>,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    device_id: DeviceId,
    #[diesel(sql_type = Bool)]
    online: bool,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    online_changed_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    last_seen_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Text>)]
    firmware_version: Option<String>,
    #[diesel(sql_type = Nullable<Double>)]
    signal_strength: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    battery_level: Option<f64>,
    #[diesel(sql_type = Jsonb)]
    metadata: Value,
    #[diesel(sql_type = BigInt)]
    shed_messages: i64,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    last_shed_at: Option<DateTime<Utc>>,
}

impl QueryFragment<Pg> for Upsert {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "insert into device_states as s (device_id, online, online_changed_at, last_seen_at, firmware_version,
                signal_strength, battery_level, metadata, home_segment, device_segment, away,
                shed_messages, last_shed_at, backlog_since)
             select n.device_id, n.online, n.at, n.seen_at, n.firmware, n.signal, n.battery, n.metadata,
                n.home_segment, n.device_segment, coalesce(n.away, p.away, false),
                n.shed, n.shed_at, n.backlog_since
             from unnest(",
        );
        out.push_bind_param::<Array<BigInt>, _>(&self.devices)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Bool>, _>(&self.online)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Timestamptz>, _>(&self.at)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Nullable<Timestamptz>>, _>(&self.seen_at)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Nullable<Text>>, _>(&self.firmware)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Nullable<Double>>, _>(&self.signal)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Nullable<Double>>, _>(&self.battery)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Jsonb>, _>(&self.metadata)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Nullable<Text>>, _>(&self.home_segments)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Nullable<Text>>, _>(&self.device_segments)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Nullable<Timestamptz>>, _>(&self.unless_seen_since)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Nullable<Bool>>, _>(&self.away)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<BigInt>, _>(&self.n_shed)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Nullable<Timestamptz>>, _>(&self.shed_at)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Nullable<Timestamptz>>, _>(&self.backlog_since)?;
        // Locked in one order, so that two servers never wait for each other.
        out.push_sql(
            ") n (device_id, online, at, seen_at, firmware, signal, battery, metadata, home_segment, device_segment,
                unless_seen_since, away, shed, shed_at, backlog_since)
             join devices d on d.id = n.device_id
             left join device_states p on p.device_id = n.device_id
             where n.unless_seen_since is null or p.last_seen_at is null or p.last_seen_at < n.unless_seen_since
             order by n.device_id
             on conflict (device_id) do update set
                online = excluded.online,
                online_changed_at = case when s.online = excluded.online then s.online_changed_at
                                         else excluded.online_changed_at end,
                last_seen_at = greatest(s.last_seen_at, excluded.last_seen_at),
                firmware_version = coalesce(excluded.firmware_version, s.firmware_version),
                signal_strength = coalesce(excluded.signal_strength, s.signal_strength),
                battery_level = coalesce(excluded.battery_level, s.battery_level),
                metadata = s.metadata || excluded.metadata,
                home_segment = coalesce(excluded.home_segment, s.home_segment),
                device_segment = coalesce(excluded.device_segment, s.device_segment),
                away = excluded.away,
                -- An attempt whose answer was lost may have counted them.
                shed_messages = s.shed_messages + case when s.last_shed_at = excluded.last_shed_at then 0
                                                       else excluded.shed_messages end,
                last_shed_at = coalesce(excluded.last_shed_at, s.last_shed_at),
                backlog_since = case when excluded.last_seen_at is null then s.backlog_since
                                     else excluded.backlog_since end
             returning s.device_id, s.online, s.online_changed_at, s.last_seen_at, s.firmware_version,
                s.signal_strength, s.battery_level, s.metadata, s.shed_messages, s.last_shed_at",
        );
        Ok(())
    }
}

impl QueryId for Upsert {
    type QueryId = Self;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for Upsert {
    type SqlType = diesel::sql_types::Untyped;
}

/// Writes the changes (at most one a device) and returns the states as they now stand. A device
/// that is no more is left out.
///
/// Sent at the first poll, so that it can be one of several in a round trip.
pub async fn upsert(conn: &AsyncPgConnection, changes: &[StateChange]) -> QueryResult<Vec<DeviceState>> {
    if changes.is_empty() {
        return Ok(Vec::new());
    }
    let mut upsert = Upsert::default();
    for change in changes {
        upsert.devices.push(change.device.get());
        upsert.online.push(change.online);
        upsert.at.push(change.at);
        upsert.seen_at.push(change.contact.is_seen().then_some(change.at));
        upsert.firmware.push(change.report.firmware_version.clone());
        upsert.signal.push(change.report.signal_strength);
        upsert.battery.push(change.report.battery_level);
        upsert.metadata.push(change.last_status.as_ref().map_or_else(|| json!({}), |s| json!({ "lastStatus": s })));
        let (home, device) = change.segments.as_ref().map(|(h, d)| (h.to_string(), d.to_string())).unzip();
        upsert.home_segments.push(home);
        upsert.device_segments.push(device);
        upsert.unless_seen_since.push(change.unless_seen_since);
        upsert.away.push(change.contact.is_away());
        upsert.n_shed.push(change.n_rate_limited);
        upsert.shed_at.push(change.rate_limited_at);
        upsert.backlog_since.push(change.backlog_since);
    }
    let rows: Vec<Row> = upsert.load(&mut &*conn).await?;
    Ok(rows.into_iter().map(DeviceState::from).collect())
}

impl From<Row> for DeviceState {
    fn from(row: Row) -> Self {
        Self {
            device: row.device_id,
            online: row.online,
            online_changed_at: row.online_changed_at,
            last_seen_at: row.last_seen_at,
            firmware_version: row.firmware_version,
            signal_strength: row.signal_strength,
            battery_level: row.battery_level,
            metadata: row.metadata,
            shed_messages: row.shed_messages,
            last_shed_at: row.last_shed_at,
        }
    }
}
