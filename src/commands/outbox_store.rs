//! SQL of sending commands. A statement that changes several rows locks them in the order of their ids.

use chrono::{DateTime, Utc};
use diesel::data_types::PgInterval;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Interval, Nullable, Text, Timestamptz, Untyped, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::command::Command;
use super::row_store::{Row, into_commands};
use crate::db::statement;
use crate::downlink::PublishOutcome;
use crate::ids::{CommandId, DeviceId, HomeId};

statement! {
    struct Claim<'a>("sql/claim.sql") -> Untyped {
        now: Timestamptz = DateTime<Utc>,
        devices: Array<BigInt> = &'a [DeviceId],
    }
}

#[derive(QueryableByName)]
struct ClaimedRow {
    #[diesel(embed)]
    command: Row,
    #[diesel(sql_type = Text)]
    home_segment: String,
    #[diesel(sql_type = Text)]
    device_segment: String,
}

/// A claimed command and how its device spells its topics.
pub(super) struct Claimed {
    pub(super) command: Command,
    pub(super) home_segment: String,
    pub(super) device_segment: String,
}

/// Claims the oldest pending command of each device.
pub(super) async fn claim(
    conn: &mut AsyncPgConnection,
    now: DateTime<Utc>,
    devices: &[DeviceId],
) -> QueryResult<Vec<Claimed>> {
    let rows: Vec<ClaimedRow> = Claim { now, devices }.load(conn).await?;
    let claimed = rows.into_iter().map(|row| Claimed {
        command: row.command.into(),
        home_segment: row.home_segment,
        device_segment: row.device_segment,
    });
    Ok(claimed.collect())
}

statement! {
    /// One element per attempt in each of the three columns.
    #[derive(Default)]
    pub(super) struct RecordOutcomes("sql/record_outcomes.sql") -> Untyped {
        ids: Array<SqlUuid> = Vec<CommandId>,
        outcomes: Array<Text> = Vec<PublishOutcome>,
        errors: Array<Nullable<Text>> = Vec<Option<&'static str>>,
        now: Timestamptz = DateTime<Utc>,
    }
}

impl RecordOutcomes {
    /// Returns the commands that changed.
    pub(super) async fn execute(self, conn: &mut AsyncPgConnection) -> QueryResult<Vec<Command>> {
        Ok(into_commands(self.load(conn).await?))
    }
}

statement! {
    struct RecentlyChanged<'a>("sql/recently_changed.sql") -> Untyped {
        homes: Array<BigInt> = &'a [HomeId],
        within: Interval = PgInterval,
        limit: BigInt = i64,
    }
}

/// The newest changes of the last `seconds` in these homes, oldest first.
pub(super) async fn recently_changed(
    conn: &mut AsyncPgConnection,
    homes: &[HomeId],
    seconds: u64,
    limit: i64,
) -> QueryResult<Vec<Command>> {
    let within = PgInterval::from_microseconds(i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000));
    let mut commands = into_commands(RecentlyChanged { homes, within, limit }.load(conn).await?);
    commands.reverse();
    Ok(commands)
}
