//! A command as it stands, and the words of its life.

use std::str::FromStr;

use chrono::{DateTime, Utc};

use crate::db::{JsonText, MemorySize};
use crate::hub::Hub;
use crate::ids::{CommandId, DeviceId, HomeId, UserId};

/// The live stream of changed commands, by home.
pub type CommandHub = Hub<Command>;

/// One thing that a device was told to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// Its id, also on the wire.
    pub id: CommandId,
    /// Its place among the commands of its device.
    pub seq: i64,
    /// The home of the device.
    pub home: HomeId,
    /// Who is to do it.
    pub device: DeviceId,
    /// What is to be done.
    pub kind: String,
    /// Its arguments, as they were given.
    pub payload: JsonText,
    /// Who acts.
    pub source: CommandSource,
    /// What the requester joins it with.
    pub correlation_id: String,
    /// What becomes of it while it waits and a newer one comes.
    pub on_stale: OnStale,
    /// What shows that it was done: `{"field": value}` or `{"field": {"min": 1, "max": 2}}`.
    pub expect: Option<JsonText>,
    /// How far it has come.
    pub status: CommandStatus,
    /// What the device answered.
    pub result: Option<JsonText>,
    /// Why it failed or is late, for people.
    pub error: Option<String>,
    /// What showed the outcome.
    pub confirmed_by: Option<ConfirmedBy>,
    /// The newer command that ended it.
    pub superseded_by: Option<CommandId>,
    /// Who asked for it.
    pub requested_by: Option<UserId>,
    /// How long an answer may take, in seconds: after it was sent, and again after it was acknowledged.
    pub timeout_seconds: i32,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// When it was first handed to the link: it may have left since.
    pub dispatched_at: Option<DateTime<Utc>>,
    /// When the broker confirmed it.
    pub sent_at: Option<DateTime<Utc>>,
    /// When the device said that it has it.
    pub acked_at: Option<DateTime<Utc>>,
    /// When the outcome came, or nothing more was waited for.
    pub finished_at: Option<DateTime<Utc>>,
    /// After this it must not reach the device.
    pub expires_at: DateTime<Utc>,
    /// Its last visible change, by the database's clock.
    pub updated_at: DateTime<Utc>,
}

impl MemorySize for Command {
    fn text_bytes(&self) -> usize {
        let more = [&self.expect, &self.result].into_iter().flatten().map(JsonText::text_bytes).sum::<usize>();
        self.payload.text_bytes() + more + self.error.as_ref().map_or(0, String::len)
    }
}

/// The text is none of the words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of the words known here")]
pub struct WordError(String);

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal)* })*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// As the database and the API spell it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl FromStr for $name {
            type Err = WordError;

            fn from_str(text: &str) -> Result<Self, WordError> {
                Self::ALL.iter().copied().find(|word| word.as_str() == text).ok_or_else(|| WordError(text.to_owned()))
            }
        }
    )* };
}

words! {
    /// How far a command has come. It never claims more than was seen.
    CommandStatus {
        /// Stored; the broker has not confirmed it.
        Pending = "PENDING"
        /// The broker confirmed it; nothing came from the device.
        Sent = "SENT"
        /// The device has it and works on it.
        Acked = "ACKED"
        /// The device did it, or its readings show that it did.
        Succeeded = "SUCCEEDED"
        /// The device could not do it.
        Failed = "FAILED"
        /// No answer in time. A late one still counts.
        TimedOut = "TIMED_OUT"
        /// Its time passed before the broker confirmed it. An answer still counts.
        Expired = "EXPIRED"
        /// Taken back, or replaced by a newer one, before it could leave.
        Cancelled = "CANCELLED"
    }
    /// Who acts.
    CommandSource {
        /// A person.
        User = "USER"
        /// An integration.
        Integration = "INTEGRATION"
        /// A rule.
        Automation = "AUTOMATION"
        /// The server itself.
        Backend = "BACKEND"
        /// A test.
        Test = "TEST"
    }
    /// What becomes of a command that waits when a newer one of its type comes for its device.
    OnStale {
        /// It waits on, until it expires.
        Expire = "EXPIRE"
        /// The newer one ends it.
        Supersede = "SUPERSEDE"
    }
    /// What showed the outcome.
    ConfirmedBy {
        /// The device's answer.
        Ack = "ACK"
        /// The effect that was expected, in a reading or a status.
        Effect = "EFFECT"
    }
}

impl CommandStatus {
    /// Whether something is still waited for.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Sent | Self::Acked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_prints_parses() {
        for status in CommandStatus::ALL {
            assert_eq!(status.as_str().parse(), Ok(*status));
        }
        assert!("sent".parse::<CommandStatus>().is_err());
        assert_eq!(CommandStatus::ALL.iter().filter(|status| status.is_open()).count(), 3);
    }
}
