//! Typed ids: a home's id can't be given where a device's is wanted, and text becomes an id by
//! strict parsing only (`007`, `1e3`, `24:6F:…` are never ids).

use std::fmt;
use std::str::FromStr;

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types::BigInt;

/// The text is not the one canonical form of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id: expected a positive decimal number")]
pub struct IdError;

/// A positive `i64` in its only canonical decimal form.
fn parse(text: &str) -> Result<i64, IdError> {
    let canonical = !text.is_empty() && !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit());
    if !canonical {
        return Err(IdError);
    }
    text.parse().map_err(|_| IdError)
}

macro_rules! id {
    ($($(#[$doc:meta])* $name:ident)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, AsExpression, FromSqlRow, serde::Serialize)]
        #[diesel(sql_type = BigInt)]
        #[serde(transparent)]
        pub struct $name(i64);

        impl $name {
            /// The number as the database knows it.
            pub fn get(self) -> i64 {
                self.0
            }

            /// An id that came out of the database by a road diesel does not type.
            pub fn from_database(id: i64) -> Self {
                Self(id)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse(text).map(Self)
            }
        }

        impl ToSql<BigInt, Pg> for $name {
            fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
                <i64 as ToSql<BigInt, Pg>>::to_sql(&self.0, out)
            }
        }

        impl FromSql<BigInt, Pg> for $name {
            fn from_sql(bytes: PgValue<'_>) -> deserialize::Result<Self> {
                <i64 as FromSql<BigInt, Pg>>::from_sql(bytes).map(Self)
            }
        }
    )* };
}

id! {
    /// A person who can sign in.
    UserId
    /// A home: the unit of tenancy.
    HomeId
    /// A room of a home.
    RoomId
    /// A registered device.
    DeviceId
    /// One telemetry message; an opaque cursor whose order is the order of commits.
    TelemetryId
    /// One rejected message.
    RejectedMessageId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_form_is_an_id() {
        assert_eq!("42".parse::<DeviceId>().map(DeviceId::get), Ok(42));
        for text in ["", "0", "007", "+7", "-7", " 7", "7 ", "1e3", "24:6F:28:AA:BB:CC", "٧", "9223372036854775808"] {
            assert_eq!(text.parse::<DeviceId>(), Err(IdError), "{text:?}");
        }
    }
}
