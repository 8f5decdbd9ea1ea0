//! SQL of what the broker threw away, having nobody to give it to. When it waits again is decided by the
//! rows alone, so any server finds it, and one that starts does too.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Timestamptz, Untyped};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::command::Command;
use super::outbox_store::RESET_TO_PENDING;
use super::row_store::{self as row, Row};

/// The oldest of each device waits again where the device has spoken since, or a newer one is about to
/// try. The others follow when it got through: a device that speaks and never listens costs one message.
struct Requeue<'a> {
    now: &'a DateTime<Utc>,
}

impl QueryFragment<Pg> for Requeue<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "with no_subscribers as materialized (
                select c.id, c.device_id, c.seq, c.sent_at from commands c
                where c.no_subscribers and c.acked_at is null and c.status in ('SENT', 'TIMED_OUT') and c.expires_at > ",
        );
        out.push_bind_param::<Timestamptz, _>(self.now)?;
        // What a newer one has passed, or may have, stays behind it for good: the device would end as the
        // older one says.
        out.push_sql(
            "), passed as materialized (
                select d.device_id, coalesce((
                    select n.seq from commands n
                    where n.device_id = d.device_id and n.dispatched_at is not null and (not n.no_subscribers or n.may_have_been_delivered)
                    order by n.seq desc limit 1), 0) as seq
                from (select distinct device_id from no_subscribers) d),
             oldest as (
                select distinct on (u.device_id) u.* from no_subscribers u join passed p on p.device_id = u.device_id
                where u.seq >= p.seq order by u.device_id, u.seq),
             again as materialized (
                select c.id from commands c
                where c.id in (
                    select o.id from oldest o
                    where exists (select from device_states s where s.device_id = o.device_id and s.last_seen_at > o.sent_at)
                        or exists (select from commands n where n.device_id = o.device_id and n.status = 'PENDING'
                            and n.seq > o.seq and n.created_at > o.sent_at))
                    and c.no_subscribers and c.acked_at is null and c.status in ('SENT', 'TIMED_OUT')
                order by c.id for update)
             update commands c set ",
        );
        out.push_sql(RESET_TO_PENDING);
        out.push_sql(" from again a where c.id = a.id returning ");
        out.push_sql(row::COLUMNS);
        Ok(())
    }
}

impl QueryId for Requeue<'_> {
    type QueryId = Requeue<'static>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for Requeue<'_> {
    type SqlType = Untyped;
}

/// Returns the commands as they now stand.
pub(super) async fn requeue_undelivered(conn: &mut AsyncPgConnection, now: DateTime<Utc>) -> QueryResult<Vec<Command>> {
    let rows: Vec<Row> = Requeue { now: &now }.load(conn).await?;
    row::commands(rows)
}
