//! A json or jsonb value as the text PostgreSQL sent: parsed only where somebody asks for it.

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::pg::{Pg, PgValue};
use diesel::sql_types::{Json, Jsonb};
use serde_json::Value;

/// Unparsed JSON out of a json or jsonb column.
#[derive(Debug, Clone, PartialEq, Eq, FromSqlRow)]
pub struct JsonText(Box<str>);

impl JsonText {
    /// The value. PostgreSQL stores nothing there that is not JSON.
    pub fn parse(&self) -> Value {
        serde_json::from_str(&self.0).expect("PostgreSQL checked it")
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
