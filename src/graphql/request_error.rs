//! Errors of requests that the server refuses before execution, each with a stable code.

use std::borrow::Cow;
use std::num::NonZeroU32;

use async_graphql::Pos;

use crate::error::CredentialsError;
use crate::request_memory::{MemoryExceeded, RETRY_AFTER_SECONDS};
use crate::turns::{self, TooManyOperations};

/// The code of every error in the input: in the document, its variables, or one value.
pub(crate) const BAD_USER_INPUT: &str = "BAD_USER_INPUT";

/// The code of a persisted query that the server does not have: the client sends its document.
pub const NOT_PERSISTED: &str = "PERSISTED_QUERY_NOT_FOUND";

/// Why a request was refused. Nothing was executed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RequestError {
    pub(super) code: &'static str,
    pub(super) message: Cow<'static, str>,
    pub(super) field: Option<Cow<'static, str>>,
    /// What is wrong with the credentials.
    pub(super) reason: Option<CredentialsError>,
    pub(super) position: Option<Pos>,
    /// When the same request may succeed. Four bytes, because errors are returned by value.
    pub(super) retry_after_seconds: Option<NonZeroU32>,
    /// Further problems of the same document or of the same variables.
    pub(super) others: Vec<RequestError>,
}

impl RequestError {
    /// `code` is stable; clients depend on it.
    pub fn new(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            field: None,
            reason: None,
            position: None,
            retry_after_seconds: None,
            others: Vec::new(),
        }
    }

    /// The credentials are refused.
    pub fn unauthenticated(reason: CredentialsError, message: &'static str) -> Self {
        Self { reason: Some(reason), ..Self::new("UNAUTHENTICATED", message) }
    }

    /// A parameter of the request is wrong.
    pub fn parameter(field: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self { field: Some(field.into()), ..Self::new(BAD_USER_INPUT, message) }
    }

    /// The place in the document.
    #[must_use]
    pub(super) fn at(self, position: Pos) -> Self {
        Self { position: Some(position), ..self }
    }

    /// The time after which the same request may succeed.
    #[must_use]
    pub fn retry_after(self, seconds: u64) -> Self {
        let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
        Self { retry_after_seconds: NonZeroU32::new(seconds), ..self }
    }

    /// One error for all problems, if there are any.
    pub(super) fn first_of(problems: Vec<Self>) -> Option<Self> {
        let mut problems = problems.into_iter();
        let first = problems.next()?;
        Some(Self { others: problems.collect(), ..first })
    }

    pub(super) fn too_complex(message: String) -> Self {
        Self::parameter("query", message)
    }

    pub(super) fn too_large(message: String) -> Self {
        Self { field: Some("query".into()), ..Self::new("PAYLOAD_TOO_LARGE", message) }
    }

    /// An operation that may have changed something has ended without its result.
    pub(super) fn outcome_unknown() -> Self {
        let message = "the outcome is unknown: check whether it was done before you try again";
        Self::new("OUTCOME_UNKNOWN", message)
    }

    /// Why the request was refused, for the log: a text that quotes nothing of the request.
    pub fn detail(&self) -> Option<&'static str> {
        let fixed = match self.message {
            Cow::Borrowed(text) => Some(text),
            Cow::Owned(_) => None,
        };
        self.reason.map(CredentialsError::name).or(fixed)
    }

    /// The value of `extensions.code`.
    pub fn code(&self) -> &'static str {
        self.code
    }
}

impl From<TooManyOperations> for RequestError {
    fn from(refused: TooManyOperations) -> Self {
        Self::new("RATE_LIMITED", refused.to_string()).retry_after(turns::RETRY_AFTER_SECONDS.into())
    }
}

impl From<MemoryExceeded> for RequestError {
    fn from(exceeded: MemoryExceeded) -> Self {
        let code = match exceeded {
            MemoryExceeded::PerUser | MemoryExceeded::PerAddress => "RATE_LIMITED",
            MemoryExceeded::InAll => "UNAVAILABLE",
        };
        Self::new(code, exceeded.to_string()).retry_after(RETRY_AFTER_SECONDS.into())
    }
}
