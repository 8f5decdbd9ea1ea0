//! What to do with a batch that the database refuses. Pure.
//!
//! A refusal may be the fault of the database (down, disk full) or of one message (a value that no column takes).
//! The first kind is retried for as long as it takes. For the second a database that answers must refuse the batch
//! twice; then the batch is split down to one write. A probe shows whether the database takes the same write
//! without the values that the device chose. Only if it does, and then refuses the write again, the message is
//! put in quarantine: a rejection is stored in its place.

use diesel::result::Error as DieselError;

use crate::error::is_transient;

/// Refusals in a row after which a batch is split or probed.
const MAX_REFUSALS: usize = 2;

/// The refusals of one batch so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Refusals {
    /// Refusals in a row that may be the batch's own fault.
    consecutive: usize,
    /// The last probe succeeded: the next refusal is the message's own fault.
    probe_succeeded: bool,
}

/// What happens to a refused batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Retry,
    /// Try each half.
    Split,
    /// Try the same write without the device's values.
    Probe,
    /// Store a rejection in place of the message.
    Quarantine,
}

impl Refusals {
    /// The verdict on a batch of `n_writes` that was refused once more, and its refusals from here on.
    pub(super) fn after(self, may_be_poison: bool, n_writes: usize) -> (Verdict, Self) {
        let consecutive = if may_be_poison { self.consecutive + 1 } else { 0 };
        let next = Self { consecutive, ..self };
        if consecutive < MAX_REFUSALS {
            (Verdict::Retry, next)
        } else if n_writes > 1 {
            // A half that is refused once is split again.
            (Verdict::Split, Self { consecutive: MAX_REFUSALS - 1, ..self })
        } else if self.probe_succeeded {
            // Should the database refuse the rejection too, the fault is its own.
            (Verdict::Quarantine, Self { probe_succeeded: false, ..next })
        } else {
            (Verdict::Probe, next)
        }
    }

    /// The refusals after a probe. The write is tried once more in any case: the database may have recovered
    /// just before the probe.
    pub(super) fn after_probe(succeeded: bool) -> Self {
        Self { consecutive: if succeeded { MAX_REFUSALS - 1 } else { 0 }, probe_succeeded: succeeded }
    }
}

/// Whether an error may be the fault of the values to be stored.
pub(super) fn may_be_poison(error: &DieselError) -> bool {
    match error {
        DieselError::DatabaseError(..) => !is_transient(error),
        // A value that has no form on the wire.
        DieselError::SerializationError(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use diesel::result::DatabaseErrorKind;

    use super::*;

    const fn refusals(consecutive: usize, probe_succeeded: bool) -> Refusals {
        Refusals { consecutive, probe_succeeded }
    }

    #[test]
    fn each_refusal_has_its_verdict() {
        use Verdict::{Probe, Quarantine, Retry, Split};
        for (before, may_be_poison, n_writes, verdict, after) in [
            // The first refusal: the database may have been restarted.
            (refusals(0, false), true, 20, Retry, refusals(1, false)),
            (refusals(0, false), true, 1, Retry, refusals(1, false)),
            // The second in a row.
            (refusals(1, false), true, 20, Split, refusals(1, false)),
            (refusals(1, false), true, 2, Split, refusals(1, false)),
            (refusals(1, false), true, 1, Probe, refusals(2, false)),
            (refusals(1, true), true, 1, Quarantine, refusals(2, false)),
            // The rejection in the message's place is refused as well.
            (refusals(2, false), true, 1, Probe, refusals(3, false)),
            // A database that is down never counts against a message.
            (refusals(0, false), false, 20, Retry, refusals(0, false)),
            (refusals(1, false), false, 20, Retry, refusals(0, false)),
            (refusals(1, true), false, 1, Retry, refusals(0, true)),
            (refusals(0, true), true, 1, Retry, refusals(1, true)),
        ] {
            assert_eq!(
                before.after(may_be_poison, n_writes),
                (verdict, after),
                "{before:?}, {may_be_poison}, {n_writes}"
            );
        }
    }

    #[test]
    fn a_poison_message_is_tried_three_times_alone_before_its_quarantine() {
        let (mut refusals, mut verdicts) = (Refusals::default(), Vec::new());
        while verdicts.last() != Some(&Verdict::Quarantine) {
            let (verdict, next) = refusals.after(true, 1);
            refusals = if verdict == Verdict::Probe { Refusals::after_probe(true) } else { next };
            verdicts.push(verdict);
        }
        assert_eq!(verdicts, [Verdict::Retry, Verdict::Probe, Verdict::Quarantine]);
    }

    #[test]
    fn a_database_that_refuses_the_probe_too_is_retried_for_ever() {
        let mut refusals = Refusals::default();
        for _ in 0..100 {
            let (verdict, next) = refusals.after(true, 1);
            assert_ne!(verdict, Verdict::Quarantine);
            refusals = if verdict == Verdict::Probe { Refusals::after_probe(false) } else { next };
        }
    }

    #[test]
    fn only_an_error_about_values_may_be_poison() {
        let error = |kind| DieselError::DatabaseError(kind, Box::new(String::new()));
        for (kind, expected) in [
            (DatabaseErrorKind::CheckViolation, true),
            (DatabaseErrorKind::NotNullViolation, true),
            (DatabaseErrorKind::Unknown, true),
            (DatabaseErrorKind::ClosedConnection, false),
            (DatabaseErrorKind::SerializationFailure, false),
            (DatabaseErrorKind::ReadOnlyTransaction, false),
        ] {
            assert_eq!(may_be_poison(&error(kind)), expected, "{:?}", error(kind));
        }
        assert!(!may_be_poison(&DieselError::BrokenTransactionManager));
    }
}
