//! How errors of the features reach a client: their text, `extensions.code` and `extensions.field`. The
//! cause of an internal error is logged once, here, and never sent.

use std::sync::Arc;

use async_graphql::{ErrorExtensions, InputType, InputValueError};

use crate::error::{Chain, Error};

/// The result of a resolver. The alias must have this name: the library's macros look for it.
pub(super) type Result<T> = std::result::Result<T, ResolverError>;

/// An error of a resolver or of a scalar. Cheap to clone, because all requests of a batch get the same one.
///
/// It does not implement `Display`: the library turns every `Display` into an error without a code.
#[derive(Clone, Debug)]
pub(super) struct ResolverError(Arc<Error>);

impl From<Error> for ResolverError {
    fn from(error: Error) -> Self {
        if error.is_fault() {
            tracing::error!(code = error.code(), "a request failed: {}", Chain(&error));
        }
        Self(Arc::new(error))
    }
}

impl ResolverError {
    /// The field of the input that is wrong.
    fn field(&self) -> Option<&'static str> {
        match &*self.0 {
            Error::BadInput { field, .. } | Error::TooLarge { field, .. } => Some(field),
            _ => None,
        }
    }
}

impl From<ResolverError> for async_graphql::Error {
    fn from(error: ResolverError) -> Self {
        async_graphql::Error::new(error.0.to_string()).extend_with(|_, extensions| {
            extensions.set("code", error.0.code());
            if let Some(reason) = error.0.reason() {
                extensions.set("reason", reason.name());
            }
            if let Some(field) = error.field() {
                extensions.set("field", field);
            }
            if let Error::OnlyOwner { homes } = &*error.0 {
                extensions.set("homeIds", homes.iter().map(ToString::to_string).collect::<Vec<_>>());
            }
            if let Error::TooSoon { retry_after_seconds } = &*error.0 {
                extensions.set("retryAfterSeconds", *retry_after_seconds);
            }
        })
    }
}

/// An error in an input value keeps its code while the library parses the objects around the value.
impl<T: InputType> From<ResolverError> for InputValueError<T> {
    fn from(error: ResolverError) -> Self {
        let input_error = InputValueError::custom(&error.0).with_extension("code", error.0.code());
        match error.field() {
            Some(field) => input_error.with_extension("field", field),
            None => input_error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_gets_the_code_and_the_field_but_never_the_cause() {
        let error: async_graphql::Error = ResolverError::from(Error::internal("secret detail")).into();
        assert_eq!(error.message, "internal error");
        assert_eq!(format!("{:?}", error.extensions.unwrap().get("code").unwrap()), "String(\"INTERNAL\")");
        let error: async_graphql::Error = ResolverError::from(Error::bad_input("first", "too many")).into();
        assert_eq!(format!("{:?}", error.extensions.unwrap().get("field").unwrap()), "String(\"first\")");
    }

    #[test]
    fn an_error_in_an_input_value_has_a_code_and_a_field() {
        let error: InputValueError<String> = ResolverError::from(Error::bad_input("macAddress", "no MAC")).into();
        let error = error.propagate::<i32>().into_server_error(async_graphql::Pos::default());
        assert!(error.message.contains("no MAC"), "{}", error.message);
        let extensions = error.extensions.unwrap();
        assert_eq!(extensions.get("code"), Some(&"BAD_USER_INPUT".into()));
        assert_eq!(extensions.get("field"), Some(&"macAddress".into()));
    }
}
