//! What the selection below a field needs: a resolver reads no more than that from the database. Operations are
//! normalised, so a selection has fields only; one with a fragment is not known.

use async_graphql::Positioned;
use async_graphql::parser::types::{Field, Selection, SelectionSet};

/// Whether `check` holds for all selected fields.
pub(super) fn all_fields<'a>(
    selection: &'a Positioned<SelectionSet>,
    mut check: impl FnMut(&'a Field) -> bool,
) -> bool {
    selection.node.items.iter().all(|item| match &item.node {
        Selection::Field(field) => check(&field.node),
        Selection::FragmentSpread(_) | Selection::InlineFragment(_) => false,
    })
}

/// Whether only fields with these names are selected.
pub(super) fn has_only(selection: &Positioned<SelectionSet>, names: &[&str]) -> bool {
    all_fields(selection, |field| names.contains(&field.name.node.as_str()))
}
