//! SQL of the outbox: what is to be sent, and what the clock and the broker do to it. Whatever changes
//! several rows locks them in the order of their ids, as everybody does.

use chrono::{DateTime, Utc};
use diesel::data_types::PgInterval;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, Interval, Nullable, Text, Timestamptz, Untyped, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::command::Command;
use super::row_store::{self as row, Row};
use crate::db::schema::commands;
use crate::ids::{DeviceId, HomeId};

macro_rules! statement {
    ($name:ident, $of:ty) => {
        impl QueryId for $name<'_> {
            type QueryId = $name<'static>;
            const HAS_STATIC_QUERY_ID: bool = true;
        }

        impl Query for $name<'_> {
            type SqlType = $of;
        }
    };
}

/// Ends what the clock has caught up with: at most `limit` rows.
struct ExpireOverdue<'a> {
    now: &'a DateTime<Utc>,
    limit: i64,
}

impl QueryFragment<Pg> for ExpireOverdue<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("with due as materialized (select c.id from commands c where c.deadline <= ");
        out.push_bind_param::<Timestamptz, _>(self.now)?;
        out.push_sql(" and c.id in (select id from commands where deadline is not null order by deadline limit ");
        out.push_bind_param::<BigInt, _>(&self.limit)?;
        out.push_sql(
            ") order by c.id for update)
             update commands c set
                status = case c.status when 'PENDING' then 'EXPIRED' else 'TIMED_OUT' end,
                error = case
                    when c.status = 'ACKED' then 'acknowledged by the device, which never reported an outcome'
                    when c.status = 'SENT' and c.no_subscribers then 'nobody was subscribed to the device''s topic'
                    when c.status = 'SENT' then 'no answer from the device'
                    when c.dispatched_at is not null then ",
        );
        out.push_sql(EXPIRED_HANDED);
        out.push_sql(" else 'it could not be sent before it expired' end, finished_at = ");
        out.push_bind_param::<Timestamptz, _>(self.now)?;
        out.push_sql(
            ", deadline = null, updated_at = clock_timestamp() from due where c.id = due.id and c.deadline is not null returning ",
        );
        out.push_sql(row::COLUMNS);
        Ok(())
    }
}
statement!(ExpireOverdue, Untyped);

/// What is said of a command that may have left: the link went before the broker answered.
const EXPIRED_HANDED: &str = "coalesce(c.error || '; ', '') || 'the broker did not confirm it before it expired'";

pub(super) async fn expire_overdue(
    conn: &mut AsyncPgConnection,
    now: DateTime<Utc>,
    limit: i64,
) -> QueryResult<Vec<Command>> {
    let rows: Vec<Row> = ExpireOverdue { now: &now, limit }.load(conn).await?;
    row::commands(rows)
}

/// When the clock next acts.
pub(super) async fn next_deadline(conn: &mut AsyncPgConnection) -> QueryResult<Option<DateTime<Utc>>> {
    let open = commands::table.filter(commands::deadline.is_not_null()).order(commands::deadline);
    open.select(commands::deadline.assume_not_null()).first(conn).await.optional()
}

/// The newest commands whose effect is waited for; those that timed out up to `since`.
pub(super) async fn expecting(
    conn: &mut AsyncPgConnection,
    since: DateTime<Utc>,
    limit: i64,
) -> QueryResult<Vec<Command>> {
    let rows: Vec<Row> = commands::table
        .filter(commands::expect.is_not_null())
        .filter(commands::dispatched_at.is_not_null())
        .filter(diesel::dsl::sql::<diesel::sql_types::Bool>("status in ('PENDING', 'SENT', 'ACKED', 'TIMED_OUT')"))
        .filter(commands::finished_at.is_null().or(commands::finished_at.assume_not_null().ge(since)))
        .order(commands::dispatched_at.desc())
        .limit(limit)
        .select(Row::as_select())
        .load(conn)
        .await?;
    row::commands(rows)
}

/// Devices that a command waits for and that listen, longest waiting first.
struct FindDue<'a> {
    now: &'a DateTime<Utc>,
    busy: &'a [DeviceId],
    limit: i64,
}

impl QueryFragment<Pg> for FindDue<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "select p.device_id from (select c.device_id, min(c.seq) as seq from commands c
                where c.status = 'PENDING' and c.expires_at > ",
        );
        out.push_bind_param::<Timestamptz, _>(self.now)?;
        out.push_sql(" and c.device_id <> all(");
        out.push_bind_param::<Array<BigInt>, _>(&self.busy)?;
        // One that said goodbye is not listening; one that is silent, or never spoke, may be. One that was
        // deleted with its home leaves commands for a while.
        out.push_sql(
            ") group by c.device_id) p
             where not exists (select from device_states s where s.device_id = p.device_id and s.away)
                and exists (select from devices d where d.id = p.device_id)
             order by p.seq limit ",
        );
        out.push_bind_param::<BigInt, _>(&self.limit)?;
        Ok(())
    }
}
statement!(FindDue, BigInt);

pub(super) async fn find_due(
    conn: &mut AsyncPgConnection,
    now: DateTime<Utc>,
    busy: &[DeviceId],
    limit: i64,
) -> QueryResult<Vec<DeviceId>> {
    FindDue { now: &now, busy, limit }.load(conn).await
}

/// A command on its way, and how its device spells home and itself.
#[derive(QueryableByName)]
pub(super) struct Claimed {
    #[diesel(embed)]
    command: Row,
    #[diesel(sql_type = Text)]
    home_name: String,
    #[diesel(sql_type = Text)]
    device_name: String,
}

/// Takes the oldest waiting command of each device.
struct Claim<'a> {
    now: &'a DateTime<Utc>,
    devices: &'a [DeviceId],
}

impl QueryFragment<Pg> for Claim<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("with oldest as materialized (select p.id from unnest(");
        out.push_bind_param::<Array<BigInt>, _>(&self.devices)?;
        out.push_sql(
            ") wanted (id) cross join lateral (select c.id from commands c where c.device_id = wanted.id
                and c.status = 'PENDING' and c.expires_at > ",
        );
        out.push_bind_param::<Timestamptz, _>(self.now)?;
        // Looked at again once it is locked: it may have been claimed back meanwhile.
        out.push_sql(
            " order by c.seq limit 1) p),
             locked as materialized (
                select c.id, c.device_id from commands c where c.id in (select o.id from oldest o) and c.status = 'PENDING'
                order by c.id for update)
             update commands c set may_have_been_delivered = c.may_have_been_delivered or c.dispatched_at is not null, dispatched_at = coalesce(c.dispatched_at, ",
        );
        out.push_bind_param::<Timestamptz, _>(self.now)?;
        out.push_sql(
            ") from locked l
                join devices d on d.id = l.device_id
                join homes h on h.id = d.home_id
                left join device_states s on s.device_id = d.id
             where c.id = l.id
             returning coalesce(s.home_segment, h.key) as home_name, coalesce(s.device_segment, d.key) as device_name, ",
        );
        out.push_sql(row::COLUMNS);
        Ok(())
    }
}
statement!(Claim, Untyped);

/// Each with the segments of its device's topics: home, device.
pub(super) async fn claim(
    conn: &mut AsyncPgConnection,
    now: DateTime<Utc>,
    devices: &[DeviceId],
) -> QueryResult<Vec<(Command, String, String)>> {
    let claimed: Vec<Claimed> = Claim { now: &now, devices }.load(conn).await?;
    claimed
        .into_iter()
        .map(|claimed| Ok((row::command(claimed.command)?, claimed.home_name, claimed.device_name)))
        .collect()
}

/// What became of messages, one column per field. The words are those of [`crate::downlink::DeliveryOutcome`].
#[derive(Default)]
pub(super) struct RecordOutcomes {
    pub(super) ids: Vec<uuid::Uuid>,
    pub(super) outcomes: Vec<&'static str>,
    pub(super) errors: Vec<Option<&'static str>>,
    pub(super) now: DateTime<Utc>,
}

impl QueryFragment<Pg> for RecordOutcomes {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("with outcomes as materialized (select * from unnest(");
        out.push_bind_param::<Array<SqlUuid>, _>(&self.ids)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Text>, _>(&self.outcomes)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Nullable<Text>>, _>(&self.errors)?;
        out.push_sql(") n (id, outcome, error)), now as (select ");
        out.push_bind_param::<Timestamptz, _>(&self.now)?;
        out.push_sql(
            "::timestamptz as at),
             locked as materialized (
                select c.id, c.status, c.sent_at, c.error from commands c where c.id in (select n.id from outcomes n)
                order by c.id for update)
             update commands c set
                status = case when c.status <> 'PENDING' then c.status
                              when n.outcome in ('CONFIRMED', 'NO_SUBSCRIBERS') then 'SENT'
                              when n.outcome = 'EXPIRED' then 'EXPIRED' else c.status end,
                sent_at = case when n.outcome in ('CONFIRMED', 'NO_SUBSCRIBERS') then now.at else c.sent_at end,
                no_subscribers = case n.outcome when 'NO_SUBSCRIBERS' then true when 'CONFIRMED' then false else c.no_subscribers end,
                dispatched_at = case when n.outcome <> 'CONFIRMED' and c.status = 'PENDING' and not c.may_have_been_delivered then null
                                 else c.dispatched_at end,
                finished_at = case when c.status = 'PENDING' and n.outcome = 'EXPIRED' then now.at else c.finished_at end,
                error = case when c.status = 'PENDING' and n.outcome <> 'NOT_SENT' then n.error else c.error end,
                deadline = case when c.status <> 'PENDING' then c.deadline
                                when n.outcome in ('CONFIRMED', 'NO_SUBSCRIBERS') then now.at + make_interval(secs => c.timeout_seconds)
                                when n.outcome = 'EXPIRED' then null else c.deadline end,
                updated_at = case n.outcome when 'NOT_SENT' then c.updated_at else clock_timestamp() end
             from outcomes n join locked l on l.id = n.id cross join now
             where c.id = n.id
                and case n.outcome when 'CONFIRMED' then l.sent_at is null
                                when 'NO_SUBSCRIBERS' then l.sent_at is null
                                else l.status = 'PENDING' end
             returning ",
        );
        out.push_sql(row::COLUMNS);
        Ok(())
    }
}

impl QueryId for RecordOutcomes {
    type QueryId = Self;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for RecordOutcomes {
    type SqlType = Untyped;
}

/// The commands that changed.
pub(super) async fn record_outcomes(conn: &mut AsyncPgConnection, record: RecordOutcomes) -> QueryResult<Vec<Command>> {
    let rows: Vec<Row> = record.load(conn).await?;
    row::commands(rows)
}

/// What the broker had and nobody answered waits again.
struct Requeue<'a> {
    now: &'a DateTime<Utc>,
    before: &'a DateTime<Utc>,
}

/// As if it had only been accepted now; whether it may have reached the device before is said beside it.
pub(super) const RESET_TO_PENDING: &str = "status = 'PENDING', sent_at = null, finished_at = null, error = null, deadline = c.expires_at, \
     no_subscribers = false, updated_at = clock_timestamp()";

impl QueryFragment<Pg> for Requeue<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "with lost as materialized (
                select c.id from commands c where c.status = 'SENT' and c.acked_at is null and c.sent_at <= ",
        );
        out.push_bind_param::<Timestamptz, _>(self.before)?;
        // Of what has expired meanwhile nothing more is to be sent; it times out as it would have.
        out.push_sql(" and c.expires_at > ");
        out.push_bind_param::<Timestamptz, _>(self.now)?;
        out.push_sql(" order by c.id for update) update commands c set may_have_been_delivered = c.may_have_been_delivered or not c.no_subscribers, ");
        out.push_sql(RESET_TO_PENDING);
        out.push_sql(" from lost where c.id = lost.id returning ");
        out.push_sql(row::COLUMNS);
        Ok(())
    }
}
statement!(Requeue, Untyped);

/// Returns the commands as they now stand.
pub(super) async fn requeue_lost(
    conn: &mut AsyncPgConnection,
    now: DateTime<Utc>,
    before: DateTime<Utc>,
) -> QueryResult<Vec<Command>> {
    let rows: Vec<Row> = Requeue { now: &now, before: &before }.load(conn).await?;
    row::commands(rows)
}

/// What changed in these homes in the last so many seconds.
struct RecentlyChanged<'a> {
    homes: &'a [HomeId],
    within: &'a PgInterval,
    limit: i64,
}

impl QueryFragment<Pg> for RecentlyChanged<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("select ");
        out.push_sql(row::COLUMNS);
        // Home by home, each a range of an index.
        out.push_sql(" from unnest(");
        out.push_bind_param::<Array<BigInt>, _>(&self.homes)?;
        out.push_sql(") wanted (id) cross join lateral (select * from commands where home_id = wanted.id and updated_at >= clock_timestamp() - ");
        out.push_bind_param::<Interval, _>(self.within)?;
        out.push_sql(" order by updated_at desc limit ");
        out.push_bind_param::<BigInt, _>(&self.limit)?;
        out.push_sql(") c order by c.updated_at desc limit ");
        out.push_bind_param::<BigInt, _>(&self.limit)?;
        Ok(())
    }
}
statement!(RecentlyChanged, Untyped);

/// The newest changes, oldest first.
pub(super) async fn recently_changed(
    conn: &mut AsyncPgConnection,
    homes: &[HomeId],
    seconds: u64,
    limit: i64,
) -> QueryResult<Vec<Command>> {
    let within = PgInterval::from_microseconds(i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000));
    let rows: Vec<Row> = RecentlyChanged { homes, within: &within, limit }.load(conn).await?;
    let mut commands = row::commands(rows)?;
    commands.reverse();
    Ok(commands)
}
