//! The one argument of a mutation. Eight mutations had several arguments before; clients that give these still work.

use async_graphql::ID;

use super::error::Result;
use crate::error::Error;

/// The input of a mutation. `has_deprecated` says whether the client gave any deprecated argument, `from_deprecated` is the input
/// that these are, if none is missing.
pub(super) fn input_or<T>(input: Option<T>, has_deprecated: bool, from_deprecated: Option<T>) -> Result<T> {
    match (input, from_deprecated) {
        (Some(_), _) if has_deprecated => Err(refused("`input` replaces the deprecated arguments: give only `input`")),
        (Some(input), _) => Ok(input),
        (None, Some(input)) => Ok(input),
        (None, None) if has_deprecated => {
            Err(refused("a deprecated argument is missing: give `input` in place of them"))
        }
        (None, None) => Err(refused("`input` is missing")),
    }
}

/// The ID in an input, or the one in the deprecated argument beside it.
pub(super) fn id_or(in_input: Option<ID>, deprecated: Option<ID>) -> Result<ID> {
    match (in_input, deprecated) {
        (Some(id), None) | (None, Some(id)) => Ok(id),
        (Some(_), Some(_)) => Err(refused("`id` is given twice: give only the one in `input`")),
        (None, None) => Err(refused("`input.id` is missing")),
    }
}

fn refused(problem: &str) -> super::error::ResolverError {
    Error::bad_input("input", problem).into()
}
