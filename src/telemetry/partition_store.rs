//! SQL of the partitions of `telemetry`: one for each calendar month.

use chrono::{DateTime, Datelike, Utc};
use diesel::QueryResult;
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};

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

    fn next(self) -> Self {
        if self.month == 12 { Self { year: self.year + 1, month: 1 } } else { Self { month: self.month + 1, ..self } }
    }
}

/// Creates a month's partition where it is missing. It is created as a table of its own and then attached:
/// attaching does not wait for readers, so a dump that runs for hours blocks nothing.
pub async fn ensure_month(conn: &mut AsyncPgConnection, month: Month) -> QueryResult<()> {
    let next = month.next();
    let Month { year, month } = month;
    let name = format!("telemetry_{year}_{month:02}");
    conn.batch_execute(&format!(
        "do $$ begin
            if to_regclass('{name}') is null then
                create table {name} (like telemetry including defaults including constraints);
                alter table telemetry attach partition {name}
                    for values from ('{year}-{month:02}-01 00:00:00Z') to ('{}-{:02}-01 00:00:00Z');
            end if;
        end $$",
        next.year, next.month
    ))
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_year_ends_in_january() {
        let december = Month::of("2026-12-31T23:59:59Z".parse().unwrap());
        assert_eq!(december.next(), Month { year: 2027, month: 1 });
        assert_eq!(december.next().next(), Month { year: 2027, month: 2 });
    }
}
