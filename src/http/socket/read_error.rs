//! Classifies failed reads and writes. axum hides tungstenite's error behind its own, so it is downcast; the direct
//! dependency on tungstenite must have the version that axum uses, or every error counts as broken frames. A test
//! for each class drives a real socket.

use std::io;

use tungstenite::error::{CapacityError, Error, ProtocolError};

use super::close::{Close, CloseReason};

/// Whether a write failed because the client reads too slowly.
pub(super) fn is_timeout(error: axum::Error) -> bool {
    let error = error.into_inner();
    matches!(error.downcast_ref(), Some(Error::Io(error)) if error.kind() == io::ErrorKind::TimedOut)
}

/// Whether the client sent too much, broke the protocol, or is gone.
pub(super) fn close_reason(error: axum::Error) -> CloseReason {
    match error.into_inner().downcast_ref::<Error>() {
        Some(Error::Capacity(CapacityError::MessageTooLong { .. })) => Close::TOO_BIG.into(),
        Some(
            Error::Io(_)
            | Error::ConnectionClosed
            | Error::AlreadyClosed
            | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake),
        ) => CloseReason::Disconnected,
        _ => Close::BROKEN_FRAMES.into(),
    }
}
