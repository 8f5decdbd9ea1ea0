//! Whether ingest stores what it receives: since when its oldest message waits, and what it waits for. The metrics and
//! `/readyz` report both.

use std::time::{Duration, Instant};

use diesel::result::{DatabaseErrorKind, Error as DieselError};
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;

use super::months::TooManyParked;
use crate::error::is_transient;
use crate::metrics::Age;

/// A server whose oldest message waits longer is not ready.
const MAX_WAIT: Duration = Duration::from_secs(10);

const NO_ANSWER: &str = "the database does not answer";

/// Shared by the writer, which reports, and `/readyz`, which reads.
#[derive(Debug, Clone)]
pub struct Progress {
    oldest: Age,
    /// What the writer waits for, in words for people who see no log.
    obstacle: watch::Sender<&'static str>,
    /// Readings that are parked.
    parked: Gauge,
    closed: watch::Sender<ClosedMonths>,
}

/// The months that do not take their readings, which are parked.
#[derive(Debug, Default)]
struct ClosedMonths {
    /// Each with the reason.
    names: String,
    /// The readings of all devices are parked.
    affects_all: bool,
}

impl Progress {
    /// `oldest` and `parked` are the gauges.
    pub fn new(oldest: Age, parked: Gauge) -> Self {
        Self { oldest, obstacle: watch::Sender::new(NO_ANSWER), parked, closed: watch::Sender::default() }
    }

    /// Months do not take their readings. `names` is empty if all do.
    pub(super) fn closed_months(&self, names: String, affects_all: bool) {
        self.closed.send_replace(ClosedMonths { names, affects_all });
    }

    /// The writer begins to store; its oldest message has waited this long already.
    pub(super) fn begin(&self, waited: Duration) {
        let now = Instant::now();
        self.oldest.count_from(now.checked_sub(waited).unwrap_or(now));
    }

    /// Everything that was taken is stored.
    pub(super) fn end(&self) {
        self.oldest.clear();
        // Hardly ever another text: no lock is taken for writing then.
        if *self.obstacle.borrow() != NO_ANSWER {
            self.obstacle.send_replace(NO_ANSWER);
        }
    }

    /// The database has refused an attempt.
    pub(super) fn failed(&self, error: &DieselError) {
        self.obstacle.send_replace(obstacle(error));
    }

    /// Whether messages are stored and can be read, with a remark if some can't; otherwise since when not, and why.
    pub fn check(&self) -> Result<Option<String>, String> {
        if let Some(age) = self.oldest.get().filter(|age| *age > MAX_WAIT) {
            let (seconds, obstacle) = (age.as_secs(), *self.obstacle.borrow());
            return Err(format!("messages have waited to be stored for {seconds} s: {obstacle}"));
        }
        let parked = match self.parked.get() {
            ..=0 => None,
            1 => Some("1 reading is parked, which can't be read yet".to_owned()),
            n => Some(format!("{n} readings are parked, which can't be read yet")),
        };
        let closed = self.closed.borrow();
        if closed.names.is_empty() {
            return Ok(parked);
        }
        let parked = parked.unwrap_or_else(|| "no reading is parked".to_owned());
        let remark = format!("{parked}; months that take no readings: {}; the log has the errors", closed.names);
        if closed.affects_all { Err(remark) } else { Ok(Some(remark)) }
    }
}

/// Why an attempt failed. The error itself is for the log: it may quote values of a row.
fn obstacle(error: &DieselError) -> &'static str {
    const REFUSED: &str = "the database refuses to store something; the log has its error";
    match error {
        _ if TooManyParked::is_cause(error) => "too many readings are parked for months that take none",
        DieselError::DatabaseError(DatabaseErrorKind::ReadOnlyTransaction, _) => "the database is read-only",
        DieselError::DatabaseError(DatabaseErrorKind::Unknown, info) => match info.message() {
            text if text.contains("due to lock timeout") => "another transaction holds a lock",
            text if text.contains("due to statement timeout") => "a statement takes too long",
            text if text.contains("No space left") || text.contains("could not extend file") => {
                "the disk of the database is full"
            }
            _ if is_transient(error) => NO_ANSWER,
            _ => REFUSED,
        },
        _ if is_transient(error) => NO_ANSWER,
        _ => REFUSED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_wait_is_no_fault_and_a_long_one_has_its_reason() {
        let (age, error) =
            (Age::default(), |kind, text: &str| DieselError::DatabaseError(kind, Box::new(text.to_owned())));
        let progress = Progress::new(age.clone(), Gauge::default());
        assert_eq!(progress.check(), Ok(None));
        progress.begin(Duration::ZERO);
        progress.failed(&error(DatabaseErrorKind::Unknown, "canceling statement due to lock timeout"));
        assert_eq!(progress.check(), Ok(None));
        let wait = |kind, text| {
            progress.failed(&error(kind, text));
            obstacle(&error(kind, text))
        };
        assert_eq!(wait(DatabaseErrorKind::Unknown, "could not extend file \"x\""), "the disk of the database is full");
        assert_eq!(wait(DatabaseErrorKind::ClosedConnection, ""), NO_ANSWER);
        let secret = "new row violates check constraint, failing row contains (secret)";
        assert!(!wait(DatabaseErrorKind::CheckViolation, secret).contains("secret"));
        progress.end();
        assert_eq!((progress.check(), *progress.obstacle.borrow()), (Ok(None), NO_ANSWER));
    }

    #[test]
    fn a_closed_month_is_a_remark_unless_it_is_the_present_one() {
        let parked = Gauge::default();
        let progress = Progress::new(Age::default(), parked.clone());
        parked.set(1);
        assert_eq!(progress.check(), Ok(Some("1 reading is parked, which can't be read yet".to_owned())));
        parked.set(3);
        progress.closed_months("telemetry_2020_03 (archived)".to_owned(), false);
        let remark = progress.check().unwrap().unwrap();
        assert!(remark.starts_with("3 readings are parked") && remark.contains("telemetry_2020_03"), "{remark}");
        progress.closed_months("telemetry_2026_11 (archived)".to_owned(), true);
        assert!(progress.check().unwrap_err().contains("telemetry_2026_11"));
    }
}
