//! A JSON value kept as text and parsed when it is needed.

use std::io::Write;

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::serialize::{self, IsNull, Output, ToSql};
use diesel::sql_types::{Json, Jsonb};
use serde::Serialize;
use serde_json::Value;

/// Approximate memory of a parsed value besides its text.
const VALUE_BYTES: usize = 80;

/// Unparsed JSON. From a jsonb column it is text as PostgreSQL prints it; a json column stores the text unchanged.
#[derive(Debug, Clone, PartialEq, Eq, FromSqlRow, AsExpression)]
#[diesel(sql_type = Json)]
pub struct JsonText(Box<str>);

impl JsonText {
    /// The text of a value, with the value's order of keys. The value must be representable in JSON.
    pub fn of(value: &impl Serialize) -> Self {
        Self(serde_json::to_string(value).expect("a value of JSON").into())
    }

    /// The value. PostgreSQL stores valid JSON only.
    pub fn parse(&self) -> Value {
        serde_json::from_str(&self.0).expect("the column holds JSON")
    }

    pub fn text_bytes(&self) -> usize {
        self.0.len()
    }

    /// Approximate bytes of the parsed value: `[1,1]` takes many more than its text.
    pub fn value_bytes(&self) -> usize {
        let n_values = self.0.bytes().filter(|byte| matches!(byte, b',' | b':' | b'[' | b'{')).count();
        self.0.len() + (1 + n_values) * VALUE_BYTES
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromSql<Jsonb, Pg> for JsonText {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        match value.as_bytes() {
            // The version of the binary format, which is always 1, then the text.
            [1, text @ ..] => Ok(Self(std::str::from_utf8(text)?.into())),
            _ => Err("unknown version of the jsonb format".into()),
        }
    }
}

impl FromSql<Json, Pg> for JsonText {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        Ok(Self(std::str::from_utf8(value.as_bytes())?.into()))
    }
}

impl ToSql<Json, Pg> for JsonText {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        out.write_all(self.0.as_bytes())?;
        Ok(IsNull::No)
    }
}
