//! SQL of answers, for ingest: a batch of answers in one statement.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Json, Nullable, Text, Timestamptz, Untyped, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::answer::{Answer, MergedAnswers};
use super::command::{Command, CommandStatus, ConfirmedBy};
use super::row_store::{Row, into_commands};
use crate::db::schema::commands;
use crate::db::{JsonText, statement};
use crate::ids::{CommandId, DeviceId};

statement! {
    /// One element per command in each column.
    #[derive(Default)]
    struct RecordAnswers("sql/record_answers.sql") -> Untyped {
        ids: Array<SqlUuid> = Vec<CommandId>,
        devices: Array<BigInt> = Vec<DeviceId>,
        acked_at: Array<Nullable<Timestamptz>> = Vec<Option<DateTime<Utc>>>,
        finished_at: Array<Nullable<Timestamptz>> = Vec<Option<DateTime<Utc>>>,
        outcomes: Array<Nullable<Text>> = Vec<Option<CommandStatus>>,
        confirmed_by: Array<Nullable<Text>> = Vec<Option<ConfirmedBy>>,
        results: Array<Nullable<Json>> = Vec<Option<JsonText>>,
        errors: Array<Nullable<Text>> = Vec<Option<String>>,
    }
}

impl RecordAnswers {
    fn add(&mut self, command: CommandId, device: DeviceId, answers: MergedAnswers) {
        self.ids.push(command);
        self.devices.push(device);
        self.acked_at.push(answers.acked_at);
        let outcome = answers.outcome;
        self.finished_at.push(outcome.as_ref().map(|outcome| outcome.at));
        self.outcomes.push(outcome.as_ref().map(|outcome| outcome.status));
        self.confirmed_by.push(outcome.as_ref().map(|outcome| outcome.confirmed_by));
        let (result, error) = outcome.map(|outcome| (outcome.result, outcome.error)).unwrap_or_default();
        self.results.push(result);
        self.errors.push(error);
    }
}

/// Records answers and returns the commands that changed. An answer that is late, repeated, from another device
/// or for an unknown command changes nothing. An answer that is recorded again after a lost commit returns its
/// command again.
///
/// The statement is sent at the first poll, so it can share a round trip with others. Without answers nothing
/// is sent.
pub async fn record_answers(conn: &AsyncPgConnection, answers: &[&Answer]) -> QueryResult<Vec<Command>> {
    if answers.is_empty() {
        return Ok(Vec::new());
    }
    let mut merged = BTreeMap::<_, MergedAnswers>::new();
    for answer in answers {
        merged.entry((answer.command, answer.device)).or_default().add(answer);
    }
    let mut record = RecordAnswers::default();
    for ((command, device), answers) in merged {
        record.add(command, device, answers);
    }
    Ok(into_commands(record.load(&mut &*conn).await?))
}

/// The commands of these ids, whatever their home: for ingest, which has no viewer.
pub async fn find_for_ingest(conn: &AsyncPgConnection, ids: &[CommandId]) -> QueryResult<Vec<Command>> {
    let rows: Vec<Row> =
        commands::table.filter(commands::id.eq_any(ids)).select(Row::as_select()).load(&mut &*conn).await?;
    Ok(into_commands(rows))
}
