//! Writes values exactly as serde writes the library's values.

use std::fmt::{Display, Write as _};

use async_graphql::resolver_utils::EnumType;
use chrono::{DateTime, Utc};
use serde::Serialize;

use super::super::response::MAX_RESPONSE_BYTES;
use super::super::scalars::{self, Json};
use crate::db::{JsonText, MAX_OPERATION_BYTES};

/// Spare capacity that is not worth a copy, in bytes.
const MAX_SPARE_BYTES: usize = 64 << 10;

/// Most room that is made ahead, in bytes.
const MAX_RESERVED_BYTES: usize = 64 << 10;

/// JSON that is being written.
pub(in crate::graphql) struct JsonWriter {
    bytes: Vec<u8>,
    /// Bytes of parsed JSON that the written values took.
    charged: usize,
    /// Most bytes that may be charged.
    max_charged: usize,
}

impl Default for JsonWriter {
    fn default() -> Self {
        Self::within(MAX_OPERATION_BYTES)
    }
}

impl JsonWriter {
    /// A writer for an operation with so many bytes left.
    pub(in crate::graphql) fn within(max_charged: usize) -> Self {
        Self { bytes: Vec::new(), charged: 0, max_charged }
    }

    /// Whether more was written than a response may hold, or more was charged than the operation has left. Checked at
    /// every field, so that a page of large values stops at its first rows.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() > MAX_RESPONSE_BYTES || self.charged > self.max_charged
    }

    pub(super) fn n_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Makes room for about so many bytes: a text that grows is copied again and again.
    pub(super) fn reserve(&mut self, bytes: usize) {
        self.bytes.reserve(bytes.min(MAX_RESERVED_BYTES));
    }

    /// Appends text that is JSON already.
    pub(in crate::graphql) fn raw(&mut self, json: &str) {
        self.bytes.extend_from_slice(json.as_bytes());
    }

    /// A string, a number, a boolean, or null for `None`. A float that is not finite is null.
    pub(in crate::graphql) fn value(&mut self, value: &(impl Serialize + ?Sized)) {
        serde_json::to_writer(&mut self.bytes, value).expect("a scalar is always JSON");
    }

    /// An ID: its text has no character that JSON escapes.
    pub(in crate::graphql) fn id(&mut self, id: impl Display) {
        self.plain_text(id);
    }

    /// Text without quotes, backslashes and control characters.
    fn plain_text(&mut self, text: impl Display) {
        self.bytes.push(b'"');
        write!(Utf8(&mut self.bytes), "{text}").expect("a vector grows");
        self.bytes.push(b'"');
    }

    pub(in crate::graphql) fn instant(&mut self, at: DateTime<Utc>) {
        self.bytes.push(b'"');
        scalars::push_rfc3339(at, &mut self.bytes);
        self.bytes.push(b'"');
    }

    pub(in crate::graphql) fn enumeration<E: EnumType>(&mut self, value: E) {
        let item = E::items().iter().find(|item| item.value == value);
        self.plain_text(item.expect("every value has a name").name);
    }

    /// Stored JSON. PostgreSQL prints it with spaces, and numbers as they were sent.
    pub(in crate::graphql) fn json(&mut self, text: &JsonText) {
        self.charge(text.value_bytes());
        self.value(Json::from(text).value());
    }

    /// `write` for a value, null without one.
    pub(in crate::graphql) fn optional<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        match value {
            Some(value) => write(self, value),
            None => self.raw("null"),
        }
    }

    /// Counts bytes to be charged to the operation's budget.
    pub(in crate::graphql) fn charge(&mut self, bytes: usize) {
        self.charged += bytes;
    }

    /// The bytes to be charged for what was written.
    pub(in crate::graphql) fn charged(&self) -> usize {
        self.charged
    }

    /// The JSON. A client may take long to read it, so a large one keeps no room to grow.
    pub(in crate::graphql) fn into_bytes(mut self) -> Vec<u8> {
        if self.bytes.capacity() - self.bytes.len() > MAX_SPARE_BYTES {
            self.bytes.shrink_to_fit();
        }
        self.bytes
    }
}

struct Utf8<'a>(&'a mut Vec<u8>);

impl std::fmt::Write for Utf8<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_is_full_above_its_limits() {
        let mut out = JsonWriter::within(100);
        out.charge(100);
        assert!(!out.is_full());
        out.charge(1);
        assert!(out.is_full());
        let mut out = JsonWriter::default();
        out.raw(&" ".repeat(MAX_RESPONSE_BYTES));
        assert!(!out.is_full());
        out.raw(" ");
        assert!(out.is_full());
    }
}
