//! SQL of sending, taking back and reading commands.

use chrono::{DateTime, Utc};
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::command::{Command, CommandStatus, OnStale};
use super::new::Checked;
use super::row_store::{self as row, Row};
use crate::db::schema::{commands, devices, memberships};
use crate::db::{MemoryBudget, collect_bounded};
use crate::error::Error;
use crate::homes::{MEMBERSHIP, Membership};
use crate::ids::{CommandId, DeviceId, HomeId, UserId};

const PENDING: &str = CommandStatus::Pending.as_str();
const OPEN: [&str; 3] = [PENDING, CommandStatus::Sent.as_str(), CommandStatus::Acked.as_str()];

/// One sender at a time a device: so commands are numbered in the order of their commits. False where the
/// device is gone.
pub(super) async fn lock_device(conn: &mut AsyncPgConnection, home: HomeId, device: DeviceId) -> QueryResult<bool> {
    let row = devices::table.filter(devices::id.eq(device)).filter(devices::home_id.eq(home));
    let row = row.select(devices::id).for_no_key_update();
    Ok(row.first::<DeviceId>(conn).await.optional()?.is_some())
}

/// The command that this requester made under this key, and the digest of its request.
pub(super) async fn by_key(
    conn: &mut AsyncPgConnection,
    requester: UserId,
    key: &str,
) -> QueryResult<Option<(Command, Option<Vec<u8>>)>> {
    let row: Option<(Row, Option<Vec<u8>>)> = commands::table
        .filter(commands::requested_by.eq(requester))
        .filter(commands::idempotency_key.eq(key))
        .select((Row::as_select(), commands::body_digest))
        .first(conn)
        .await
        .optional()?;
    row.map(|(row, digest)| Ok((row::command(row)?, digest))).transpose()
}

/// Who sends what to whom.
pub(super) struct Insert<'a> {
    pub(super) id: CommandId,
    pub(super) home: HomeId,
    pub(super) device: DeviceId,
    pub(super) requester: UserId,
    pub(super) new: &'a Checked,
    pub(super) now: DateTime<Utc>,
}

/// `None` where another request took the key meanwhile.
pub(super) async fn insert(conn: &mut AsyncPgConnection, insert: &Insert<'_>) -> QueryResult<Option<Command>> {
    let Insert { id, home, device, requester, new, now } = insert;
    let (key, digest) = new.idempotency.clone().unzip();
    let expires_at = *now + new.expires_in;
    let row: Option<Row> = diesel::insert_into(commands::table)
        .values((
            (
                commands::id.eq(id),
                commands::home_id.eq(home),
                commands::device_id.eq(device),
                commands::kind.eq(&new.kind),
                commands::payload.eq(&new.payload),
                commands::source.eq(new.source.as_str()),
                commands::correlation_id.eq(&new.correlation_id),
                commands::on_stale.eq(new.on_stale.as_str()),
            ),
            (
                commands::expect.eq(new.expect.as_ref()),
                commands::status.eq(PENDING),
                commands::requested_by.eq(requester),
                commands::idempotency_key.eq(key),
                commands::body_digest.eq(digest),
                commands::timeout_seconds.eq(new.timeout_seconds),
                commands::created_at.eq(now),
                commands::expires_at.eq(expires_at),
                commands::deadline.eq(expires_at),
            ),
        ))
        .on_conflict_do_nothing()
        .returning(Row::as_returning())
        .get_result(conn)
        .await
        .optional()?;
    row.map(row::command).transpose()
}

/// Ends the older commands of the type that wait and have not left.
pub(super) async fn supersede(
    conn: &mut AsyncPgConnection,
    newer: &Command,
    error: &str,
    now: DateTime<Utc>,
) -> QueryResult<Vec<Command>> {
    // Locked in the order in which everybody locks commands.
    let ids: Vec<CommandId> = commands::table
        .filter(commands::device_id.eq(newer.device))
        // What the broker threw away, having nobody to give it to, has not left either.
        .filter(
            commands::status
                .eq(PENDING)
                .or(commands::no_subscribers.and(commands::status.eq_any(["SENT", "TIMED_OUT"]))),
        )
        .filter(commands::kind.eq(&newer.kind))
        .filter(commands::on_stale.eq(OnStale::Supersede.as_str()))
        .filter(commands::dispatched_at.is_null())
        .filter(commands::seq.lt(newer.seq))
        .order(commands::id)
        .select(commands::id)
        .for_update()
        .load(conn)
        .await?;
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    cancel(conn, &ids, Some(newer.id), error, now).await
}

/// Writes the end of commands that the caller has locked and found to be waiting.
pub(super) async fn cancel(
    conn: &mut AsyncPgConnection,
    ids: &[CommandId],
    superseded_by: Option<CommandId>,
    error: &str,
    now: DateTime<Utc>,
) -> QueryResult<Vec<Command>> {
    let rows: Vec<Row> = diesel::update(commands::table.filter(commands::id.eq_any(ids)))
        .set((
            commands::status.eq(CommandStatus::Cancelled.as_str()),
            commands::superseded_by.eq(superseded_by),
            commands::error.eq(error),
            commands::finished_at.eq(now),
            commands::deadline.eq(None::<DateTime<Utc>>),
            commands::updated_at.eq(sql::<Timestamptz>("clock_timestamp()")),
        ))
        .returning(Row::as_returning())
        .load(conn)
        .await?;
    row::commands(rows)
}

/// The command as it stands, which stays so until the transaction ends.
pub(super) async fn lock(conn: &mut AsyncPgConnection, id: CommandId) -> QueryResult<Option<Command>> {
    let row: Option<Row> =
        commands::table.find(id).select(Row::as_select()).for_update().first(conn).await.optional()?;
    row.map(row::command).transpose()
}

/// Commands of the device that something is still waited for.
pub(super) async fn count_open(conn: &AsyncPgConnection, device: DeviceId) -> QueryResult<i64> {
    let open = commands::table.filter(commands::device_id.eq(device)).filter(commands::status.eq_any(OPEN));
    open.count().get_result(&mut &*conn).await
}

/// Deletes what is over and not among the device's newest `kept`.
pub(super) async fn prune(conn: &mut AsyncPgConnection, device: DeviceId, kept: i64) -> QueryResult<()> {
    let oldest: Option<i64> = commands::table
        .filter(commands::device_id.eq(device))
        .order(commands::seq.desc())
        .offset(kept)
        .select(commands::seq)
        .first(conn)
        .await
        .optional()?;
    let Some(oldest) = oldest else { return Ok(()) };
    let over = commands::table
        .filter(commands::device_id.eq(device))
        .filter(commands::seq.le(oldest))
        .filter(commands::status.ne_all(OPEN))
        .order(commands::id)
        .select(commands::id)
        .for_update();
    let ids: Vec<CommandId> = over.load(conn).await?;
    diesel::delete(commands::table.filter(commands::id.eq_any(ids))).execute(conn).await.map(drop)
}

/// Those of the commands that the viewer sees, and as whom.
pub(super) async fn visible(
    conn: &mut AsyncPgConnection,
    viewer: UserId,
    ids: &[CommandId],
) -> QueryResult<Vec<(Command, Membership)>> {
    let rows: Vec<(Row, Membership)> = commands::table
        .inner_join(memberships::table.on(memberships::home_id.eq(commands::home_id)))
        .filter(memberships::user_id.eq(viewer))
        .filter(commands::id.eq_any(ids))
        .filter(sql::<diesel::sql_types::Bool>(
            "(memberships.device_ids is null or commands.device_id = any (memberships.device_ids))",
        ))
        .select((Row::as_select(), MEMBERSHIP))
        .load(conn)
        .await?;
    rows.into_iter().map(|(row, membership)| Ok((row::command(row)?, membership))).collect()
}

/// A page of each device's commands, newest first.
struct Page<'a> {
    devices: &'a [DeviceId],
    status: Option<&'static str>,
    before: i64,
    limit: i64,
}

impl QueryFragment<Pg> for Page<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("select ");
        out.push_sql(row::COLUMNS);
        out.push_sql(" from unnest(");
        out.push_bind_param::<Array<BigInt>, _>(&self.devices)?;
        out.push_sql(") with ordinality wanted (id, place) cross join lateral (select * from commands where device_id = wanted.id and seq < ");
        out.push_bind_param::<BigInt, _>(&self.before)?;
        out.push_sql(" and coalesce(status = ");
        out.push_bind_param::<Nullable<Text>, _>(&self.status)?;
        out.push_sql(", true) order by seq desc limit ");
        out.push_bind_param::<BigInt, _>(&self.limit)?;
        out.push_sql(") c order by wanted.place, c.seq desc");
        Ok(())
    }
}

impl QueryId for Page<'_> {
    type QueryId = Page<'static>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for Page<'_> {
    type SqlType = diesel::sql_types::Untyped;
}

pub(super) async fn page(
    conn: &mut AsyncPgConnection,
    devices: &[DeviceId],
    status: Option<CommandStatus>,
    before: Option<i64>,
    limit: i64,
    budget: &MemoryBudget,
) -> Result<Vec<Command>, Error> {
    let page = Page { devices, status: status.map(CommandStatus::as_str), before: before.unwrap_or(i64::MAX), limit };
    collect_bounded(page.load_stream::<Row>(conn).await?, budget, row::command).await
}

/// When a command of the home last changed.
pub(super) async fn last_change(conn: &mut AsyncPgConnection, home: HomeId) -> QueryResult<Option<DateTime<Utc>>> {
    let of_home = commands::table.filter(commands::home_id.eq(home)).order(commands::updated_at.desc());
    of_home.select(commands::updated_at).first(conn).await.optional()
}

/// Up to `limit` commands of the home, or of one device of it, that changed after a change, in the order
/// of their last change.
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
    row::commands(rows)
}
