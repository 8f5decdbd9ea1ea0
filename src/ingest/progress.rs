//! Whether ingest stores what it receives: since when its oldest message waits, and what it waits for. The metrics and
//! `/readyz` report both.

use std::time::{Duration, Instant};

use diesel::result::{DatabaseErrorKind, Error as DieselError};
use tokio::sync::watch;

use super::month_error::MonthError;
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
}

impl Progress {
    /// `oldest` is the gauge.
    pub fn new(oldest: Age) -> Self {
        Self { oldest, obstacle: watch::Sender::new(NO_ANSWER) }
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

    /// Another server holds the lock of the client id.
    pub(super) fn other_server(&self) {
        self.obstacle.send_replace("another server uses the same MQTT_CLIENT_ID");
    }

    /// Whether messages are stored; otherwise since when not, and why.
    pub fn check(&self) -> Result<(), String> {
        match self.oldest.get() {
            Some(age) if age > MAX_WAIT => {
                Err(format!("messages have waited to be stored for {} s: {}", age.as_secs(), *self.obstacle.borrow()))
            }
            _ => Ok(()),
        }
    }
}

/// Why an attempt failed. The error itself is for the log: it may quote values of a row.
fn obstacle(error: &DieselError) -> &'static str {
    const REFUSED: &str = "the database refuses to store something; the log has its error";
    match MonthError::of(error) {
        Some(MonthError::Detached(_)) => return "the table of a month is not attached to its parent; the log names it",
        Some(MonthError::NotCreated(_, cause)) if !is_transient(cause) => {
            return "the table of a month can't be created; the log has the error";
        }
        Some(MonthError::NotCreated(_, cause)) => return obstacle(cause),
        None => {}
    }
    match error {
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
        let progress = Progress::new(age.clone());
        assert_eq!(progress.check(), Ok(()));
        progress.begin(Duration::ZERO);
        progress.failed(&error(DatabaseErrorKind::Unknown, "canceling statement due to lock timeout"));
        assert_eq!(progress.check(), Ok(()));
        let wait = |kind, text| {
            progress.failed(&error(kind, text));
            obstacle(&error(kind, text))
        };
        assert_eq!(wait(DatabaseErrorKind::Unknown, "could not extend file \"x\""), "the disk of the database is full");
        assert_eq!(wait(DatabaseErrorKind::ClosedConnection, ""), NO_ANSWER);
        let secret = "new row violates check constraint, failing row contains (secret)";
        assert!(!wait(DatabaseErrorKind::CheckViolation, secret).contains("secret"));
        progress.end();
        assert_eq!((progress.check(), *progress.obstacle.borrow()), (Ok(()), NO_ANSWER));
    }
}
