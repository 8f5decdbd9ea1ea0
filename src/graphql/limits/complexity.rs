//! Complexity: the number of fields that a response may have, added up before the operation runs. A scalar weighs 1, an
//! object as much as its fields and 1, a list as much as its items. A page has the length that `first` asks for; a list
//! without pages has an assumed length here, and the budget counts the real one.

use apollo_compiler::ast::{FieldDefinition, Value as Literal};
use async_graphql::Value;

use crate::graphql::paging::MAX_PAGE;
use crate::graphql::request_error::RequestError;

/// Highest complexity of an operation.
const MAX_COMPLEXITY: usize = 50_000;
/// Operations above this complexity may take much memory.
pub(in crate::graphql) const LARGE: usize = 100;
/// Assumed length of a list without pages.
const ASSUMED_ITEMS: usize = 10;
/// Assumed lengths of lists that are usually longer.
const LONGER_LISTS: [(&str, &str, usize); 2] = [("Room", "devices", 20), ("Mutation", "registerDevices", 50)];

/// How often the fields below a field appear in the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::graphql) enum Items {
    One,
    /// As many as the argument `first` says.
    Page {
        default: usize,
    },
    List(usize),
}

impl Items {
    pub(in crate::graphql) fn of(parent: &str, field: &FieldDefinition) -> Self {
        if let Some(first) = field.argument_by_name("first") {
            let default = first.default_value.as_ref().and_then(|value| match &**value {
                Literal::Int(int) => int.as_str().parse().ok(),
                _ => None,
            });
            return Self::Page { default: default.unwrap_or(MAX_PAGE) };
        }
        // The lists of a page were multiplied at the page. Lists of introspection are bounded by the schema.
        if !field.ty.is_list() || parent.ends_with("Connection") || parent.starts_with("__") {
            return Self::One;
        }
        let longer = LONGER_LISTS.iter().find(|(on, name, _)| *on == parent && field.name == *name);
        Self::List(longer.map_or(ASSUMED_ITEMS, |(_, _, items)| *items))
    }

    /// The complexity of a field whose selection has the complexity `below`. `first` is the argument, if there is one.
    pub(in crate::graphql) fn complexity(self, first: impl FnOnce() -> Option<Value>, below: usize) -> usize {
        let n_items = match self {
            Self::One => 1,
            Self::List(items) => items,
            Self::Page { default } => match first() {
                None | Some(Value::Null) => default,
                Some(Value::Number(number)) => {
                    // A page that the resolver will refuse counts as the largest one.
                    number.as_u64().and_then(|n| usize::try_from(n).ok()).map_or(MAX_PAGE, |n| n.min(MAX_PAGE))
                }
                Some(_) => MAX_PAGE,
            },
        };
        below.saturating_mul(n_items).saturating_add(1)
    }
}

/// Refuses an operation that exceeds the limit.
pub(in crate::graphql) fn check(complexity: usize) -> Result<(), RequestError> {
    if complexity <= MAX_COMPLEXITY {
        return Ok(());
    }
    Err(RequestError::too_complex(format!(
        "the response may have {complexity} fields, but at most {MAX_COMPLEXITY} are allowed: ask for smaller pages \
         (`first`) or select less inside lists"
    )))
}

#[cfg(test)]
mod tests {
    use apollo_compiler::Schema;

    use super::*;

    #[test]
    fn a_list_weighs_as_much_as_its_items() {
        let sdl = "type Query { page(first: Int = 50): [Int!]! list: [Query!]! one: Query }
            type Room { devices: [Query!]! } type PageConnection { nodes: [Query!]! }";
        let schema = Schema::parse_and_validate(sdl, "schema").unwrap();
        let items = |on: &str, name: &str| Items::of(on, schema.type_field(on, name).unwrap());
        let page = items("Query", "page");
        assert_eq!(page, Items::Page { default: 50 });
        for (first, expected) in [
            (None, 101),
            (Some(Value::Null), 101),
            (Some(10.into()), 21),
            (Some((-1).into()), 1001),
            (Some(501.into()), 1001),
        ] {
            assert_eq!(page.complexity(|| first, 2), expected);
        }
        assert_eq!(items("Query", "list").complexity(|| None, 2), 21);
        assert_eq!(items("Room", "devices").complexity(|| None, 2), 41);
        assert_eq!(items("PageConnection", "nodes").complexity(|| None, 2), 3);
        assert_eq!(items("Query", "one").complexity(|| None, 2), 3);
        assert!(check(MAX_COMPLEXITY).is_ok() && check(MAX_COMPLEXITY + 1).is_err());
    }
}
