//! The error type of the features. It knows no transport.
//!
//! `Display` is what a client may read. The texts of `Unavailable`, `OutcomeUnknown` and `Internal` are fixed; their
//! cause is for the log only (the `source` chain).

pub mod codes;

use crate::ids::HomeId;
use diesel::result::{DatabaseErrorKind, Error as DieselError};

/// The cause of an error whose own text reveals nothing internal.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What is wrong with the credentials of a request: `extensions.reason` of `UNAUTHENTICATED`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialsError {
    /// The operation needs an access token, and none came with the request.
    TokenMissing,
    /// The access token was valid until it expired.
    TokenExpired,
    /// The access token or the refresh token is not one of ours, or its session has ended.
    TokenInvalid,
    /// The password or the e-mail address is wrong.
    InvalidCredentials,
    /// The refresh token was used before. Its session has been ended.
    RefreshReused,
}

impl CredentialsError {
    /// The stable name clients see in `extensions.reason`.
    pub fn name(self) -> &'static str {
        match self {
            Self::TokenMissing => "TOKEN_MISSING",
            Self::TokenExpired => "TOKEN_EXPIRED",
            Self::TokenInvalid => "TOKEN_INVALID",
            Self::InvalidCredentials => "INVALID_CREDENTIALS",
            Self::RefreshReused => "REFRESH_REUSED",
        }
    }
}

/// Why an operation was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request has no valid credentials.
    #[error("{1}")]
    Unauthenticated(CredentialsError, &'static str),
    /// The caller may see the object, but may not do this to it.
    #[error("{0}")]
    Forbidden(&'static str),
    /// It does not exist, or the caller may not even know that it does.
    #[error("{0} not found")]
    NotFound(&'static str),
    /// An input value is wrong.
    #[error("{message}")]
    BadInput {
        /// The input field, as the client spells it.
        field: &'static str,
        /// What is wrong, and what is expected.
        message: String,
    },
    /// An input value is larger than allowed.
    #[error("{message}")]
    TooLarge {
        /// The input field, as the client spells it.
        field: &'static str,
        /// How large it is and may be.
        message: String,
    },
    /// It conflicts with the present state.
    #[error("{0}")]
    Conflict(String),
    /// An account can't be deleted, because homes would have no owner.
    #[error("homes would have no owner: name each of homeIds in handOver, with a member, or in deleteHomeIds")]
    OnlyOwner {
        /// The homes that the request does not name.
        homes: Vec<HomeId>,
    },
    /// Too many requests, with the time to wait.
    #[error("too many requests: try again in {retry_after_seconds} s")]
    TooSoon { retry_after_seconds: u64 },
    /// A subscriber could not keep up. It can continue after its last cursor.
    #[error("too slow: subscribe again; for readings, with `afterId` set to the last ID that you received")]
    Lagged,
    /// Another server ingests, so this one receives no live events.
    #[error("this server is on standby and receives no live events: connect again to reach the server that does")]
    Standby,
    /// The database or the broker is away. The change was not made, so it is safe to retry.
    #[error("service temporarily unavailable, try again")]
    Unavailable(#[source] Cause),
    /// The connection was lost during a commit, so the change may have been made. Not safe to retry.
    #[error("the outcome is unknown: check whether it was done before you try again")]
    OutcomeUnknown(#[source] Cause),
    /// A fault of the server.
    #[error("internal error")]
    Internal(#[source] Cause),
}

impl Error {
    /// The stable name clients see in `extensions.code`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unauthenticated(..) => "UNAUTHENTICATED",
            Self::Forbidden(_) => "FORBIDDEN",
            Self::NotFound(_) => "NOT_FOUND",
            Self::BadInput { .. } => "BAD_USER_INPUT",
            Self::TooLarge { .. } => "PAYLOAD_TOO_LARGE",
            Self::Conflict(_) | Self::OnlyOwner { .. } => "CONFLICT",
            Self::TooSoon { .. } => "RATE_LIMITED",
            Self::Lagged => "LAGGED",
            Self::Standby | Self::Unavailable(_) => "UNAVAILABLE",
            Self::OutcomeUnknown(_) => "OUTCOME_UNKNOWN",
            Self::Internal(_) => "INTERNAL",
        }
    }

    /// The account of a valid token does not exist any more.
    pub(crate) const ACCOUNT_DELETED: Self =
        Self::Unauthenticated(CredentialsError::TokenInvalid, "this account was deleted");

    /// Why credentials were refused.
    pub fn reason(&self) -> Option<CredentialsError> {
        match self {
            Self::Unauthenticated(reason, _) => Some(*reason),
            _ => None,
        }
    }

    /// A wrong input value: which field, and what to do about it.
    pub fn bad_input(field: &'static str, message: impl Into<String>) -> Self {
        Self::BadInput { field, message: message.into() }
    }

    /// A broken invariant or an unexpected failure.
    pub fn internal(cause: impl Into<Cause>) -> Self {
        Self::Internal(cause.into())
    }

    /// A dependency that is away.
    pub fn unavailable(cause: impl Into<Cause>) -> Self {
        Self::Unavailable(cause.into())
    }

    /// Whether it has a cause, which belongs in the log.
    pub fn is_fault(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::OutcomeUnknown(_) | Self::Internal(_))
    }

    /// The same failure during a COMMIT. If the database refuses, nothing is committed. If the connection is lost, the
    /// outcome is unknown.
    pub(crate) fn of_commit(self) -> Self {
        match self {
            Self::Unavailable(cause) if is_lost_connection(&cause) => Self::OutcomeUnknown(cause),
            other => other,
        }
    }
}

/// PostgreSQL ends the connection: a shutdown, a crash of another process, `pg_terminate_backend`.
const CONNECTION_TERMINATED: &str = "terminating connection";

fn is_lost_connection(cause: &Cause) -> bool {
    match cause.downcast_ref() {
        Some(DieselError::DatabaseError(
            DatabaseErrorKind::ClosedConnection | DatabaseErrorKind::UnableToSendCommand,
            _,
        )) => true,
        // SQLSTATE 57P01 and 57P02, which diesel-async drops as well: see [`is_transient`].
        Some(DieselError::DatabaseError(_, info)) => info.message().contains(CONNECTION_TERMINATED),
        _ => false,
    }
}

/// Whether the database failed in a way that may pass by itself: the same statement may succeed later.
///
/// diesel-async drops the SQLSTATE of every error that diesel has no kind for. So failures are told apart by kind and,
/// where the kind is `Unknown`, by PostgreSQL's English message; `tests/it/database_errors.rs` provokes each of them on
/// a real server. With another `lc_messages` such a failure counts as our own fault: clients get `INTERNAL`, and ingest
/// finds out by a probe. The server warns about that at its start ([`crate::db::warn_about_message_language`]).
pub fn is_transient(error: &DieselError) -> bool {
    match error {
        DieselError::DatabaseError(
            DatabaseErrorKind::ClosedConnection
            | DatabaseErrorKind::UnableToSendCommand
            | DatabaseErrorKind::SerializationFailure,
            _,
        )
        | DieselError::BrokenTransactionManager => true,
        _ => {
            is_of_lock(error)
                || is_of_storage(error)
                || has_text(error, &[CONNECTION_TERMINATED, "the database system is"])
        }
    }
}

/// Whether a statement waited too long for others.
pub(crate) fn is_of_lock(error: &DieselError) -> bool {
    has_text(error, &["due to lock timeout", "due to statement timeout", "deadlock detected"])
}

/// Whether what the database writes to is read-only or full.
pub(crate) fn is_of_storage(error: &DieselError) -> bool {
    matches!(error, DieselError::DatabaseError(DatabaseErrorKind::ReadOnlyTransaction, _))
        || has_text(error, &["read-only transaction", "No space left", "could not extend file"])
}

/// Whether an error without a kind has one of these texts in its message.
fn has_text(error: &DieselError, texts: &[&str]) -> bool {
    match error {
        DieselError::DatabaseError(DatabaseErrorKind::Unknown, info) => {
            texts.iter().any(|text| info.message().contains(text))
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
    fn transient_failures_of_the_database_are_unavailable() {
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
    fn the_outcome_of_a_commit_without_an_answer_is_unknown() {
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
