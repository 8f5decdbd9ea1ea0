//! A connection that inserts rows by COPY. PostgreSQL inserts them page by page then, for less than half of what an INSERT
//! costs, but neither skips a row that exists nor returns the new ids. Diesel's connection has no COPY, so this one
//! speaks to the driver.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::SinkExt;
use serde_json::Value;
use tokio_postgres::types::{FromSqlOwned, ToSql};
use tokio_postgres::{Client, CopyInSink, Statement};

use super::connection::{ConnectError, open_in_background};
use super::statement::numbered;
use crate::settings::DatabaseSettings;

/// Values of parameters.
pub(super) type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Statements are prepared when the connection opens. Then those of several futures that are polled in turn, as by
/// `futures_util::join!`, are sent in that order without waiting for each other.
pub struct CopyConnection {
    client: Client,
    prepared: HashMap<&'static str, Statement>,
}

/// Why a statement failed.
pub type CopyError = tokio_postgres::Error;

impl CopyConnection {
    /// Opens a connection and prepares the statements, whose texts name parameters as in [`super::statement!`]. Each parameter
    /// is given the number of its first place. The database cancels statements that take longer than `timeout`.
    pub async fn open(
        settings: &DatabaseSettings,
        timeout: Duration,
        statements: &[&'static str],
    ) -> Result<Self, ConnectError> {
        let client = open_in_background(settings.url.reveal(), timeout).await?;
        let mut prepared = HashMap::new();
        for text in statements {
            prepared.insert(*text, client.prepare(&numbered(text).0).await?);
        }
        Ok(Self { client, prepared })
    }

    /// # Panics
    ///
    /// When the statement was not given to [`CopyConnection::open`].
    fn prepared(&self, text: &'static str) -> &Statement {
        &self.prepared[text]
    }

    pub async fn execute(&self, text: &'static str, values: Values<'_>) -> Result<u64, CopyError> {
        self.client.execute(self.prepared(text), values).await
    }

    /// The first column of the only row.
    pub async fn value<T: FromSqlOwned>(&self, text: &'static str, values: Values<'_>) -> Result<T, CopyError> {
        self.client.query_one(self.prepared(text), values).await?.try_get(0)
    }

    /// Starts a COPY from the client. It fails if it is dropped.
    pub async fn begin_copy(&self, text: &'static str) -> Result<Copy, CopyError> {
        self.client.copy_in(self.prepared(text)).await.map(|sink| Copy(Box::pin(sink)))
    }
}

/// A COPY that waits for its rows.
pub struct Copy(std::pin::Pin<Box<CopyInSink<Bytes>>>);

impl Copy {
    /// Sends the rows; returns their number.
    pub async fn finish(mut self, rows: Rows) -> Result<u64, CopyError> {
        self.0.feed(rows.finish()).await?;
        self.0.as_mut().finish().await
    }
}

/// Rows in the binary format of COPY ("Binary Format" in the manual's page on COPY): integers are big-endian, and a field is its
/// length in bytes and then its value.
pub struct Rows(Vec<u8>);

impl Rows {
    pub fn with_capacity(bytes: usize) -> Self {
        let mut rows = Vec::with_capacity(bytes);
        rows.extend_from_slice(b"PGCOPY\n\xff\r\n\0");
        // No flags, no extension of the header.
        rows.extend_from_slice(&[0; 8]);
        Self(rows)
    }

    /// Begins a row. As many fields must follow.
    pub fn begin_row(&mut self, n_fields: i16) {
        self.0.extend_from_slice(&n_fields.to_be_bytes());
    }

    /// Appends a field to the row.
    pub fn push(&mut self, field: impl Field) {
        field.append_to(&mut self.0);
    }

    fn finish(mut self) -> Bytes {
        self.0.extend_from_slice(&(-1_i16).to_be_bytes());
        self.0.into()
    }
}

/// A value that knows its binary format.
pub trait Field {
    /// Appends the length and the value.
    fn append_to(self, out: &mut Vec<u8>);
}

impl<T: Field> Field for Option<T> {
    fn append_to(self, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.append_to(out),
            None => out.extend_from_slice(&(-1_i32).to_be_bytes()),
        }
    }
}

impl Field for i64 {
    fn append_to(self, out: &mut Vec<u8>) {
        put_eight(out, self.to_be_bytes());
    }
}

impl Field for f64 {
    fn append_to(self, out: &mut Vec<u8>) {
        put_eight(out, self.to_be_bytes());
    }
}

impl Field for bool {
    fn append_to(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 0, 0, 1, self.into()]);
    }
}

/// Seconds from 1970 to 2000, where PostgreSQL's time begins.
const EPOCH: i64 = 946_684_800;

impl Field for DateTime<Utc> {
    fn append_to(self, out: &mut Vec<u8>) {
        (self.timestamp_micros() - EPOCH * 1_000_000).append_to(out);
    }
}

impl Field for &str {
    fn append_to(self, out: &mut Vec<u8>) {
        put_sized(out, |out| out.extend_from_slice(self.as_bytes()));
    }
}

/// A `jsonb`: the version of its format, then the text.
impl Field for &Value {
    fn append_to(self, out: &mut Vec<u8>) {
        put_sized(out, |out| {
            out.push(1);
            serde_json::to_writer(out, self).expect("a JSON value can be written to memory");
        });
    }
}

/// Appends a value of eight bytes, at once with its length.
fn put_eight(out: &mut Vec<u8>, value: [u8; 8]) {
    let mut field = [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    field[4..].copy_from_slice(&value);
    out.extend_from_slice(&field);
}

/// Appends a value whose length is known afterwards.
fn put_sized(out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    put(out);
    let n = i32::try_from(out.len() - start - 4).expect("a message is far smaller than 2 GiB");
    out[start..start + 4].copy_from_slice(&n.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_its_length_and_its_value() {
        let mut out = Vec::new();
        Some("ab").append_to(&mut out);
        None::<i64>.append_to(&mut out);
        true.append_to(&mut out);
        "2000-01-01T00:00:01Z".parse::<DateTime<Utc>>().unwrap().append_to(&mut out);
        (&serde_json::json!({"a": 1})).append_to(&mut out);
        let expected = [
            &b"\0\0\0\x02ab"[..],
            b"\xff\xff\xff\xff",
            b"\0\0\0\x01\x01",
            b"\0\0\0\x08\0\0\0\0\0\x0f\x42\x40",
            b"\0\0\0\x08\x01{\"a\":1}",
        ];
        assert_eq!(out, expected.concat());
    }
}
