//! The state machine of a configuration's version: which event changes which status. `docs/control.md` shows this
//! table, and a test compares the two.
//!
//! Events arrive concurrently and in batches, so the statements in `sql/` decide under the lock of the row. The test
//! `config_outbox::transitions` applies every event to every status through these statements and compares the result
//! with this table.

use super::ConfigStatus::{self, Applied, Pending, Rejected, Sent, Superseded};
use crate::text_enum::text_enum;

text_enum! {
    /// What can happen to a version. The text is the description in the documentation.
    pub enum ConfigEvent {
        Confirmed = "the broker confirms it",
        NotConfirmed = "the broker refuses it, or the connection ends before the broker answers",
        SessionLost = "the broker loses the server's session and what it retained",
        DeviceApplied = "the device answers `APPLIED`",
        DeviceRejected = "the device answers `REJECTED`",
        NewerPushed = "a newer version is pushed",
    }
}

/// Every change of status. All other events leave the status as it is.
pub const TRANSITIONS: &[(ConfigStatus, ConfigEvent, ConfigStatus)] = &[
    (Pending, ConfigEvent::Confirmed, Sent),
    // An answer proves that the device has the version, even before the broker confirms it.
    (Pending, ConfigEvent::DeviceApplied, Applied),
    (Pending, ConfigEvent::DeviceRejected, Rejected),
    (Pending, ConfigEvent::NewerPushed, Superseded),
    (Sent, ConfigEvent::DeviceApplied, Applied),
    (Sent, ConfigEvent::DeviceRejected, Rejected),
    (Sent, ConfigEvent::NewerPushed, Superseded),
];

/// The status after an event; `None` if the event changes nothing.
pub fn next_status(status: ConfigStatus, event: ConfigEvent) -> Option<ConfigStatus> {
    TRANSITIONS.iter().find(|(from, on, _)| *from == status && *on == event).map(|(.., to)| *to)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One row per event, one column per status that an event can change.
    fn markdown() -> String {
        let mut table = String::from("| event | in `PENDING` | in `SENT` |\n|---|---|---|\n");
        for event in ConfigEvent::ALL {
            let [pending, sent] = [Pending, Sent].map(|status| match next_status(status, *event) {
                Some(next) => format!(" `{next}` |"),
                None => " |".to_owned(),
            });
            table.push_str(&format!("| {event} |{pending}{sent}\n"));
        }
        table
    }

    #[test]
    fn the_documentation_shows_this_table() {
        let page = include_str!("../../docs/control.md");
        assert!(page.contains(&markdown()), "docs/control.md needs this table:\n\n{}", markdown());
    }

    #[test]
    fn a_status_has_at_most_one_transition_per_event_and_final_ones_have_none() {
        for row in TRANSITIONS {
            let same = TRANSITIONS.iter().filter(|other| other.0 == row.0 && other.1 == row.1);
            assert_eq!(same.count(), 1, "{row:?}");
            assert!([Pending, Sent].contains(&row.0), "{row:?}");
        }
    }
}
