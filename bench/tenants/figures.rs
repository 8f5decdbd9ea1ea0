//! What the quiet accounts met in one window.

use std::collections::BTreeMap;
use std::time::Duration;

/// The codes of refused sign-ins begin with it.
pub(super) const SIGN_IN: &str = "sign-in ";

/// See the module.
#[derive(Default)]
pub(super) struct Figures {
    /// From a request for homes, devices and their latest readings to the whole response.
    pub(super) queries: Vec<Duration>,
    /// From just before `sendCommand` to the event of `SUCCEEDED` at the account's socket: acknowledged commands.
    pub(super) commands: Vec<Duration>,
    /// The same for commands that succeed by their expected effect.
    pub(super) effects: Vec<Duration>,
    /// From a reading to its event.
    pub(super) live: Vec<Duration>,
    /// Commands without the event of `SUCCEEDED`.
    pub(super) unanswered: usize,
    /// Requests without data, by code.
    pub(super) refusals: BTreeMap<String, usize>,
    /// Sockets that were closed, or received nothing for ten seconds.
    pub(super) sockets_lost: usize,
    pub(super) sign_ins: SignIns,
    /// Sessions that several tabs refreshed at once, and those of them that went on.
    pub(super) refreshed: usize,
    pub(super) kept: usize,
}

/// Sign-ins with the right password.
#[derive(Default)]
pub(super) struct SignIns {
    pub(super) wanted: usize,
    pub(super) at_once: usize,
    /// With the password typed up to three times.
    pub(super) in_the_end: usize,
}

/// A stolen device, a new one, and one that was away.
#[derive(Default)]
pub(super) struct Devices {
    /// From the rotation without a grace period to the end of the connection.
    pub(super) cut: Option<Duration>,
    /// From the registration to the first accepted connection.
    pub(super) new: Option<Duration>,
    /// From the return of a device to the command that was sent to it before.
    pub(super) returned: Option<Duration>,
    /// Readings that quiet devices sent and that were not stored in the end.
    pub(super) readings_lost: i64,
}

/// Resident memory of a process in MiB: at the start of a window, at its highest so far, and at the end.
#[derive(Default, Clone, Copy)]
pub(super) struct Memory {
    pub(super) before: u64,
    pub(super) peak: u64,
    pub(super) after: u64,
}

/// Processor time in a window, in percent of one core.
#[derive(Default, Clone, Copy)]
pub(super) struct Processor {
    pub(super) server: u128,
    pub(super) database: u128,
    pub(super) broker: u128,
    /// Quiet accounts, their devices and the attacker.
    pub(super) load: u128,
}

/// One window.
#[derive(Default)]
pub(super) struct Window {
    pub(super) figures: Figures,
    pub(super) processor: Processor,
    pub(super) devices: Devices,
    pub(super) server: Memory,
    pub(super) broker: Memory,
}

impl Processor {
    /// From what server, database, broker and load have used before and after so long.
    pub(super) fn between(before: [Duration; 4], after: [Duration; 4], elapsed: Duration) -> Self {
        let percent = |n: usize| after[n].saturating_sub(before[n]).as_micros() * 100 / elapsed.as_micros().max(1);
        Self { server: percent(0), database: percent(1), broker: percent(2), load: percent(3) }
    }
}

impl Figures {
    pub(super) fn refused(&mut self, code: String) {
        *self.refusals.entry(code).or_default() += 1;
    }

    /// Refused requests that are no sign-ins.
    pub(super) fn n_refused(&self) -> usize {
        let others = self.refusals.iter().filter(|(code, _)| !code.starts_with(SIGN_IN));
        others.map(|(_, n)| n).sum()
    }
}
