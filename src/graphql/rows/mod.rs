//! Objects that are written as JSON straight from their rows, without a future and a value for every field.
//!
//! `Direct` compiles the selection below a field once into a `Plan` and runs the plan for each row. The JSON
//! becomes a `Value::Binary`, which `response` copies into the response; no scalar of the schema makes one.
//!
//! A plan exists only if every selected field is pure: no argument, no loader, no error. Otherwise, and where a row
//! lacks something that a field needs, the ordinary objects are resolved and give the same bytes. So a field that
//! `Row::writer` does not know is slower, never wrong.

mod json;
mod page;
mod plan;

use std::borrow::Cow;

use async_graphql::parser::types::Field;
use async_graphql::registry::Registry;
use async_graphql::{ContextSelectionSet, OutputType, Positioned, ServerResult, Value};
use tokio::runtime::{Handle, RuntimeFlavor};

pub(super) use json::JsonWriter;
pub(super) use plan::{NotWritten, Plan, Row, Write, leaf, nested};

use super::context;

/// Request data: whether objects may be written as rows. They may if `response` writes the response and the operation
/// is normalised, as `engine` makes it.
#[derive(Debug, Clone, Copy)]
pub struct Rows(pub bool);

/// Newly loaded text from which on writing takes more than a millisecond, in bytes.
const LARGE_BYTES: usize = 256 << 10;

/// An object that is written as JSON if the selection allows it.
pub(super) struct Direct<T>(pub(super) T);

impl<T: Row + OutputType> Direct<T> {
    /// The object as JSON. JSON that became too large ends where it did: `response` refuses it, or the operation's
    /// budget does.
    fn write(&self, ctx: &ContextSelectionSet<'_>) -> Option<JsonWriter> {
        ctx.data_opt::<Rows>().filter(|rows| rows.0)?;
        let plan = Plan::<T>::of(&ctx.item.node)?;
        let mut out = JsonWriter::within(context::bytes_left(ctx));
        match run_beside(context::take_new_bytes(ctx) > LARGE_BYTES, || plan.write(&self.0, &mut out)) {
            Ok(()) | Err(NotWritten::Full) => Some(out),
            Err(NotWritten::NeedsObjects) => None,
        }
    }
}

/// Runs work. If it is large, other tasks of this worker thread continue on another thread meanwhile.
fn run_beside<T>(is_large: bool, work: impl FnOnce() -> T) -> T {
    if is_large && Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread {
        return tokio::task::block_in_place(work);
    }
    work()
}

impl<T: Row + OutputType> OutputType for Direct<T> {
    fn type_name() -> Cow<'static, str> {
        <T as OutputType>::type_name()
    }

    fn qualified_type_name() -> String {
        T::qualified_type_name()
    }

    fn introspection_type_name(&self) -> Cow<'static, str> {
        self.0.introspection_type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        T::create_type_info(registry)
    }

    async fn resolve(&self, ctx: &ContextSelectionSet<'_>, field: &Positioned<Field>) -> ServerResult<Value> {
        let Some(written) = self.write(ctx) else { return self.0.resolve(ctx, field).await };
        let charged = written.charged();
        let json = written.into_bytes();
        context::charge_row(ctx, charged, json.len()).await;
        Ok(Value::Binary(json.into()))
    }
}
