//! A command and the values of its fields.

use chrono::{DateTime, Utc};

use crate::db::{JsonText, MemorySize};
use crate::hub::Hub;
use crate::ids::{CommandId, DeviceId, HomeId, UserId};
use crate::text_enum::text_enum;

/// The live stream of changed commands, by home.
pub type CommandHub = Hub<Command>;

/// An instruction to a device.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    pub id: CommandId,
    /// Orders the commands of a device.
    pub seq: i64,
    pub home: HomeId,
    pub device: DeviceId,
    /// The `type` of the device protocol, such as `SET_POWER`.
    pub kind: String,
    /// The arguments, as the client spelled them.
    pub payload: JsonText,
    pub source: CommandSource,
    /// Relates the command to something of the requester's own.
    pub correlation_id: String,
    pub on_stale: OnStale,
    /// The effect that confirms it: `{"field": value}` or `{"field": {"min": 1, "max": 2}}`.
    pub expect: Option<JsonText>,
    pub status: CommandStatus,
    /// What the device returned.
    pub result: Option<JsonText>,
    /// Why it failed or is late, for people.
    pub error: Option<String>,
    pub confirmed_by: Option<ConfirmedBy>,
    /// The newer command that replaced it.
    pub superseded_by: Option<CommandId>,
    pub requested_by: Option<UserId>,
    /// Longest wait for an answer, in seconds: after it was sent, and again after it was acknowledged.
    pub timeout_seconds: i32,
    pub created_at: DateTime<Utc>,
    /// First given to the MQTT client: the device may have it since. Null again if the broker reports that the
    /// device can't have it.
    pub dispatched_at: Option<DateTime<Utc>>,
    /// When the broker acknowledged it.
    pub sent_at: Option<DateTime<Utc>>,
    /// When the device acknowledged it.
    pub acked_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
    /// The command must not reach the device after this time.
    pub expires_at: DateTime<Utc>,
    /// The last visible change, by the database's clock.
    pub updated_at: DateTime<Utc>,
}

impl MemorySize for Command {
    fn text_bytes(&self) -> usize {
        let more = [&self.expect, &self.result].into_iter().flatten().map(JsonText::text_bytes).sum::<usize>();
        self.payload.text_bytes() + more + self.error.as_ref().map_or(0, String::len)
    }
}

text_enum! {
    /// The progress of a command. Each status states only what the server has observed; `transitions.rs` has the
    /// table of changes.
    pub enum CommandStatus {
        /// Stored. The broker has not confirmed it.
        Pending = "PENDING",
        /// The broker confirmed it. The device has not answered.
        Sent = "SENT",
        /// The device has received it and works on it.
        Acked = "ACKED",
        /// The device reported success, or its readings show the expected effect.
        Succeeded = "SUCCEEDED",
        /// The device reported failure.
        Failed = "FAILED",
        /// No answer in time. A late answer still counts.
        TimedOut = "TIMED_OUT",
        /// It expired before the broker confirmed it. A late answer still counts.
        Expired = "EXPIRED",
        /// Cancelled, or replaced by a newer command, before the device could receive it.
        Cancelled = "CANCELLED",
    }

    /// Where a command comes from.
    pub enum CommandSource {
        User = "USER",
        Integration = "INTEGRATION",
        Automation = "AUTOMATION",
        /// The server itself.
        Backend = "BACKEND",
        Test = "TEST",
    }

    /// What happens to a pending command when a newer one of its type is sent to its device.
    pub enum OnStale {
        /// It stays pending until it expires.
        Expire = "EXPIRE",
        /// The newer command replaces it.
        Supersede = "SUPERSEDE",
    }

    /// What confirmed the outcome.
    pub enum ConfirmedBy {
        /// An answer of the device.
        Ack = "ACK",
        /// The expected effect, in a reading or a status message.
        Effect = "EFFECT",
    }
}

impl CommandStatus {
    /// The open statuses; all others are final.
    pub const OPEN: [Self; 3] = [Self::Pending, Self::Sent, Self::Acked];

    pub fn is_open(self) -> bool {
        Self::OPEN.contains(&self)
    }
}
