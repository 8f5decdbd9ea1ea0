//! The counters of messages in `/metrics`, and the law that holds between them.

use std::fmt::{self, Display, Formatter};
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};

use crate::client::Http;
use crate::stats::thousands_of;

/// Messages so far.
pub(crate) struct Counters {
    pub(crate) received: u64,
    pub(crate) stored: u64,
    duplicate: u64,
    rejected: u64,
    connection_errors: u64,
}

impl Counters {
    pub(crate) fn of(addr: SocketAddr) -> Result<Self> {
        let request = b"GET /metrics HTTP/1.1\r\nhost: bench\r\n\r\n";
        let mut http = Http::connect(addr)?;
        let (status, body) = http.exchange(request).context("read /metrics")?;
        ensure!(status == 200, "/metrics answered {status}");
        let text = std::str::from_utf8(body)?;
        Ok(Self {
            received: sum(text, "smarthome_mqtt_messages_received_total"),
            stored: sum(text, "smarthome_mqtt_messages_stored_total"),
            duplicate: sum(text, "smarthome_mqtt_messages_duplicate_total"),
            rejected: sum(text, "smarthome_mqtt_messages_rejected_total"),
            connection_errors: sum(text, "smarthome_mqtt_connection_errors_total"),
        })
    }

    pub(crate) fn since(&self, earlier: &Self) -> Self {
        Self {
            received: self.received - earlier.received,
            stored: self.stored - earlier.stored,
            duplicate: self.duplicate - earlier.duplicate,
            rejected: self.rejected - earlier.rejected,
            connection_errors: self.connection_errors - earlier.connection_errors,
        }
    }

    /// Every message that was received has one outcome.
    pub(crate) fn is_conserved(&self) -> bool {
        self.received == self.stored + self.duplicate + self.rejected
    }
}

impl Display for Counters {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let [received, stored, duplicate, rejected] =
            [self.received, self.stored, self.duplicate, self.rejected].map(thousands_of);
        write!(f, "received {received}, stored {stored}, duplicate {duplicate}, rejected {rejected}")?;
        match self.connection_errors {
            0 => Ok(()),
            errors => write!(f, ", lost connections {errors}"),
        }
    }
}

/// The sum of a counter over its labels.
fn sum(text: &str, name: &str) -> u64 {
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        rest.starts_with([' ', '{']).then(|| rest.rsplit(' ').next()?.parse::<u64>().ok())?
    });
    values.sum()
}
