//! Why a message can't be used. Stable words: admins read them, metrics count by them.

/// The reason a message was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rejection {
    /// The topic does not follow the grammar.
    BadTopic,
    /// No home goes by that name.
    UnknownHome,
    /// The home has no such device; one of another home is no different.
    UnknownDevice,
    /// An answer to a command or a configuration that this device was never sent.
    UnknownCommand,
    /// The payload is larger than [`super::payload::MAX_PAYLOAD_BYTES`].
    TooLarge,
    /// The payload is not UTF-8.
    NotUtf8,
    /// The payload is not JSON.
    BadJson,
    /// JSON, but not of the shape this kind has.
    BadShape,
    /// An object has the same key twice, so that nobody can say what was meant.
    DuplicateKey,
    /// The broker kept it from earlier: it tells nothing of now.
    Retained,
    /// The device sends faster than its limit: the message was let go.
    RateLimited,
    /// The database refuses this one message, whatever we do.
    NotStorable,
}

impl Rejection {
    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadTopic => "BAD_TOPIC",
            Self::UnknownHome => "UNKNOWN_HOME",
            Self::UnknownDevice => "UNKNOWN_DEVICE",
            Self::UnknownCommand => "UNKNOWN_COMMAND",
            Self::TooLarge => "TOO_LARGE",
            Self::NotUtf8 => "NOT_UTF8",
            Self::BadJson => "BAD_JSON",
            Self::BadShape => "BAD_SHAPE",
            Self::DuplicateKey => "DUPLICATE_KEY",
            Self::Retained => "RETAINED",
            Self::RateLimited => "RATE_LIMITED",
            Self::NotStorable => "NOT_STORABLE",
        }
    }
}
