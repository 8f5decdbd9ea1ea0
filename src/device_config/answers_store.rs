//! SQL of the devices' answers, for ingest: one statement for each batch, sent at the first poll.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use diesel::sql_types::{Array, BigInt, Integer, Json, Nullable, Text, Timestamptz, Untyped};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;

use super::{ConfigAnswer, ConfigAnswerKind, ConfigStatus, DeviceConfig};
use crate::db::statement;
use crate::ids::DeviceId;

statement! {
    #[derive(Default)]
    struct RecordAnswers<'a>("sql/record_answers.sql") -> Untyped {
        devices: Array<BigInt> = Vec<DeviceId>,
        versions: Array<Integer> = Vec<i32>,
        statuses: Array<Text> = Vec<ConfigStatus>,
        errors: Array<Nullable<Json>> = Vec<Option<&'a Value>>,
        received_at: Array<Timestamptz> = Vec<DateTime<Utc>>,
    }
}

/// Records the devices' answers and returns the versions that changed: those that no earlier answer and no newer
/// version had ended. Of several answers to a version the first counts.
///
/// Sent at the first poll, so that it can be one of several in a round trip.
pub async fn record(conn: &AsyncPgConnection, answers: &[&ConfigAnswer]) -> QueryResult<Vec<DeviceConfig>> {
    let (mut record, mut seen) = (RecordAnswers::default(), HashSet::new());
    for answer in answers.iter().filter(|answer| seen.insert((answer.device, answer.version))) {
        let (status, errors) = match &answer.kind {
            ConfigAnswerKind::Applied => (ConfigStatus::Applied, None),
            ConfigAnswerKind::Rejected { errors } => (ConfigStatus::Rejected, errors.as_ref()),
        };
        record.devices.push(answer.device);
        record.versions.push(answer.version);
        record.statuses.push(status);
        record.errors.push(errors);
        record.received_at.push(answer.at);
    }
    if record.devices.is_empty() {
        return Ok(Vec::new());
    }
    record.load(&mut &*conn).await
}

statement! {
    struct Find("sql/find.sql") -> Untyped {
        devices: Array<BigInt> = Vec<DeviceId>,
        versions: Array<Integer> = Vec<i32>,
    }
}

/// The current state of these versions; deleted ones are left out.
pub async fn find(conn: &AsyncPgConnection, versions: &[(DeviceId, i32)]) -> QueryResult<Vec<DeviceConfig>> {
    if versions.is_empty() {
        return Ok(Vec::new());
    }
    let (devices, versions) = versions.iter().copied().unzip();
    Find { devices, versions }.load(&mut &*conn).await
}
