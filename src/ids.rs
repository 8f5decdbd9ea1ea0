//! Typed ids: a home's id can't be passed as a device's. Text becomes an id by strict parsing only (`007`, `1e3`
//! and `24:6F:…` are no ids).
//!
//! Command ids and request ids contain the time of their creation. That time only orders them; what the server
//! decides by time, it decides by [`crate::clock::Clock`].

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types::{self, BigInt};
use uuid::{NoContext, Timestamp, Uuid};

/// A map by ids of rows. The database gives them out, so nobody can choose ids that collide, and a hash that is faster than the
/// standard library's is safe: ingest looks up several of them for each message.
pub type IdMap<K, V> = foldhash::HashMap<K, V>;

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
            /// The number in the database.
            pub fn get(self) -> i64 {
                self.0
            }

            /// An id from the database, where diesel does not convert it.
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
    /// A user account.
    UserId
    /// A link between a user and an identity at an external issuer.
    ExternalIdentityId
    /// A home: the unit of tenancy.
    HomeId
    InvitationId
    RoomId
    DeviceId
    /// A stored reading. Ids are in the order of commits, so they serve as cursors.
    TelemetryId
    RejectedMessageId
    /// An entry of the audit log; later ones are greater.
    AuditEntryId
}

/// A session (one sign-in and the tokens refreshed from it), or an integration's token. Contains the time at which
/// it began.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(Uuid);

impl SessionId {
    pub fn generate(now: DateTime<Utc>) -> Self {
        let seconds = u64::try_from(now.timestamp()).unwrap_or_default();
        Self(Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, now.timestamp_subsec_nanos())))
    }

    /// When it began, to the millisecond; `None` for an id of another kind.
    pub fn began(self) -> Option<DateTime<Utc>> {
        let (seconds, nanos) = self.0.get_timestamp()?.to_unix();
        DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanos)
    }

    pub fn as_uuid(self) -> Uuid {
        self.0
    }

    pub fn from_database(id: Uuid) -> Self {
        Self(id)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({})", self.0)
    }
}

impl FromStr for SessionId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let id = Uuid::try_parse(text).map_err(|_| IdError)?;
        // The library reads several spellings; one is accepted.
        if id.to_string() == text { Ok(Self(id)) } else { Err(IdError) }
    }
}

/// A command: `cmd_` and 26 characters of Crockford's base 32 (a ULID), the `commandId` of the device protocol. Later
/// ids of one server are greater.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, AsExpression, FromSqlRow)]
#[diesel(sql_type = sql_types::Uuid)]
pub struct CommandId(Uuid);

/// Crockford's alphabet, which leaves out I, L, O and U.
const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const COMMAND_PREFIX: &str = "cmd_";
/// Characters of 128 bits, five bits each.
const ULID_CHARS: usize = 26;

impl TelemetryId {
    /// Less than all others.
    pub const BEFORE_ALL: Self = Self(0);

    /// The one before, whether or not a reading has it.
    pub fn previous(self) -> Self {
        Self(self.0 - 1)
    }
}

impl CommandId {
    /// Less than all others.
    pub const FIRST: Self = Self(Uuid::nil());

    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }

    pub fn as_uuid(self) -> Uuid {
        self.0
    }
}

/// A new ULID: 26 characters, unique, increasing.
pub fn ulid() -> String {
    crockford(Uuid::now_v7())
}

fn crockford(id: Uuid) -> String {
    let bits = id.as_u128();
    let digit = |at: usize| CROCKFORD[usize::try_from(bits >> (5 * at) & 31).expect("five bits")];
    (0..ULID_CHARS).rev().map(|at| char::from(digit(at))).collect()
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{COMMAND_PREFIX}{}", crockford(self.0))
    }
}

impl fmt::Debug for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for CommandId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let digits = text.strip_prefix(COMMAND_PREFIX).filter(|digits| digits.len() == ULID_CHARS).ok_or(IdError)?;
        let mut bits: u128 = 0;
        for byte in digits.bytes() {
            let digit = CROCKFORD.iter().position(|known| *known == byte).ok_or(IdError)?;
            // The first of 26 digits has three bits only.
            bits = bits.checked_mul(32).ok_or(IdError)? | u128::try_from(digit).expect("five bits");
        }
        Ok(Self(Uuid::from_u128(bits)))
    }
}

impl ToSql<sql_types::Uuid, Pg> for CommandId {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        <Uuid as ToSql<sql_types::Uuid, Pg>>::to_sql(&self.0, out)
    }
}

impl FromSql<sql_types::Uuid, Pg> for CommandId {
    fn from_sql(bytes: PgValue<'_>) -> deserialize::Result<Self> {
        <Uuid as FromSql<sql_types::Uuid, Pg>>::from_sql(bytes).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_id_is_parsed_as_it_is_printed_and_increases() {
        let (first, second) = (CommandId::generate(), CommandId::generate());
        let text = first.to_string();
        assert_eq!((text.len(), text.parse()), (30, Ok(first)));
        assert!(first < second && text < second.to_string());
        let largest = "cmd_7ZZZZZZZZZZZZZZZZZZZZZZZZZ";
        assert_eq!(largest.parse::<CommandId>().map(|id| id.to_string()).as_deref(), Ok(largest));
        for wrong in ["test_123", "cmd_", "cmd_8ZZZZZZZZZZZZZZZZZZZZZZZZZ", &text.to_lowercase(), &text[..29]] {
            assert_eq!(wrong.parse::<CommandId>(), Err(IdError), "{wrong}");
        }
    }

    #[test]
    fn only_the_canonical_form_is_an_id() {
        assert_eq!("42".parse::<DeviceId>().map(DeviceId::get), Ok(42));
        for text in ["", "0", "007", "+7", "-7", " 7", "7 ", "1e3", "24:6F:28:AA:BB:CC", "٧", "9223372036854775808"] {
            assert_eq!(text.parse::<DeviceId>(), Err(IdError), "{text:?}");
        }
    }
}
