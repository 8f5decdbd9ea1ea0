//! The one argument of a mutation. Eight mutations had several arguments before; clients that give these still work.
//!
//! A missing argument or field gets the message of graphql-js, as where the schema requires it.

use async_graphql::{Context, ID, InputType};

use super::error::{ResolverError, Result};
use crate::error::Error;

/// An argument that `input` replaces.
pub(super) struct Deprecated {
    name: &'static str,
    is_given: bool,
    /// Its type, if the mutation needs it.
    required: Option<fn() -> String>,
}

impl Deprecated {
    pub(super) fn required<T: InputType>(name: &'static str, argument: Option<&T>) -> Self {
        Self { name, is_given: argument.is_some(), required: Some(T::qualified_type_name) }
    }

    pub(super) fn optional(name: &'static str, is_given: bool) -> Self {
        Self { name, is_given, required: None }
    }

    /// Name and type, if the client left it out and the mutation needs it.
    fn missing(&self) -> Option<(&'static str, String)> {
        let required = self.required.filter(|_| !self.is_given)?;
        Some((self.name, required()))
    }
}

/// The input of a mutation. `from_deprecated` is the input that the deprecated arguments are, if none is missing.
pub(super) fn input_or<T: InputType>(
    ctx: &Context<'_>,
    input: Option<T>,
    arguments: &[Deprecated],
    from_deprecated: Option<T>,
) -> Result<T> {
    let has_deprecated = arguments.iter().any(|argument| argument.is_given);
    match (input, from_deprecated) {
        (Some(_), _) if has_deprecated => {
            Err(refused("input", "`input` replaces the deprecated arguments: give only `input`"))
        }
        (Some(input), _) | (None, Some(input)) => Ok(input),
        (None, None) => {
            let missing = arguments.iter().filter(|_| has_deprecated).find_map(Deprecated::missing);
            let (name, kind) = missing.unwrap_or_else(|| ("input", T::qualified_type_name()));
            let field = ctx.field().name();
            let problem = format!(
                "Field \"{field}\" argument \"{name}\" of type \"{kind}\" is required, but it was not provided."
            );
            Err(refused(name, problem))
        }
    }
}

/// The ID in an input of type `T`, or the one in the deprecated argument beside it.
pub(super) fn id_or<T: InputType>(in_input: Option<ID>, deprecated: Option<ID>) -> Result<ID> {
    match (in_input, deprecated) {
        (Some(id), None) | (None, Some(id)) => Ok(id),
        (Some(_), Some(_)) => Err(refused("id", "`id` is given twice: give only the one in `input`")),
        (None, None) => {
            let (input, kind) = (T::type_name(), ID::qualified_type_name());
            Err(refused("input.id", format!("Field \"{input}.id\" of required type \"{kind}\" was not provided.")))
        }
    }
}

fn refused(field: &'static str, problem: impl Into<String>) -> ResolverError {
    Error::bad_input(field, problem).into()
}
