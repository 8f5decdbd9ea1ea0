//! A JSON value as its text: parsed only where somebody asks for it.

use std::io::Write;

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::serialize::{self, IsNull, Output, ToSql};
use diesel::sql_types::{Json, Jsonb};
use serde::Serialize;
use serde_json::Value;

/// About what a value takes in memory beside its text.
const VALUE_BYTES: usize = 80;

/// Unparsed JSON: out of a jsonb column as PostgreSQL prints it, in and out of a json column as it was
/// given.
#[derive(Debug, Clone, PartialEq, Eq, FromSqlRow, AsExpression)]
#[diesel(sql_type = Json)]
pub struct JsonText(Box<str>);

impl JsonText {
    /// The text of a value, its keys in the value's own order. The value is one that JSON can say.
    pub fn of(value: &impl Serialize) -> Self {
        Self(serde_json::to_string(value).expect("a value of JSON").into())
    }

    /// The value. PostgreSQL stores nothing that is not JSON.
    pub fn parse(&self) -> Value {
        serde_json::from_str(&self.0).expect("the column holds JSON")
    }

    /// Its bytes as text.
    pub fn text_bytes(&self) -> usize {
        self.0.len()
    }

    /// About its bytes as a value, of which `[1,1]` has many more than as text.
    pub fn value_bytes(&self) -> usize {
        let n_values = self.0.bytes().filter(|byte| matches!(byte, b',' | b':' | b'[' | b'{')).count();
        self.0.len() + (1 + n_values) * VALUE_BYTES
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromSql<Jsonb, Pg> for JsonText {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        match value.as_bytes() {
            // The one version of the binary form there is, then the text.
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
