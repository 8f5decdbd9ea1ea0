//! The order of keys in a response: the order of the selection (GraphQL specification, section 7.2.2).
//!
//! The library resolves the root fields of a query concurrently and writes them as they end. Objects below are `serial`
//! and have the order already, except where null propagation has set a field again.

use async_graphql::Value;
use async_graphql::indexmap::IndexMap;

use super::operation::{EMPTY, Selected};

/// Orders the keys of one object.
pub(super) fn order(data: &mut Value, selected: &[Selected]) {
    let Value::Object(fields) = data else { return };
    let is_ordered = fields.keys().zip(selected).all(|(key, field)| key.as_str() == field.key());
    if !is_ordered {
        fields.sort_by_cached_key(|key, _| selected.iter().position(|field| field.key() == key.as_str()));
    }
}

/// Orders the keys of all objects.
pub(super) fn order_all(data: &mut Value, selected: &[Selected]) {
    order(data, selected);
    match data {
        Value::Object(fields) => {
            for field in selected {
                if let Some(value) = fields.get_mut(field.key()) {
                    order_all(value, &field.below);
                }
            }
        }
        Value::List(items) => items.iter_mut().for_each(|item| order_all(item, selected)),
        _ => {}
    }
}

/// Removes the field that stands for an empty selection set.
pub(super) fn remove_placeholders(data: &mut Value) {
    match data {
        Value::Object(fields) => {
            fields.shift_remove(EMPTY);
            fields.values_mut().for_each(remove_placeholders);
        }
        Value::List(items) => items.iter_mut().for_each(remove_placeholders),
        _ => {}
    }
}

/// The response of an operation that selects nothing.
pub(super) fn nothing() -> Value {
    Value::Object(IndexMap::new())
}
