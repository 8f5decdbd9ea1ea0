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

/// Removes the fields that stand for empty selection sets. Values of JSON scalars may have such a key of their own.
pub(super) fn remove_placeholders(data: &mut Value, selected: &[Selected]) {
    match data {
        Value::Object(fields) => {
            for field in selected.iter().filter(|field| field.is_object) {
                if let Some(value) = fields.get_mut(field.key()) {
                    remove_below(value, &field.below);
                }
            }
        }
        Value::List(items) => items.iter_mut().for_each(|item| remove_placeholders(item, selected)),
        _ => {}
    }
}

fn remove_below(value: &mut Value, below: &[Selected]) {
    match value {
        Value::Object(fields) if below.is_empty() => drop(fields.shift_remove(EMPTY)),
        Value::List(items) if below.is_empty() => items.iter_mut().for_each(|item| remove_below(item, below)),
        value => remove_placeholders(value, below),
    }
}

/// The response of an operation that selects nothing.
pub(super) fn nothing() -> Value {
    Value::Object(IndexMap::new())
}
