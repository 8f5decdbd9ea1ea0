//! A row of the table `commands`.

use chrono::{DateTime, Utc};
use diesel::prelude::*;

use super::command::{Command, CommandSource, CommandStatus, ConfirmedBy, OnStale};
use crate::db::JsonText;
use crate::db::schema::commands;
use crate::ids::{CommandId, DeviceId, HomeId, UserId};

/// The files in `sql/` return it as `c.*, c.type as kind`; it is read by the names of the columns.
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
    source: CommandSource,
    correlation_id: String,
    on_stale: OnStale,
    expect: Option<JsonText>,
    status: CommandStatus,
    result: Option<JsonText>,
    error: Option<String>,
    confirmed_by: Option<ConfirmedBy>,
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

impl From<Row> for Command {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            seq: row.seq,
            home: row.home_id,
            device: row.device_id,
            kind: row.kind,
            payload: row.payload,
            source: row.source,
            correlation_id: row.correlation_id,
            on_stale: row.on_stale,
            expect: row.expect,
            status: row.status,
            result: row.result,
            error: row.error,
            confirmed_by: row.confirmed_by,
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
        }
    }
}

pub(super) fn into_commands(rows: Vec<Row>) -> Vec<Command> {
    rows.into_iter().map(Command::from).collect()
}
