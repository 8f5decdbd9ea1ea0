//! SQL of the partitions of `telemetry`: one for each calendar month.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, Utc};
use diesel::QueryResult;
use diesel::result::Error as DieselError;
use diesel::sql_types::{Bool, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};

use crate::db::statement;

/// A calendar month in UTC: the span of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Month {
    year: i32,
    month: u32,
}

impl Month {
    /// The month of an instant.
    pub fn of(at: DateTime<Utc>) -> Self {
        Self { year: at.year(), month: at.month() }
    }

    pub fn next(self) -> Self {
        if self.month == 12 { Self { year: self.year + 1, month: 1 } } else { Self { month: self.month + 1, ..self } }
    }

    /// Its first instant.
    pub fn starts_at(self) -> DateTime<Utc> {
        let first = NaiveDate::from_ymd_opt(self.year, self.month, 1).expect("the first of a month exists");
        first.and_time(NaiveTime::MIN).and_utc()
    }

    fn table(self) -> String {
        format!("telemetry_{}_{:02}", self.year, self.month)
    }

    /// Its first instant, as SQL.
    fn start(self) -> String {
        format!("'{}-{:02}-01 00:00:00Z'", self.year, self.month)
    }

    /// The statement that makes its table a partition. It takes SHARE UPDATE EXCLUSIVE on `telemetry`, so it waits for
    /// no reader and no insert, but for ANALYZE.
    fn attach(self) -> String {
        let (table, from, to) = (self.table(), self.start(), self.next().start());
        format!("alter table telemetry attach partition {table} for values from ({from}) to ({to})")
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.table())
    }
}

/// What exists of a month.
#[derive(Debug)]
pub enum MonthTable {
    Attached,
    /// Something of its name exists, but is no partition: an operator has detached it, or a backup was restored in part.
    Detached,
    /// Nothing of its name exists, and its partition can't be created.
    Missing(DieselError),
}

statement! {
    struct FindMonth<'a>("sql/find_month.sql") -> (Bool, Bool) {
        name: Text = &'a str,
    }
}

/// Whether the month has a partition.
pub async fn is_attached(conn: &mut AsyncPgConnection, month: Month) -> QueryResult<bool> {
    Ok(matches!(find_month(conn, month).await?, Some(MonthTable::Attached)))
}

async fn find_month(conn: &mut AsyncPgConnection, month: Month) -> QueryResult<Option<MonthTable>> {
    let (exists, is_attached) = FindMonth { name: &month.table() }.get_result(conn).await?;
    Ok(if is_attached { Some(MonthTable::Attached) } else { bool::then_some(exists, MonthTable::Detached) })
}

/// Creates a month's partition where it is missing. Waits for a lock no longer than `max_wait`.
pub async fn ensure_month(conn: &mut AsyncPgConnection, month: Month, max_wait: Duration) -> QueryResult<MonthTable> {
    if let Some(found) = find_month(conn, month).await? {
        return Ok(found);
    }
    let wait = format!("set local lock_timeout = {}", max_wait.as_millis());
    let create = format!("create table {month} (like telemetry including defaults including constraints)");
    // Together they are one transaction.
    let created = conn.batch_execute(&format!("{wait}; {create}; {}", month.attach())).await;
    // Another server may have created it at the same time.
    let found = find_month(conn, month).await?;
    Ok(found.unwrap_or_else(|| created.map_or_else(MonthTable::Missing, |()| MonthTable::Attached)))
}

/// Attaches the table of a month that exists and is no partition, if its columns fit.
///
/// PostgreSQL reads the whole table to see that its rows belong to the month, unless a check says so. The check is
/// validated first, under a lock that stops nobody; the attachment, whose locks are stronger, then takes a moment.
pub(super) async fn attach_month(conn: &mut AsyncPgConnection, month: Month) -> QueryResult<()> {
    let (check, from, to) = (format!("{month}_span"), month.start(), month.next().start());
    let add = format!(
        "alter table {month} drop constraint if exists {check},
         add constraint {check} check (recorded_at >= {from} and recorded_at < {to}) not valid"
    );
    conn.batch_execute(&add).await?;
    conn.batch_execute(&format!("alter table {month} validate constraint {check}")).await?;
    // Together they are one transaction.
    conn.batch_execute(&format!("{}; alter table {month} drop constraint {check}", month.attach())).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_year_ends_in_january() {
        let december = Month::of("2026-12-31T23:59:59Z".parse().unwrap());
        assert_eq!(december.next(), Month { year: 2027, month: 1 });
        assert_eq!(december.next().next(), Month { year: 2027, month: 2 });
        assert_eq!(december.next().starts_at().to_rfc3339(), "2027-01-01T00:00:00+00:00");
    }
}
