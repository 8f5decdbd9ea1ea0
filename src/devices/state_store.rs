//! SQL of device states: all changes of a batch in one statement.

use chrono::{DateTime, NaiveDate, Utc};
use diesel::sql_types::{Array, BigInt, Bool, Date, Double, Jsonb, Nullable, Text, Timestamptz, Untyped};
use diesel::{QueryResult, QueryableByName};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::{Value, json};

use super::device::{Reported, StateJson};
use super::{DeviceState, StateChange};
use crate::db::statement;
use crate::ids::DeviceId;

statement! {
    #[derive(Debug, Default)]
    struct UpsertStates("sql/upsert_states.sql") -> Untyped {
        devices: Array<BigInt> = Vec<DeviceId>,
        online: Array<Bool> = Vec<bool>,
        at: Array<Timestamptz> = Vec<DateTime<Utc>>,
        seen_at: Array<Nullable<Timestamptz>> = Vec<Option<DateTime<Utc>>>,
        firmware_versions: Array<Nullable<Text>> = Vec<Option<String>>,
        signal_strengths: Array<Nullable<Double>> = Vec<Option<f64>>,
        battery_levels: Array<Nullable<Double>> = Vec<Option<f64>>,
        metadata: Array<Jsonb> = Vec<Value>,
        reported: Array<Nullable<Jsonb>> = Vec<Option<Value>>,
        reported_at: Array<Nullable<Timestamptz>> = Vec<Option<DateTime<Utc>>>,
        by_device_clock: Array<Bool> = Vec<bool>,
        home_segments: Array<Nullable<Text>> = Vec<Option<String>>,
        device_segments: Array<Nullable<Text>> = Vec<Option<String>>,
        unless_seen_since: Array<Nullable<Timestamptz>> = Vec<Option<DateTime<Utc>>>,
        announced_offline: Array<Nullable<Bool>> = Vec<Option<bool>>,
        rate_limited: Array<BigInt> = Vec<i64>,
        rate_limited_at: Array<Nullable<Timestamptz>> = Vec<Option<DateTime<Utc>>>,
        backlog_since: Array<Nullable<Timestamptz>> = Vec<Option<DateTime<Utc>>>,
        returned_at: Array<Nullable<Timestamptz>> = Vec<Option<DateTime<Utc>>>,
        silent_since: Array<Nullable<Timestamptz>> = Vec<Option<DateTime<Utc>>>,
        returned_from_offline: Array<Bool> = Vec<bool>,
        stored_days: Array<Nullable<Date>> = Vec<Option<NaiveDate>>,
        stored_bytes: Array<BigInt> = Vec<i64>,
    }
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
    #[diesel(sql_type = Nullable<Jsonb>)]
    reported: Option<Value>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    reported_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = BigInt)]
    shed_messages: i64,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    last_shed_at: Option<DateTime<Utc>>,
}

/// Writes the changes, at most one a device, and returns the states after them. Deleted devices are left out.
///
/// The statement is sent at the first poll, so it can be one of several in a round trip.
pub async fn upsert(conn: &AsyncPgConnection, changes: &[StateChange]) -> QueryResult<Vec<DeviceState>> {
    if changes.is_empty() {
        return Ok(Vec::new());
    }
    let mut statement = UpsertStates::default();
    for change in changes {
        statement.push(change);
    }
    let rows: Vec<Row> = statement.load(&mut &*conn).await?;
    Ok(rows.into_iter().map(DeviceState::from).collect())
}

impl UpsertStates {
    fn push(&mut self, change: &StateChange) {
        self.devices.push(change.device);
        self.online.push(change.online);
        self.at.push(change.at);
        self.seen_at.push(change.contact.is_seen().then_some(change.at));
        self.firmware_versions.push(change.report.firmware_version.clone());
        self.signal_strengths.push(change.report.signal_strength);
        self.battery_levels.push(change.report.battery_level);
        self.metadata.push(change.last_status.as_ref().map_or_else(|| json!({}), |s| json!({ "lastStatus": s })));
        let reported = change.reported.as_ref();
        self.reported.push(reported.map(|reported| reported.state.clone()));
        self.reported_at.push(reported.map(|reported| reported.at));
        self.by_device_clock.push(reported.is_some_and(|reported| reported.by_device_clock));
        let (home, device) = change.segments.as_ref().map(|(h, d)| (h.to_string(), d.to_string())).unzip();
        self.home_segments.push(home);
        self.device_segments.push(device);
        self.unless_seen_since.push(change.unless_seen_since);
        self.announced_offline.push(change.contact.announced_offline());
        self.rate_limited.push(change.n_rate_limited);
        self.rate_limited_at.push(change.rate_limited_at);
        self.backlog_since.push(change.backlog_since);
        self.returned_at.push(change.returned.map(|it| it.at));
        self.silent_since.push(change.returned.and_then(|it| it.silent_since));
        self.returned_from_offline.push(change.returned.is_some_and(|it| it.from_offline));
        self.stored_days.push(change.stored.map(|it| it.day));
        self.stored_bytes.push(change.stored.map_or(0, |it| it.bytes));
    }
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
            metadata: row.metadata.into(),
            reported: Reported::read(row.reported.map(|state| StateJson::Live(state.into())), row.reported_at),
            shed_messages: row.shed_messages,
            last_shed_at: row.last_shed_at,
        }
    }
}
