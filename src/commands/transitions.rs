//! The state machine of commands: which event changes which status. `docs/control.md` shows this table, and a test
//! compares the two.
//!
//! Events arrive concurrently and in batches, so the statements in `sql/` decide under the lock of the row. The test
//! `registry::command_outbox::transitions` applies every event to every status through these statements and compares the result
//! with this table.

use super::command::CommandStatus::{self, Acked, Cancelled, Expired, Failed, Pending, Sent, Succeeded, TimedOut};
use crate::text_enum::text_enum;

text_enum! {
    /// What can happen to a command. The text is the description in the documentation.
    pub enum Event {
        Confirmed = "the broker confirms it",
        NoSubscribers = "the broker drops it because nobody is subscribed",
        Refused = "the broker refuses it",
        NotSent = "there is no connection to the broker",
        ExpiredUnsent = "it expires before it can be sent",
        DeadlinePassed = "`expiresAt` or the timeout passes",
        SessionLost = "the broker loses the server's session",
        Returned = "the device comes back, having sent nothing since the command",
        DeviceAcked = "the device answers `ACKED`",
        DeviceSucceeded = "the device answers `SUCCEEDED`",
        DeviceFailed = "the device answers `FAILED`",
        EffectObserved = "the device shows the expected effect",
        CancelRequested = "`cancelCommand`",
        NewerSent = "a newer command supersedes it",
    }

    /// What an event requires of the row, beside its status.
    pub enum Condition {
        Always = "",
        NotExpired = "not expired",
        Dispatched = "dispatched",
        NotDispatched = "not dispatched",
        NotAcknowledged = "not acknowledged before",
        NotAcknowledgedNorExpired = "not acknowledged and not expired",
    }
}

/// A change of status.
#[derive(Debug, Clone, Copy)]
pub struct Transition {
    pub from: CommandStatus,
    pub event: Event,
    pub condition: Condition,
    pub to: CommandStatus,
}

/// The properties of a row that conditions refer to.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// The device may have received it.
    pub is_dispatched: bool,
    pub is_acknowledged: bool,
    /// Its `expiresAt` has passed.
    pub is_expired: bool,
}

impl Condition {
    fn holds(self, facts: Facts) -> bool {
        let Facts { is_dispatched, is_acknowledged, is_expired } = facts;
        match self {
            Self::Always => true,
            Self::NotExpired => !is_expired,
            Self::Dispatched => is_dispatched,
            Self::NotDispatched => !is_dispatched,
            Self::NotAcknowledged => !is_acknowledged,
            Self::NotAcknowledgedNorExpired => !is_acknowledged && !is_expired,
        }
    }
}

const fn on(from: CommandStatus, event: Event, condition: Condition, to: CommandStatus) -> Transition {
    Transition { from, event, condition, to }
}

/// Every change of status. All other events leave the status as it is.
pub const TRANSITIONS: &[Transition] = &[
    on(Pending, Event::Confirmed, Condition::Always, Sent),
    on(Pending, Event::ExpiredUnsent, Condition::Always, Expired),
    on(Pending, Event::DeadlinePassed, Condition::Always, Expired),
    on(Pending, Event::DeviceAcked, Condition::Always, Acked),
    on(Pending, Event::DeviceSucceeded, Condition::Always, Succeeded),
    on(Pending, Event::DeviceFailed, Condition::Always, Failed),
    on(Pending, Event::EffectObserved, Condition::Dispatched, Succeeded),
    on(Pending, Event::CancelRequested, Condition::NotDispatched, Cancelled),
    on(Pending, Event::NewerSent, Condition::NotDispatched, Cancelled),
    on(Sent, Event::DeadlinePassed, Condition::Always, TimedOut),
    on(Sent, Event::SessionLost, Condition::NotExpired, Pending),
    on(Sent, Event::Returned, Condition::NotExpired, Pending),
    on(Sent, Event::DeviceAcked, Condition::Always, Acked),
    on(Sent, Event::DeviceSucceeded, Condition::Always, Succeeded),
    on(Sent, Event::DeviceFailed, Condition::Always, Failed),
    on(Sent, Event::EffectObserved, Condition::Dispatched, Succeeded),
    on(Acked, Event::DeadlinePassed, Condition::Always, TimedOut),
    on(Acked, Event::DeviceSucceeded, Condition::Always, Succeeded),
    on(Acked, Event::DeviceFailed, Condition::Always, Failed),
    on(Acked, Event::EffectObserved, Condition::Dispatched, Succeeded),
    on(TimedOut, Event::Returned, Condition::NotAcknowledgedNorExpired, Pending),
    on(TimedOut, Event::DeviceAcked, Condition::NotAcknowledged, Acked),
    on(TimedOut, Event::DeviceSucceeded, Condition::Always, Succeeded),
    on(TimedOut, Event::DeviceFailed, Condition::Always, Failed),
    on(TimedOut, Event::EffectObserved, Condition::Dispatched, Succeeded),
    on(Expired, Event::DeviceAcked, Condition::Always, Acked),
    on(Expired, Event::DeviceSucceeded, Condition::Always, Succeeded),
    on(Expired, Event::DeviceFailed, Condition::Always, Failed),
];

/// The status after an event; `None` where the event changes nothing.
pub fn next_status(status: CommandStatus, event: Event, facts: Facts) -> Option<CommandStatus> {
    let row = TRANSITIONS.iter().find(|row| row.from == status && row.event == event)?;
    row.condition.holds(facts).then_some(row.to)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One row per event, one column per status that an event can change.
    fn markdown() -> String {
        let statuses = [Pending, Sent, Acked, TimedOut, Expired];
        let mut table = String::from("| event |");
        statuses.iter().for_each(|status| table.push_str(&format!(" in `{status}` |")));
        table.push_str("\n|---|");
        statuses.iter().for_each(|_| table.push_str("---|"));
        for event in Event::ALL {
            table.push_str(&format!("\n| {event} |"));
            for status in statuses {
                table.push_str(&cell(status, *event));
            }
        }
        table.push('\n');
        table
    }

    fn cell(status: CommandStatus, event: Event) -> String {
        match TRANSITIONS.iter().find(|row| row.from == status && row.event == event) {
            None => " |".to_owned(),
            Some(Transition { to, condition: Condition::Always, .. }) => format!(" `{to}` |"),
            Some(Transition { to, condition, .. }) => format!(" `{to}` if {condition} |"),
        }
    }

    #[test]
    fn the_documentation_shows_this_table() {
        let page = include_str!("../../docs/control.md");
        assert!(page.contains(&markdown()), "docs/control.md needs this table:\n\n{}", markdown());
    }

    #[test]
    fn a_status_has_at_most_one_transition_per_event_and_final_ones_have_none() {
        for row in TRANSITIONS {
            let same = TRANSITIONS.iter().filter(|other| other.from == row.from && other.event == row.event);
            assert_eq!(same.count(), 1, "{row:?}");
            assert!(![Succeeded, Failed, Cancelled].contains(&row.from), "{row:?}");
        }
    }
}
