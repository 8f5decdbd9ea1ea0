//! SQL of what devices answer: a batch of answers in one statement, each judged by the row as it stands.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, Json, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::answer::{Answer, Folded};
use super::command::Command;
use super::row_store::{self as row, Row};
use crate::db::JsonText;
use crate::db::schema::commands;
use crate::ids::CommandId;

/// One column per field of the folded answers.
#[derive(Default)]
struct Record {
    ids: Vec<uuid::Uuid>,
    devices: Vec<i64>,
    acked_at: Vec<Option<DateTime<Utc>>>,
    finished_at: Vec<Option<DateTime<Utc>>>,
    outcome: Vec<Option<&'static str>>,
    confirmed_by: Vec<Option<&'static str>>,
    result: Vec<Option<JsonText>>,
    error: Vec<Option<String>>,
}

impl QueryFragment<Pg> for Record {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("with answers as materialized (select * from unnest(");
        out.push_bind_param::<Array<SqlUuid>, _>(&self.ids)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<BigInt>, _>(&self.devices)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Nullable<Timestamptz>>, _>(&self.acked_at)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Nullable<Timestamptz>>, _>(&self.finished_at)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Nullable<Text>>, _>(&self.outcome)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Nullable<Text>>, _>(&self.confirmed_by)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Nullable<Json>>, _>(&self.result)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Nullable<Text>>, _>(&self.error)?;
        // The rows are locked before they are judged, and in one order, so that two servers never wait for
        // each other. An answer that the row already shows is returned again: it is the retry of a commit
        // whose answer was lost.
        out.push_sql(
            ") n (id, device_id, acked_at, finished_at, outcome, confirmed_by, result, error)),
             locked as materialized (
                select c.id, c.status, c.dispatched_at, c.acked_at, c.finished_at, c.confirmed_by
                from commands c
                where c.id in (select n.id from answers n)
                order by c.id for update),
             judged as (
                select n.*,
                    n.outcome is not null
                        and l.status in ('PENDING', 'SENT', 'ACKED', 'TIMED_OUT', 'EXPIRED')
                        and (n.confirmed_by = 'ACK'
                             or l.status <> 'EXPIRED' and l.dispatched_at is not null and l.dispatched_at <= n.finished_at)
                        as ends,
                    n.acked_at is not null and l.acked_at is null
                        and l.status in ('PENDING', 'SENT', 'TIMED_OUT', 'EXPIRED') as acks,
                    coalesce(l.finished_at = n.finished_at and l.status = n.outcome
                             or l.acked_at = n.acked_at and n.outcome is null, false) as stands
                from answers n join locked l on l.id = n.id)
             update commands c set
                status = case when j.ends then j.outcome when j.acks then 'ACKED' else c.status end,
                acked_at = case when j.acks then j.acked_at else c.acked_at end,
                finished_at = case when j.ends then j.finished_at when j.acks then null else c.finished_at end,
                deadline = case when j.ends then null
                                when j.acks then j.acked_at + make_interval(secs => c.timeout_seconds)
                                else c.deadline end,
                confirmed_by = case when j.ends then j.confirmed_by else c.confirmed_by end,
                result = case when j.ends then j.result else c.result end,
                error = case when j.ends then j.error when j.acks then null else c.error end,
                updated_at = case when j.ends or j.acks then clock_timestamp() else c.updated_at end
             from judged j
             where c.id = j.id and c.device_id = j.device_id and (j.ends or j.acks or j.stands)
             returning ",
        );
        out.push_sql(row::COLUMNS);
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

/// Records what devices answered and returns the commands that changed, as they now stand. An answer
/// that comes too late, twice, from another device or for no command changes nothing; the same answer
/// recorded again (a retry) returns its command once more.
///
/// Sent at the first poll, so that it can be one of several in a round trip. Nothing is sent where there
/// are no answers.
pub async fn record_answers(conn: &AsyncPgConnection, answers: &[&Answer]) -> QueryResult<Vec<Command>> {
    if answers.is_empty() {
        return Ok(Vec::new());
    }
    let mut folded = BTreeMap::<_, Folded>::new();
    for answer in answers {
        folded.entry((answer.command, answer.device)).or_default().add(answer);
    }
    let mut record = Record::default();
    for ((command, device), answer) in folded {
        record.ids.push(command.as_uuid());
        record.devices.push(device.get());
        record.acked_at.push(answer.acked_at);
        let end = answer.end;
        record.finished_at.push(end.as_ref().map(|end| end.at));
        record.outcome.push(end.as_ref().map(|end| end.status.as_str()));
        record.confirmed_by.push(end.as_ref().map(|end| end.confirmed_by.as_str()));
        let (result, error) = end.map(|end| (end.result, end.error)).unwrap_or_default();
        record.result.push(result);
        record.error.push(error);
    }
    let rows: Vec<Row> = record.load(&mut &*conn).await?;
    row::commands(rows)
}

/// Those of the commands that there are, for whoever has an answer to them and nobody to answer to.
pub async fn find_for_ingest(conn: &AsyncPgConnection, ids: &[CommandId]) -> QueryResult<Vec<Command>> {
    let rows: Vec<Row> =
        commands::table.filter(commands::id.eq_any(ids)).select(Row::as_select()).load(&mut &*conn).await?;
    row::commands(rows)
}
