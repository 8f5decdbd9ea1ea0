//! What a fleet did: counters for people, and for tests the ledger of numbered messages.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident)*) => {
        /// Counted while the fleet runs.
        #[derive(Default)]
        pub(crate) struct Counters { $(pub(crate) $name: AtomicU64,)* }

        /// What a fleet did so far.
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
    /// Telemetry messages the broker confirmed (QoS 0: that left the socket), each counted once.
    confirmed
    /// Messages the broker refused by name (not authorised, quota).
    refused
    /// Messages given to the link again because it broke before their confirmation.
    resent
    /// Readings that a fault lost before they were sent.
    lost
    /// Messages that a fault sent twice.
    doubled
    /// Readings left out because too many messages waited for confirmation.
    skipped
    /// Connections made.
    connects
    /// Connections that failed or broke.
    disconnects
    /// Commands received.
    commands
    /// Commands received for the first time, by their ids.
    command_ids
    /// Commands received again under an id the device had read before: QoS 1 may deliver twice.
    repeated
    /// Commands received after their own `expiresAt`; a repeat counts as well.
    late
    /// Commands that could not be read as such; they have no answer.
    unreadable
    /// Configurations received.
    configs
    /// Answers given to the link: `ack` messages, or statuses that show an effect.
    answers
    /// Answers left out because too many waited for their time or for confirmation.
    left_unsaid
}

/// Adds to a counter.
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
            "{} status and heartbeat messages, {} refused, {} sent again after a broken link, {} left out",
            self.other, self.refused, self.resent, self.skipped
        )?;
        writeln!(f, "faults: {} lost, {} doubled", self.lost, self.doubled)?;
        writeln!(
            f,
            "commands: {} received with {} ids, {} again, {} after their time, {} unreadable",
            self.commands, self.command_ids, self.repeated, self.late, self.unreadable
        )?;
        writeln!(
            f,
            "{} configurations received; {} answers, {} left unsaid",
            self.configs, self.answers, self.left_unsaid
        )?;
        write!(f, "{} connects, {} disconnects", self.connects, self.disconnects)
    }
}

/// Numbers beyond this are not kept: 8 MiB for each of the two sets.
const MAX_NUMBER: u64 = 1 << 26;

/// Which numbered messages were sent and which were confirmed, by their `seq`.
#[derive(Default)]
pub struct Ledger {
    sent: Mutex<Bits>,
    confirmed: Mutex<Bits>,
}

impl Ledger {
    /// The numbers of all messages that may have reached the broker.
    pub fn sent(&self) -> Vec<u64> {
        lock(&self.sent).numbers()
    }

    /// The numbers of the messages whose PUBACK (or PUBCOMP) was seen: none of these may be lost.
    pub fn confirmed(&self) -> Vec<u64> {
        lock(&self.confirmed).numbers()
    }

    pub(crate) fn mark_sent(&self, seq: u64) {
        lock(&self.sent).set(seq);
    }

    pub(crate) fn mark_confirmed(&self, seq: u64) {
        lock(&self.confirmed).set(seq);
    }
}

fn lock(bits: &Mutex<Bits>) -> std::sync::MutexGuard<'_, Bits> {
    // A bit set has no state that a panic could leave half-made.
    bits.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct Bits(Vec<u64>);

impl Bits {
    fn set(&mut self, number: u64) {
        if number >= MAX_NUMBER {
            return;
        }
        let word = usize::try_from(number / 64).expect("bounded above");
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (number % 64);
    }

    fn numbers(&self) -> Vec<u64> {
        let words = (0u64..).step_by(64).zip(&self.0);
        words
            .flat_map(|(base, word)| (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| base + bit))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ledger_tells_sent_from_confirmed() {
        let ledger = Ledger::default();
        for seq in [0, 63, 64, 1000] {
            ledger.mark_sent(seq);
        }
        ledger.mark_confirmed(64);
        ledger.mark_sent(MAX_NUMBER);
        assert_eq!(ledger.sent(), [0, 63, 64, 1000]);
        assert_eq!(ledger.confirmed(), [64]);
    }
}
