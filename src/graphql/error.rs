//! How errors of the features reach a client: their text, `extensions.code`, `extensions.field`. The
//! cause of a fault goes to the log, once, and nowhere else.

use std::sync::Arc;

use async_graphql::ErrorExtensions;

use crate::error::{Chain, Error};

/// What resolvers return. The alias must keep this name: the library's macros look for it.
pub(super) type Result<T> = std::result::Result<T, ResolverError>;

/// An error on its way to a client. Cheap to clone, so that all who waited for one batch get it.
///
/// It has no `Display` on purpose: with one, the library would turn it into an error without a code.
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

impl From<ResolverError> for async_graphql::Error {
    fn from(ResolverError(error): ResolverError) -> Self {
        async_graphql::Error::new(error.to_string()).extend_with(|_, extensions| {
            extensions.set("code", error.code());
            if let Error::BadInput { field, .. } | Error::TooLarge { field, .. } = &*error {
                extensions.set("field", *field);
            }
            if let Error::TooSoon { retry_after_seconds } = &*error {
                extensions.set("retryAfterSeconds", *retry_after_seconds);
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_reads_the_code_and_never_the_cause() {
        let error: async_graphql::Error = ResolverError::from(Error::internal("secret detail")).into();
        assert_eq!(error.message, "internal error");
        assert_eq!(format!("{:?}", error.extensions.unwrap().get("code").unwrap()), "String(\"INTERNAL\")");
        let error: async_graphql::Error = ResolverError::from(Error::bad_input("first", "too many")).into();
        assert_eq!(format!("{:?}", error.extensions.unwrap().get("field").unwrap()), "String(\"first\")");
    }
}
