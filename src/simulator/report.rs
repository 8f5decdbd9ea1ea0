//! The counters of a fleet.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident)*) => {
        /// The counters of a running fleet.
        #[derive(Default)]
        pub(crate) struct Counters { $(pub(crate) $name: AtomicU64,)* }

        /// The counters of a fleet at one moment.
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct Report {
            $($(#[$doc])* pub $name: u64,)*
            /// Time since the fleet's start.
            pub elapsed: Duration,
        }

        impl Counters {
            pub(crate) fn report(&self, started: Instant) -> Report {
                Report { $($name: self.$name.load(Ordering::Relaxed),)* elapsed: started.elapsed() }
            }
        }
    };
}

counters! {
    /// Telemetry messages measured, each counted once.
    telemetry
    /// Status and heartbeat messages.
    other
    /// Telemetry messages that the broker confirmed, each counted once.
    confirmed
    /// Messages that the broker refused with a reason code (not authorised, quota).
    refused
    /// Messages sent again because the connection broke before their confirmation.
    resent
    /// Readings that a fault lost before they were sent.
    lost
    /// Messages that a fault sent twice.
    duplicated
    /// Readings skipped because too many messages waited for confirmation.
    skipped
    /// Connections made.
    connects
    /// Connections that failed or broke.
    disconnects
    /// Commands received.
    commands
    /// Commands received for the first time, by id.
    command_ids
    /// Commands received again with the same id: QoS 1 may deliver twice.
    repeated
    /// Commands received after their `expiresAt`, repeats included.
    late
    /// Payloads that are not commands; they have no answer.
    unreadable
    /// Configurations received.
    configs
    /// Answers sent: `ack` messages, or statuses that show an effect.
    answers
    /// Answers dropped because too many were delayed or waited for confirmation.
    dropped_answers
}

pub(crate) fn count(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

impl fmt::Display for Report {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.elapsed.as_secs_f64();
        let rate = self.confirmed as f64 / seconds.max(0.001);
        writeln!(
            f,
            "{} telemetry messages, {} confirmed in {seconds:.1} s: {rate:.0}/s",
            self.telemetry, self.confirmed
        )?;
        writeln!(
            f,
            "{} status and heartbeat messages, {} refused, {} sent again after a broken connection, {} skipped",
            self.other, self.refused, self.resent, self.skipped
        )?;
        writeln!(f, "faults: {} lost, {} duplicated", self.lost, self.duplicated)?;
        writeln!(
            f,
            "commands: {} received with {} ids, {} repeated, {} late, {} unreadable",
            self.commands, self.command_ids, self.repeated, self.late, self.unreadable
        )?;
        writeln!(
            f,
            "{} configurations received; {} answers, {} dropped",
            self.configs, self.answers, self.dropped_answers
        )?;
        write!(f, "{} connects, {} disconnects", self.connects, self.disconnects)
    }
}
