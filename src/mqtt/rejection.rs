//! Why a message is rejected. The spellings are stable: a metric counts by them, and admins read them with the rejected
//! messages whose home is known. An answer to a command or a version that was never sent is only counted.

use crate::text_enum::text_enum;

/// Bytes of a rejected message's payload that are kept for the admins of the home.
pub const REJECTED_PREVIEW_BYTES: usize = 512;

text_enum! {
    /// The reason for which a message is rejected.
    pub enum Rejection {
        /// The topic breaks the grammar, see [`super::topic`].
        BadTopic = "BAD_TOPIC",
        /// No home has this id or key.
        UnknownHome = "UNKNOWN_HOME",
        /// The home has no such device. A device of another home gives the same reason.
        UnknownDevice = "UNKNOWN_DEVICE",
        /// The answer names a command or a configuration that was never sent to this device.
        UnknownCommand = "UNKNOWN_COMMAND",
        /// The payload is larger than [`super::payload::MAX_PAYLOAD_BYTES`].
        TooLarge = "TOO_LARGE",
        NotUtf8 = "NOT_UTF8",
        BadJson = "BAD_JSON",
        /// The payload is JSON, but not of the form that its kind of message has.
        BadShape = "BAD_SHAPE",
        /// An object has a key twice, so its meaning is ambiguous.
        DuplicateKey = "DUPLICATE_KEY",
        /// The broker retained the message from before: it says nothing about the present.
        Retained = "RETAINED",
        /// The device exceeds its rate limit.
        RateLimited = "RATE_LIMITED",
        /// The device has stored as much as it may on this day.
        DailyLimit = "DAILY_LIMIT",
        /// The database refuses this message at every attempt.
        NotStorable = "NOT_STORABLE",
    }
}
