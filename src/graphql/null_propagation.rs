//! Null propagation (GraphQL specification, section 6.4.4), which the library does incompletely.
//!
//! async-graphql 7.2.1 removes a failed field from its object, whatever its type. So a client could receive
//! `{"home": {}}` or `[null]` for `[Home!]!`. This module follows the path of each error through the selection. A
//! nullable field becomes `null`; a non-null field makes its nearest nullable ancestor `null`. It runs only for
//! responses with errors.

use apollo_compiler::ast::Type;
use async_graphql::{Name, PathSegment, Response, Value};

use super::operation::Selected;

/// Corrects the `data` of a response by its errors.
pub(super) fn propagate(response: &mut Response, selected: &[Selected]) {
    let Response { data, errors, .. } = response;
    let mut fatal = Vec::new();
    for error in errors.iter().filter(|error| !error.path.is_empty()) {
        // Some errors of the library name no selected field.
        let Some(nullable) = nullable_steps(&error.path, selected) else { continue };
        if is_present(data, &error.path) {
            continue;
        }
        match nullable.iter().rposition(|nullable| *nullable) {
            Some(at) if at + 1 == nullable.len() => set_null(data, &error.path, true),
            Some(at) => fatal.push(Some(&error.path[..=at])),
            None => fatal.push(None),
        }
    }
    // Last, because nothing below a removed ancestor may be set again.
    for path in fatal {
        match path {
            Some(path) => set_null(data, path, false),
            None => *data = Value::Null,
        }
    }
}

/// For each prefix of a path, whether its value may be null.
fn nullable_steps(path: &[PathSegment], mut selected: &[Selected]) -> Option<Vec<bool>> {
    let mut nullable = Vec::with_capacity(path.len());
    let mut here: Option<&Type> = None;
    for segment in path {
        let ty = match segment {
            PathSegment::Field(key) => {
                let field = selected.iter().find(|field| field.key() == key)?;
                selected = &field.below;
                field.ty()
            }
            PathSegment::Index(_) => match here? {
                Type::List(item) | Type::NonNullList(item) => item,
                Type::Named(_) | Type::NonNullNamed(_) => return None,
            },
        };
        nullable.push(!ty.is_non_null());
        here = Some(ty);
    }
    Some(nullable)
}

fn is_present(data: &Value, path: &[PathSegment]) -> bool {
    let mut here = data;
    for segment in path {
        let next = match (segment, here) {
            (PathSegment::Field(key), Value::Object(map)) => map.get(key.as_str()),
            (PathSegment::Index(at), Value::List(items)) => items.get(*at),
            _ => None,
        };
        let Some(next) = next else { return false };
        here = next;
    }
    *here != Value::Null
}

/// Sets a value to null. With `restore`, an object that the library made null because all its fields failed
/// becomes an object again.
fn set_null(data: &mut Value, path: &[PathSegment], restore: bool) {
    let mut here = data;
    for (n, segment) in path.iter().enumerate() {
        let last = n + 1 == path.len();
        here = match segment {
            PathSegment::Field(key) => {
                if restore && *here == Value::Null {
                    *here = Value::Object(Default::default());
                }
                let Value::Object(map) = here else { return };
                map.entry(Name::new(key)).or_insert(Value::Null)
            }
            PathSegment::Index(at) => {
                // A list that failed as a whole is not restored.
                let Value::List(items) = here else { return };
                let Some(item) = items.get_mut(*at) else { return };
                item
            }
        };
        if last {
            *here = Value::Null;
        }
    }
}
