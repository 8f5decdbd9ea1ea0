//! Why a socket is closed: close codes of the subprotocols and of RFC 6455, each with a short reason.

use std::borrow::Cow;

use axum::extract::ws::CloseFrame;

use crate::error::{CredentialsError, Error};
use crate::http::request_log::ClosedSocket;

/// RFC 6455: a control frame carries 125 bytes, of which the code takes two.
const MAX_REASON_BYTES: usize = 123;

/// Why a session ends.
pub(super) enum CloseReason {
    /// The server decides to close.
    Server(Close),
    /// The client sent a close frame.
    Client,
    /// The connection is lost.
    Disconnected,
}

impl From<Close> for CloseReason {
    fn from(close: Close) -> Self {
        Self::Server(close)
    }
}

/// A close that the server decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Close {
    pub(super) code: u16,
    pub(super) reason: Cow<'static, str>,
    /// The `reason` of `smarthome_sockets_closed`.
    pub(super) counted: &'static str,
}

/// Declares the closes whose reason is always the same, each with what a client does then.
macro_rules! closes {
    ($($(#[$meta:meta])* $name:ident = $code:literal, $reason:literal, $counted:literal => $advice:expr;)*) => {
        impl Close {
            $(
                $(#[$meta])*
                pub(super) const $name: Self =
                    Self { code: $code, reason: Cow::Borrowed($reason), counted: $counted };
            )*

            fn with_fixed_reasons() -> Vec<(Self, &'static str)> {
                vec![$((Self::$name, $advice)),*]
            }
        }
    };
}

const FAULT: &str = "do not connect again: a fault of the client";
const LATER: &str = "connect again after a pause that grows";
const FEWER: &str = "close another socket, or send less";
const SIGN_IN: &str = "send a token under a known key, or sign in";

closes! {
    NORMAL = 1000, "", "CLIENT" => "the client has ended it";
    GOING_AWAY = 1001, "the server is stopping", "SHUTDOWN" => LATER;
    NO_PONG = 1001, "no answer to a ping", "NO_PONG" => "connect again";
    BROKEN_FRAMES = 1002, "the frames are broken", "BROKEN" => FAULT;
    TOO_BIG = 1009, "the message is larger than the server takes", "TOO_BIG" => "send less at a time";
    /// "Try again later" in the registry of RFC 6455, and clients do.
    UNAVAILABLE = 1013, "temporarily unavailable, try again", "UNAVAILABLE" => LATER;
    /// Not 4429: other clients of the same address may have used up the limit.
    RATE_LIMITED = 1013, "too many requests, try again later", "RATE_LIMITED" => LATER;
    UNAUTHORIZED = 4401, "Unauthorized", "UNAUTHORIZED" => "send `connection_init` first";
    /// Not 4408: clients would take it for a network problem and reconnect at once.
    ANONYMOUS = 4401, "Unauthorized: idle without a token", "ANONYMOUS" => SIGN_IN;
    UNKNOWN_KEYS = 4401, "Unauthorized: connection_init needs the token under the key Authorization, authorization or token",
        "UNAUTHORIZED" => SIGN_IN;
    FORBIDDEN = 4403, "Forbidden: invalid access token", "FORBIDDEN" => "refresh the token, connect again with the new one";
    EXPIRED = 4403, "Forbidden: the access token has expired", "EXPIRED" =>
        "refresh the token, connect again with the new one; to stay connected, send it in a `ping` before";
    REVOKED = 4403, "Forbidden: the session has ended", "REVOKED" => "sign in again";
    INIT_TIMEOUT = 4408, "Connection initialisation timeout", "INIT_TIMEOUT" =>
        "connect again, and send `connection_init` at once";
    SECOND_INIT = 4429, "Too many initialisation requests", "SECOND_INIT" => FAULT;
    /// Clients take 4429 as final. One that reconnected at once would be refused again.
    TOO_MANY_SOCKETS = 4429, "Too many open sockets", "TOO_MANY_SOCKETS" => FEWER;
    TOO_MANY_MESSAGES = 4429, "Too many messages", "TOO_MANY_MESSAGES" => FEWER;
}

impl Close {
    /// Every code and reason with which the server closes, and what a client does then.
    pub(super) fn all() -> Vec<(Self, &'static str)> {
        let mut all = Self::with_fixed_reasons();
        all.extend([(Self::invalid("Invalid message: …"), FAULT), (Self::duplicate("…"), FAULT)]);
        all.sort_by_key(|(close, _)| close.code);
        all
    }

    /// The token is invalid or can't be checked now.
    pub(super) fn auth_error(error: &Error) -> Self {
        match error {
            Error::Unauthenticated(CredentialsError::TokenExpired, _) => Self::EXPIRED,
            Error::Unauthenticated(..) => Self::FORBIDDEN,
            Error::TooSoon { .. } => Self::RATE_LIMITED,
            _ => Self::UNAVAILABLE,
        }
    }

    /// Whether the client's token is missing or refused.
    pub(super) fn is_of_credentials(&self) -> bool {
        [Self::UNAUTHORIZED.code, Self::FORBIDDEN.code].contains(&self.code)
    }

    /// The message violates the protocol.
    pub(super) fn invalid(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { code: 4400, reason: reason.into(), counted: "INVALID_MESSAGE" }
    }

    pub(super) fn duplicate(id: &str) -> Self {
        Self { code: 4409, reason: format!("Subscriber for {id} already exists").into(), counted: "DUPLICATE_ID" }
    }

    /// What is logged of it.
    pub(super) fn logged(&self) -> ClosedSocket {
        let detail = match self.reason {
            Cow::Borrowed(text) => Some(text),
            // It may quote the client's message.
            Cow::Owned(_) => None,
        };
        // The client ends the connection, or the server does.
        let is_refusal = ![Self::NORMAL.counted, Self::GOING_AWAY.counted].contains(&self.counted);
        ClosedSocket { close_code: self.code, reason: self.counted, detail, is_refusal }
    }

    /// The client reads too slowly: no close frame can be sent, and the connection ends abnormally.
    pub(super) fn slow_reader() -> ClosedSocket {
        let detail = Some("the client reads too slowly");
        ClosedSocket { close_code: 1006, reason: super::SLOW_READER, detail, is_refusal: true }
    }

    pub(super) fn frame(&self) -> CloseFrame {
        let end = self.reason.floor_char_boundary(MAX_REASON_BYTES);
        CloseFrame { code: self.code, reason: self.reason[..end].into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_always_fits_its_frame() {
        let frame = Close::duplicate(&"ä".repeat(100)).frame();
        assert_eq!(frame.code, 4409);
        assert!((120..=123).contains(&frame.reason.len()));
    }
}
