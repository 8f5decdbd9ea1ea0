//! A row of the commands, in whatever statement.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::result::Error as DieselError;

use super::command::{Command, WordError};
use crate::db::JsonText;
use crate::db::schema::commands;
use crate::ids::{CommandId, DeviceId, HomeId, UserId};

/// Read by the columns' names: hand-written statements return `c.*`.
#[derive(Queryable, Selectable, QueryableByName)]
#[diesel(table_name = commands, check_for_backend(diesel::pg::Pg))]
pub(super) struct Row {
    id: CommandId,
    seq: i64,
    home_id: HomeId,
    device_id: DeviceId,
    #[diesel(column_name = kind)]
    #[diesel(sql_type = diesel::sql_types::Text)]
    kind: String,
    payload: JsonText,
    source: String,
    correlation_id: String,
    on_stale: String,
    expect: Option<JsonText>,
    status: String,
    result: Option<JsonText>,
    error: Option<String>,
    confirmed_by: Option<String>,
    superseded_by: Option<CommandId>,
    requested_by: Option<UserId>,
    timeout_seconds: i32,
    created_at: DateTime<Utc>,
    dispatched_at: Option<DateTime<Utc>>,
    sent_at: Option<DateTime<Utc>>,
    acked_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    expires_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

/// What a hand-written statement selects of a table that goes by `c`: `type` under the name that [`Row`]
/// knows it by.
pub(super) const COLUMNS: &str = "c.*, c.type as kind";

pub(super) fn command(row: Row) -> QueryResult<Command> {
    let unknown = |error: WordError| DieselError::DeserializationError(Box::new(error));
    Ok(Command {
        id: row.id,
        seq: row.seq,
        home: row.home_id,
        device: row.device_id,
        kind: row.kind,
        payload: row.payload,
        source: row.source.parse().map_err(unknown)?,
        correlation_id: row.correlation_id,
        on_stale: row.on_stale.parse().map_err(unknown)?,
        expect: row.expect,
        status: row.status.parse().map_err(unknown)?,
        result: row.result,
        error: row.error,
        confirmed_by: row.confirmed_by.map(|word| word.parse()).transpose().map_err(unknown)?,
        superseded_by: row.superseded_by,
        requested_by: row.requested_by,
        timeout_seconds: row.timeout_seconds,
        created_at: row.created_at,
        dispatched_at: row.dispatched_at,
        sent_at: row.sent_at,
        acked_at: row.acked_at,
        finished_at: row.finished_at,
        expires_at: row.expires_at,
        updated_at: row.updated_at,
    })
}

pub(super) fn commands(rows: Vec<Row>) -> QueryResult<Vec<Command>> {
    rows.into_iter().map(command).collect()
}
