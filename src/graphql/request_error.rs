//! Errors of requests that the server refuses before execution, each with a stable code.

use std::borrow::Cow;

/// The code of every error in the input: in the document, its variables, or one value.
pub(crate) const BAD_USER_INPUT: &str = "BAD_USER_INPUT";

/// Why a request was refused. Nothing was executed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RequestError {
    pub(super) code: &'static str,
    pub(super) message: Cow<'static, str>,
    pub(super) field: Option<&'static str>,
    pub(super) position: Option<async_graphql::Pos>,
}

impl RequestError {
    /// `code` is stable; clients depend on it.
    pub fn new(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), field: None, position: None }
    }

    /// A parameter of the request is wrong.
    pub fn parameter(field: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { field: Some(field), ..Self::new(BAD_USER_INPUT, message) }
    }

    pub(super) fn invalid(message: String) -> Self {
        Self::new(BAD_USER_INPUT, message)
    }

    pub(super) fn too_complex(message: String) -> Self {
        Self::parameter("query", message)
    }

    pub(super) fn too_large(message: String) -> Self {
        Self { field: Some("query"), ..Self::new("PAYLOAD_TOO_LARGE", message) }
    }

    /// Names only the position, because the text of the parser repeats the document.
    pub(super) fn syntax(error: &async_graphql::parser::Error) -> Self {
        use async_graphql::parser::Error;
        let message = match error {
            Error::Syntax { .. } => Cow::Borrowed("syntax error in the document"),
            Error::MissingOperation => Cow::Borrowed("the document has no operation"),
            Error::MultipleOperations { .. } => {
                Cow::Borrowed("an operation without a name must be the only one of its document")
            }
            Error::OperationDuplicated { .. } => Cow::Borrowed("two operations have the same name"),
            Error::FragmentDuplicated { .. } => Cow::Borrowed("two fragments have the same name"),
            _ => Cow::Borrowed("the document is invalid"),
        };
        Self { position: error.positions().next(), ..Self::parameter("query", message) }
    }

    /// The value of `extensions.code`.
    pub fn code(&self) -> &'static str {
        self.code
    }
}
