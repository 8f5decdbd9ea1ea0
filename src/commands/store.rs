//! SQL of sending, cancelling and reading commands.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::result::Error as DieselError;
use diesel::sql_types::{
    Array, BigInt, Binary, Integer, Json, Nullable, SmallInt, Text, Timestamptz, Untyped, Uuid as SqlUuid,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::command::{Command, CommandSource, CommandStatus, OnStale};
use super::row_store::{Row, into_commands};
use crate::db::schema::commands;
use crate::db::{JsonText, MemoryBudget, collect_bounded, statement};
use crate::error::Error;
use crate::homes::{HomeRole, Membership, MembershipColumns};
use crate::ids::{CommandId, DeviceId, HomeId, UserId};

/// A command found by its idempotency key, and the digest of the request that made it.
pub(super) type ByKey = (Command, Option<Vec<u8>>);

pub(super) async fn find_by_key(
    conn: &mut AsyncPgConnection,
    requester: UserId,
    key: &str,
) -> QueryResult<Option<ByKey>> {
    let row: Option<(Row, Option<Vec<u8>>)> = commands::table
        .filter(commands::requested_by.eq(requester))
        .filter(commands::idempotency_key.eq(key))
        .select((Row::as_select(), commands::body_digest))
        .first(conn)
        .await
        .optional()?;
    Ok(row.map(|(row, digest)| (row.into(), digest)))
}

statement! {
    pub(super) struct Insert<'a>("sql/insert.sql") -> Untyped {
        id: SqlUuid = CommandId,
        home: BigInt = HomeId,
        device: BigInt = DeviceId,
        kind: Text = &'a str,
        payload: Json = &'a JsonText,
        source: Text = CommandSource,
        correlation_id: Text = &'a str,
        on_stale: Text = OnStale,
        expect: Nullable<Json> = Option<&'a JsonText>,
        requester: BigInt = UserId,
        idempotency_key: Nullable<Text> = Option<&'a str>,
        body_digest: Nullable<Binary> = Option<&'a [u8]>,
        timeout_seconds: Integer = i32,
        now: Timestamptz = DateTime<Utc>,
        expires_at: Timestamptz = DateTime<Utc>,
    }
}

impl Insert<'_> {
    /// `None` if another request used the key in between.
    pub(super) async fn execute(self, conn: &mut AsyncPgConnection) -> QueryResult<Option<Command>> {
        let row: Option<Row> = self.get_result(conn).await.optional()?;
        Ok(row.map(Command::from))
    }
}

statement! {
    struct LockSuperseded<'a>("sql/lock_superseded.sql") -> SqlUuid {
        device: BigInt = DeviceId,
        kind: Text = &'a str,
        seq: BigInt = i64,
    }
}

statement! {
    struct Cancel<'a>("sql/cancel.sql") -> Untyped {
        ids: Array<SqlUuid> = &'a [CommandId],
        superseded_by: Nullable<SqlUuid> = Option<CommandId>,
        error: Text = &'a str,
        now: Timestamptz = DateTime<Utc>,
    }
}

/// Cancels the older commands that `newer` replaces, and returns them.
pub(super) async fn supersede(
    conn: &mut AsyncPgConnection,
    newer: &Command,
    error: &str,
    now: DateTime<Utc>,
) -> QueryResult<Vec<Command>> {
    let lock = LockSuperseded { device: newer.device, kind: &newer.kind, seq: newer.seq };
    let ids: Vec<CommandId> = lock.load(conn).await?;
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let cancel = Cancel { ids: &ids, superseded_by: Some(newer.id), error, now };
    Ok(into_commands(cancel.load(conn).await?))
}

/// Cancels a command that the caller has locked and found to be cancellable.
pub(super) async fn cancel(
    conn: &mut AsyncPgConnection,
    id: CommandId,
    error: &str,
    now: DateTime<Utc>,
) -> QueryResult<Option<Command>> {
    let row: Option<Row> = Cancel { ids: &[id], superseded_by: None, error, now }.get_result(conn).await.optional()?;
    Ok(row.map(Command::from))
}

/// The command, its row locked until the transaction ends.
pub(super) async fn lock(conn: &mut AsyncPgConnection, id: CommandId) -> QueryResult<Option<Command>> {
    let row: Option<Row> =
        commands::table.find(id).select(Row::as_select()).for_update().first(conn).await.optional()?;
    Ok(row.map(Command::from))
}

pub(super) async fn count_open(conn: &AsyncPgConnection, device: DeviceId) -> QueryResult<i64> {
    // An open command has a deadline, and an index of its own: the ended ones are not read.
    let open = commands::table.filter(commands::device_id.eq(device)).filter(commands::deadline.is_not_null());
    open.count().get_result(&mut &*conn).await
}

/// Deletes final commands that are not among the device's newest `kept`. One that is locked, by an answer that comes late, is
/// left to the next call: the caller holds locks of newer commands, and who waits for older ones may wait for ever.
pub(super) async fn prune(conn: &mut AsyncPgConnection, device: DeviceId, kept: i64) -> QueryResult<()> {
    let of_device = commands::table.filter(commands::device_id.eq(device));
    let newest_to_delete = of_device.order(commands::seq.desc()).offset(kept).select(commands::seq);
    let Some(newest_to_delete) = newest_to_delete.first::<i64>(conn).await.optional()? else { return Ok(()) };
    let prunable = of_device
        .filter(commands::seq.le(newest_to_delete))
        .filter(commands::status.ne_all(CommandStatus::OPEN))
        .order(commands::id)
        .select(commands::id)
        .for_update()
        .skip_locked();
    let ids: Vec<CommandId> = prunable.load(conn).await?;
    diesel::delete(commands::table.filter(commands::id.eq_any(ids))).execute(conn).await.map(drop)
}

statement! {
    struct FindVisible<'a>("sql/find_visible.sql") -> Untyped {
        viewer: BigInt = UserId,
        ids: Array<SqlUuid> = &'a [CommandId],
    }
}

#[derive(QueryableByName)]
struct VisibleRow {
    #[diesel(embed)]
    command: Row,
    #[diesel(sql_type = BigInt)]
    member_id: UserId,
    #[diesel(sql_type = Text)]
    member_role: HomeRole,
    #[diesel(sql_type = Nullable<SmallInt>)]
    member_scopes: Option<i16>,
}

/// Those of the commands that the viewer may see, each with the viewer's membership.
pub(super) async fn find_visible(
    conn: &mut AsyncPgConnection,
    viewer: UserId,
    ids: &[CommandId],
) -> QueryResult<Vec<(Command, Membership)>> {
    let rows: Vec<VisibleRow> = FindVisible { viewer, ids }.load(conn).await?;
    let visible = |row: VisibleRow| {
        let command = Command::from(row.command);
        let columns = (row.member_id, command.home, row.member_role, row.member_scopes);
        let membership = <Membership as Queryable<MembershipColumns, Pg>>::build(columns);
        Ok((command, membership.map_err(DieselError::DeserializationError)?))
    };
    rows.into_iter().map(visible).collect()
}

statement! {
    pub(super) struct Page<'a>("sql/page.sql") -> Untyped {
        devices: Array<BigInt> = &'a [DeviceId],
        status: Nullable<Text> = Option<CommandStatus>,
        before: BigInt = i64,
        limit: BigInt = i64,
    }
}

impl Page<'_> {
    /// The commands of each device, newest first.
    pub(super) async fn load_within(
        self,
        conn: &mut AsyncPgConnection,
        budget: &MemoryBudget,
    ) -> Result<Vec<Command>, Error> {
        collect_bounded(self.load_stream::<Row>(conn).await?, budget, |row| Ok(row.into())).await
    }
}

/// When a command of the home last changed.
pub(super) async fn last_change(conn: &mut AsyncPgConnection, home: HomeId) -> QueryResult<Option<DateTime<Utc>>> {
    let of_home = commands::table.filter(commands::home_id.eq(home)).order(commands::updated_at.desc());
    of_home.select(commands::updated_at).first(conn).await.optional()
}

/// Up to `limit` commands of the home, or of one of its devices, that changed after a change, in the order of
/// their last change.
pub(super) async fn changed(
    conn: &mut AsyncPgConnection,
    home: HomeId,
    device: Option<DeviceId>,
    (at, id): (DateTime<Utc>, CommandId),
    limit: i64,
) -> QueryResult<Vec<Command>> {
    let later = commands::updated_at.gt(at).or(commands::updated_at.eq(at).and(commands::id.gt(id)));
    let of_home = commands::table
        .filter(commands::home_id.eq(home))
        .filter(commands::updated_at.ge(at))
        .filter(later)
        .order((commands::updated_at, commands::id))
        .limit(limit)
        .select(Row::as_select());
    let rows: Vec<Row> = match device {
        Some(device) => of_home.filter(commands::device_id.eq(device)).load(conn).await?,
        None => of_home.load(conn).await?,
    };
    Ok(into_commands(rows))
}
