//! SQL of what devices answer, for ingest: one statement a batch, sent at the first poll.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, Integer, Json, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;

use super::store::{COLUMNS, configs};
use super::{ConfigAnswer, ConfigStatus, ConfigVerdict, DeviceConfig};
use crate::ids::DeviceId;

#[derive(Default)]
struct Record {
    devices: Vec<i64>,
    versions: Vec<i32>,
    statuses: Vec<&'static str>,
    errors: Vec<Option<Value>>,
    at: Vec<DateTime<Utc>>,
}

impl QueryFragment<Pg> for Record {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("with answer as (select * from unnest(");
        out.push_bind_param::<Array<BigInt>, _>(&self.devices)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Integer>, _>(&self.versions)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Text>, _>(&self.statuses)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Nullable<Json>>, _>(&self.errors)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Timestamptz>, _>(&self.at)?;
        // Locked in one order, so that two servers never wait for each other. An answer shows that the
        // version had left, whether or not the broker's word has come.
        out.push_sql(
            ") a (device_id, version, status, errors, at)),
             old as (select c.device_id, c.version from device_configs c
                join answer a on a.device_id = c.device_id and a.version = c.version
                where c.status in ('PENDING', 'SENT')
                order by c.device_id, c.version for no key update of c)
             update device_configs c set status = a.status, errors = a.errors, answered_at = a.at,
                applied_at = case when a.status = 'APPLIED' then a.at end,
                sent_at = coalesce(c.sent_at, a.at), updated_at = clock_timestamp()
             from old join answer a on a.device_id = old.device_id and a.version = old.version
             where c.device_id = old.device_id and c.version = old.version returning ",
        );
        out.push_sql(COLUMNS);
        Ok(())
    }
}

impl QueryId for Record {
    type QueryId = Self;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for Record {
    type SqlType = diesel::sql_types::Untyped;
}

/// Records what devices answered and returns the versions that changed: those that nobody had answered
/// yet and that no newer one superseded. Of several answers to a version the first counts.
///
/// Sent at the first poll, so that it can be one of several in a round trip.
pub async fn record(conn: &AsyncPgConnection, answers: &[&ConfigAnswer]) -> QueryResult<Vec<DeviceConfig>> {
    let (mut record, mut seen) = (Record::default(), HashSet::new());
    for answer in answers.iter().filter(|answer| seen.insert((answer.device, answer.version))) {
        let (status, errors) = match &answer.verdict {
            ConfigVerdict::Applied => (ConfigStatus::Applied, None),
            ConfigVerdict::Rejected { errors } => (ConfigStatus::Rejected, errors.clone()),
        };
        record.devices.push(answer.device.get());
        record.versions.push(answer.version);
        record.statuses.push(status.as_str());
        record.errors.push(errors);
        record.at.push(answer.at);
    }
    if record.devices.is_empty() {
        return Ok(Vec::new());
    }
    configs(record.load(&mut &*conn).await?)
}

struct Find {
    devices: Vec<i64>,
    versions: Vec<i32>,
}

impl QueryFragment<Pg> for Find {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("select ");
        out.push_sql(COLUMNS);
        out.push_sql(" from unnest(");
        out.push_bind_param::<Array<BigInt>, _>(&self.devices)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Integer>, _>(&self.versions)?;
        out.push_sql(
            ") wanted (device_id, version)
             join device_configs c on c.device_id = wanted.device_id and c.version = wanted.version",
        );
        Ok(())
    }
}

impl QueryId for Find {
    type QueryId = Self;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for Find {
    type SqlType = diesel::sql_types::Untyped;
}

/// Those of the versions that there are, as they now stand.
pub async fn find(conn: &AsyncPgConnection, versions: &[(DeviceId, i32)]) -> QueryResult<Vec<DeviceConfig>> {
    if versions.is_empty() {
        return Ok(Vec::new());
    }
    let (devices, versions) = versions.iter().map(|(device, version)| (device.get(), *version)).unzip();
    configs(Find { devices, versions }.load(&mut &*conn).await?)
}
