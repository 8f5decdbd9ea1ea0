//! Complexity: the sum of weights that the library adds up before it executes an operation. A scalar
//! field weighs 1, a list as much as its items. A list without pages has an assumed length here; the
//! budget counts the real one.

use async_graphql::SchemaBuilder;

use crate::graphql::inputs::IntInput;
use crate::graphql::paging::{self, MAX_PAGE};

/// Highest complexity of an operation.
const MAX_COMPLEXITY: usize = 50_000;
/// Deepest level of fields, including introspection.
const MAX_DEPTH: usize = 15;
/// Deepest nesting of selection sets with fragments expanded, inline fragments included.
const MAX_RECURSION: usize = 32;

/// Sets the limits that the library checks while it validates an operation.
pub(in crate::graphql) fn apply<Q, M, S>(builder: SchemaBuilder<Q, M, S>) -> SchemaBuilder<Q, M, S> {
    builder.limit_depth(MAX_DEPTH).limit_complexity(MAX_COMPLEXITY).limit_recursive_depth(MAX_RECURSION)
}

/// The weight of a page of that size.
pub(in crate::graphql) fn page_complexity(first: Option<IntInput>, default: usize, child: usize) -> usize {
    1 + paging::size(first, default).unwrap_or(MAX_PAGE) * child
}

/// The weight of a list without pages that is assumed to hold so many items.
pub(in crate::graphql) fn list_complexity(items: usize, child: usize) -> usize {
    1 + items * child
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_page_size_weighs_as_much_as_the_largest_page() {
        assert_eq!(page_complexity(None, 50, 2), 101);
        assert_eq!(page_complexity(Some(IntInput::default_of(10)), 50, 2), 21);
        for wrong in [-1.0, 501.0, 2147483648.0, 1e300, 0.5, f64::NAN] {
            assert_eq!(page_complexity(Some(IntInput::given(wrong)), 50, 2), 1001);
        }
    }
}
