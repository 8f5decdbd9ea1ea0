//! The one error of the features: what failed, free of any transport.
//!
//! `Display` is what a client may read. The text of `Unavailable` and `Internal` is fixed; their
//! cause is for the log alone (walk the `source` chain).

use diesel::result::{DatabaseErrorKind, Error as DieselError};

/// The cause behind an error whose own text says nothing of the inside.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why an operation was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No valid credentials came with the request.
    #[error("{0}")]
    Unauthenticated(&'static str),
    /// The caller sees the thing but may not do this to it.
    #[error("{0}")]
    Forbidden(&'static str),
    /// It does not exist, or the caller may not even know that it does.
    #[error("{0} not found")]
    NotFound(&'static str),
    /// One input value is wrong.
    #[error("{message}")]
    BadInput {
        /// The input field, as the client spells it.
        field: &'static str,
        /// What is wrong and what is expected.
        message: String,
    },
    /// One input value is larger than is kept.
    #[error("{message}")]
    TooLarge {
        /// The input field, as the client spells it.
        field: &'static str,
        /// How large it is and may be.
        message: String,
    },
    /// It clashes with the present state.
    #[error("{0}")]
    Conflict(String),
    /// Too often; safe to retry later.
    #[error("{0}")]
    RateLimited(&'static str),
    /// Too often: what it is does not matter, when it may be done again does.
    #[error("too many requests: try again in {retry_after_seconds} s")]
    TooSoon {
        /// Seconds to wait.
        retry_after_seconds: u64,
    },
    /// A subscriber could not keep up; it knows its last cursor.
    #[error("too slow: subscribe again with `after` set to the last id you have seen")]
    Lagged,
    /// The database or the broker is away; safe to retry.
    #[error("service temporarily unavailable, try again")]
    Unavailable(#[source] Cause),
    /// The database went while it committed: the change may stand. Not safe to retry.
    #[error("the outcome is unknown: look whether it was done before you try again")]
    OutcomeUnknown(#[source] Cause),
    /// A fault of ours.
    #[error("internal error")]
    Internal(#[source] Cause),
}

impl Error {
    /// The stable name clients see in `extensions.code`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unauthenticated(_) => "UNAUTHENTICATED",
            Self::Forbidden(_) => "FORBIDDEN",
            Self::NotFound(_) => "NOT_FOUND",
            Self::BadInput { .. } => "BAD_USER_INPUT",
            Self::TooLarge { .. } => "PAYLOAD_TOO_LARGE",
            Self::Conflict(_) => "CONFLICT",
            Self::RateLimited(_) | Self::TooSoon { .. } => "RATE_LIMITED",
            Self::Lagged => "LAGGED",
            Self::Unavailable(_) => "UNAVAILABLE",
            Self::OutcomeUnknown(_) => "OUTCOME_UNKNOWN",
            Self::Internal(_) => "INTERNAL",
        }
    }

    /// A wrong input value: which field, and what to do about it.
    pub fn bad_input(field: &'static str, message: impl Into<String>) -> Self {
        Self::BadInput { field, message: message.into() }
    }

    /// A broken invariant or an unexpected failure of ours.
    pub fn internal(cause: impl Into<Cause>) -> Self {
        Self::Internal(cause.into())
    }

    /// A dependency that is away.
    pub fn unavailable(cause: impl Into<Cause>) -> Self {
        Self::Unavailable(cause.into())
    }

    /// Whether the cause is for the log (and only there).
    pub fn is_fault(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::OutcomeUnknown(_) | Self::Internal(_))
    }

    /// What the same failure means where a COMMIT met it. The database's own refusal leaves nothing behind; a
    /// connection that is gone has taken the answer with it.
    pub(crate) fn of_commit(self) -> Self {
        match self {
            Self::Unavailable(cause) if is_lost_connection(&cause) => Self::OutcomeUnknown(cause),
            other => other,
        }
    }
}

fn is_lost_connection(cause: &Cause) -> bool {
    match cause.downcast_ref() {
        Some(DieselError::DatabaseError(
            DatabaseErrorKind::ClosedConnection | DatabaseErrorKind::UnableToSendCommand,
            _,
        )) => true,
        Some(DieselError::DatabaseError(_, info)) => info.message().contains("terminating connection"),
        _ => false,
    }
}

/// Whether the database failed in a way that may pass by itself: the same statement may succeed later.
///
/// Diesel hides the SQLSTATE. So failures are told apart by kind and, where the kind is `Unknown`, by PostgreSQL's
/// English message. With another `lc_messages`, which only a superuser may set, such a failure counts as our own
/// fault: clients get `INTERNAL`, and ingest finds out by a probe.
pub fn is_transient(error: &DieselError) -> bool {
    const MESSAGES: [&str; 8] = [
        "deadlock detected",
        "due to statement timeout",
        "due to lock timeout",
        "terminating connection",
        "the database system is",
        "read-only transaction",
        "No space left",
        "could not extend file",
    ];
    match error {
        DieselError::DatabaseError(
            DatabaseErrorKind::ClosedConnection
            | DatabaseErrorKind::UnableToSendCommand
            | DatabaseErrorKind::ReadOnlyTransaction
            | DatabaseErrorKind::SerializationFailure,
            _,
        )
        | DieselError::BrokenTransactionManager => true,
        DieselError::DatabaseError(DatabaseErrorKind::Unknown, info) => {
            MESSAGES.iter().any(|text| info.message().contains(text))
        }
        _ => false,
    }
}

impl From<DieselError> for Error {
    fn from(error: DieselError) -> Self {
        if is_transient(&error) { Self::unavailable(error) } else { Self::internal(error) }
    }
}

impl From<bb8::RunError<diesel_async::pooled_connection::PoolError>> for Error {
    fn from(error: bb8::RunError<diesel_async::pooled_connection::PoolError>) -> Self {
        Self::unavailable(error)
    }
}

/// An error with its causes, for a log line: `outer: inner: innermost`.
pub struct Chain<'a>(pub &'a (dyn std::error::Error + 'static));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_worth_another_try() {
        let code = |kind, text: &str| Error::from(DieselError::DatabaseError(kind, Box::new(text.to_owned()))).code();
        assert_eq!(code(DatabaseErrorKind::ReadOnlyTransaction, ""), "UNAVAILABLE");
        assert_eq!(code(DatabaseErrorKind::SerializationFailure, ""), "UNAVAILABLE");
        assert_eq!(code(DatabaseErrorKind::Unknown, "deadlock detected"), "UNAVAILABLE");
        let full = "could not extend file \"base/5/2619\": wrote only 4096 of 8192 bytes at block 7";
        assert_eq!(code(DatabaseErrorKind::Unknown, full), "UNAVAILABLE");
        assert_eq!(code(DatabaseErrorKind::Unknown, "division by zero"), "INTERNAL");
        assert_eq!(code(DatabaseErrorKind::ForeignKeyViolation, ""), "INTERNAL");
    }

    #[test]
    fn a_commit_without_an_answer_may_stand() {
        let code = |kind, text: &str| {
            Error::from(DieselError::DatabaseError(kind, Box::new(text.to_owned()))).of_commit().code()
        };
        assert_eq!(code(DatabaseErrorKind::UnableToSendCommand, "connection closed"), "OUTCOME_UNKNOWN");
        assert_eq!(code(DatabaseErrorKind::ClosedConnection, ""), "OUTCOME_UNKNOWN");
        assert_eq!(code(DatabaseErrorKind::Unknown, "terminating connection due to a crash"), "OUTCOME_UNKNOWN");
        assert_eq!(code(DatabaseErrorKind::SerializationFailure, ""), "UNAVAILABLE");
        assert_eq!(code(DatabaseErrorKind::Unknown, "canceling statement due to lock timeout"), "UNAVAILABLE");
        assert_eq!(code(DatabaseErrorKind::ForeignKeyViolation, ""), "INTERNAL");
    }
}
