//! What the commands print.

use std::io::{self, ErrorKind, Write};

use chrono::{DateTime, SecondsFormat, Utc};

/// A time in the form of the API.
pub(super) fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// Prints to standard output. Returns whether its reader is still there: that it has closed the pipe, as `head` does, is no
/// error.
pub(super) fn print(text: &str) -> io::Result<bool> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        // The reader closed the pipe.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}
