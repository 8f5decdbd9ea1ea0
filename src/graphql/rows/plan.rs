//! The plan of a selection: compiled once, then run for each row of a list.

use std::borrow::Cow;

use async_graphql::parser::types::{Selection, SelectionSet};

use super::JsonWriter;
use crate::graphql::operation::EMPTY;

/// Why writing stopped.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::graphql) enum NotWritten {
    /// A field needs more than the row has: the ordinary objects must be resolved.
    NeedsObjects,
    /// More was written than the operation or the response may hold.
    Full,
}

/// Writes the value of one field.
pub(in crate::graphql) type Write<R> = Box<dyn Fn(&R, &mut JsonWriter) -> Result<(), NotWritten> + Send + Sync>;

/// A type whose objects can be written as JSON.
pub(in crate::graphql) trait Row: Sized + 'static {
    fn type_name() -> Cow<'static, str>;

    /// How a field is written, byte for byte as the ordinary object gives it. `below` is its selection set. `None`
    /// for a field that has arguments, loads something, or can fail.
    fn writer(name: &str, below: &SelectionSet) -> Option<Write<Self>>;
}

/// The fields of a selection in their order.
pub(in crate::graphql) struct Plan<R>(Vec<PlannedField<R>>);

struct PlannedField<R> {
    /// The response key as it stands in the object, with the comma and the colon around it: `,"id":`.
    key: String,
    write: Write<R>,
}

impl<R: Row> Plan<R> {
    /// The plan of a normalised selection; `None` if one of its fields must be resolved as an object.
    pub(in crate::graphql) fn of(selection: &SelectionSet) -> Option<Self> {
        let mut fields = Vec::with_capacity(selection.items.len());
        for item in &selection.items {
            let Selection::Field(field) = &item.node else { return None };
            let field = &field.node;
            if !field.arguments.is_empty() || !field.directives.is_empty() {
                return None;
            }
            if field.response_key().node == EMPTY {
                continue;
            }
            let comma = if fields.is_empty() { "" } else { "," };
            let key = format!("{comma}\"{}\":", field.response_key().node);
            let write = match field.name.node.as_str() {
                "__typename" => type_name(),
                name => R::writer(name, &field.selection_set.node)?,
            };
            fields.push(PlannedField { key, write });
        }
        Some(Self(fields))
    }

    /// Appends one row as a JSON object.
    pub(in crate::graphql) fn write(&self, row: &R, out: &mut JsonWriter) -> Result<(), NotWritten> {
        out.raw("{");
        for field in &self.0 {
            out.raw(&field.key);
            (field.write)(row, out)?;
            if out.is_full() {
                return Err(NotWritten::Full);
            }
        }
        out.raw("}");
        Ok(())
    }

    /// Appends rows as a JSON list.
    pub(in crate::graphql) fn write_list<'a>(
        &self,
        rows: impl ExactSizeIterator<Item = &'a R>,
        out: &mut JsonWriter,
    ) -> Result<(), NotWritten> {
        out.raw("[");
        let n_rows = rows.len();
        for (n, row) in rows.enumerate() {
            if n > 0 {
                out.raw(",");
            }
            let start = out.n_bytes();
            self.write(row, out)?;
            if n == 0 {
                // The others are about as long.
                out.reserve((out.n_bytes() - start + 8).saturating_mul(n_rows));
            }
        }
        out.raw("]");
        Ok(())
    }
}

fn type_name<R: Row>() -> Write<R> {
    let name = R::type_name();
    Box::new(move |_, out| {
        out.value(&name);
        Ok(())
    })
}

/// Writes a field that every row has.
pub(in crate::graphql) fn leaf<R: 'static>(
    write: impl Fn(&R, &mut JsonWriter) + Send + Sync + 'static,
) -> Option<Write<R>> {
    Some(Box::new(move |row, out| {
        write(row, out);
        Ok(())
    }))
}

/// Writes an object that belongs to the row. The outer `None` says that the row does not have it, the inner one that
/// it is null.
pub(in crate::graphql) fn nested<R: 'static, N: Row>(
    below: &SelectionSet,
    object: impl for<'a> Fn(&'a R) -> Option<Option<&'a N>> + Send + Sync + 'static,
) -> Option<Write<R>> {
    let plan = Plan::<N>::of(below)?;
    Some(Box::new(move |row, out| match object(row) {
        Some(Some(object)) => plan.write(object, out),
        Some(None) => {
            out.raw("null");
            Ok(())
        }
        None => Err(NotWritten::NeedsObjects),
    }))
}
