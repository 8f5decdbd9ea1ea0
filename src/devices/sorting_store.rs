//! SQL that sorts the devices of a home.

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::DeviceFilter;
use super::sorting::{DeviceOrder, SortedBy, SortedDevice, SortedPage};
use crate::db::statement;
use crate::ids::{DeviceId, HomeId, UserId};

type Columns = (BigInt, BigInt, Text, Nullable<Timestamptz>);
type Row = (HomeId, DeviceId, String, Option<DateTime<Utc>>);

statement! {
    struct NewestDevices<'a>("sql/newest_devices.sql") -> (BigInt, BigInt) {
        ..filter: DeviceFilter = &'a DeviceFilter,
        viewer: BigInt = UserId,
        homes: Array<BigInt> = &'a [HomeId],
        before: BigInt = i64,
        limit: BigInt = i64,
    }
}

statement! {
    struct SortDevices<'a>("sql/sort_devices.sql") -> Columns {
        ..filter: DeviceFilter = &'a DeviceFilter,
        viewer: BigInt = UserId,
        homes: Array<BigInt> = &'a [HomeId],
        by: Text = SortedBy,
        descending: Bool = bool,
        after: Nullable<BigInt> = Option<DeviceId>,
        after_name: Nullable<Text> = Option<&'a str>,
        after_seen: Nullable<Timestamptz> = Option<DateTime<Utc>>,
        limit: BigInt = i64,
    }
}

pub(super) async fn sorted(
    conn: &mut AsyncPgConnection,
    viewer: UserId,
    page: &SortedPage,
    homes: &[HomeId],
) -> QueryResult<Vec<(HomeId, SortedDevice)>> {
    if page.order == DeviceOrder::NEWEST {
        return newest(conn, viewer, page, homes).await;
    }
    let SortedPage { filter, order, after, limit } = page;
    let after = after.as_ref();
    let statement = SortDevices {
        filter,
        viewer,
        homes,
        by: order.by,
        descending: order.descending,
        after: after.map(|after| after.id),
        after_name: after.map(|after| &*after.name),
        after_seen: after.and_then(|after| after.seen),
        limit: *limit,
    };
    let rows: Vec<Row> = statement.load(conn).await?;
    Ok(rows.into_iter().map(|(home, id, name, seen)| (home, SortedDevice { id, name, seen })).collect())
}

/// Sorted by [`DeviceOrder::NEWEST`].
async fn newest(
    conn: &mut AsyncPgConnection,
    viewer: UserId,
    page: &SortedPage,
    homes: &[HomeId],
) -> QueryResult<Vec<(HomeId, SortedDevice)>> {
    let before = page.after.as_ref().map_or(i64::MAX, |after| after.id.get());
    let statement = NewestDevices { filter: &page.filter, viewer, homes, before, limit: page.limit };
    let rows: Vec<(HomeId, DeviceId)> = statement.load(conn).await?;
    Ok(rows.into_iter().map(|(home, id)| (home, SortedDevice { id, name: String::new(), seen: None })).collect())
}
