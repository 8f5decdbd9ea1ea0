//! What to do with a batch that the database refuses. Pure.
//!
//! A refusal may be the fault of the database (down, disk full) or of one message (a value that no column takes).
//! The first kind is retried for as long as it takes. For the second a database that answers must refuse the batch
//! twice; then the batch is split down to one write. A probe shows whether the database takes the same write
//! without the values that the device chose. Only if it does, and then refuses the write again, the message is
//! put in quarantine: a rejection is stored in its place.
//!
//! A third kind is the fault of a month's partition: its rows are refused whatever their values are, or their storage is
//! read-only or full. A probe shows whether the database takes the same write with the reading parked.

use diesel::result::Error as DieselError;

use crate::error::{is_of_storage, is_transient};

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
    /// Try the same write with the reading parked.
    ProbeParked,
    /// Store a rejection in place of the message.
    Quarantine,
}

impl Refusals {
    /// The verdict on a batch of `n_writes` that was refused once more, and its refusals from here on.
    pub(super) fn after(self, fault: Fault, n_writes: usize) -> (Verdict, Self) {
        let consecutive = if fault == Fault::Database { 0 } else { self.consecutive + 1 };
        let next = Self { consecutive, ..self };
        if consecutive < MAX_REFUSALS {
            (Verdict::Retry, next)
        } else if n_writes > 1 {
            // A half that is refused once is split again.
            (Verdict::Split, Self { consecutive: MAX_REFUSALS - 1, ..self })
        } else if fault == Fault::Storage {
            // Never the message's: it is not put in quarantine.
            (Verdict::ProbeParked, Self::default())
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

/// Whose fault an error may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It passes by itself.
    Database,
    /// The database's, or only that of the partition to write to.
    Storage,
    /// The values to be stored may be the cause.
    Values,
}

impl Fault {
    pub(super) fn of(error: &DieselError) -> Self {
        match error {
            DieselError::DatabaseError(..) if is_of_storage(error) => Self::Storage,
            DieselError::DatabaseError(..) if !is_transient(error) => Self::Values,
            // A value that has no form on the wire.
            DieselError::SerializationError(_) => Self::Values,
            _ => Self::Database,
        }
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
        use Fault::{Database, Storage, Values};
        use Verdict::{Probe, ProbeParked, Quarantine, Retry, Split};
        for (before, fault, n_writes, verdict, after) in [
            // The first refusal: the database may have been restarted.
            (refusals(0, false), Values, 20, Retry, refusals(1, false)),
            (refusals(0, false), Values, 1, Retry, refusals(1, false)),
            // The second in a row.
            (refusals(1, false), Values, 20, Split, refusals(1, false)),
            (refusals(1, false), Values, 2, Split, refusals(1, false)),
            (refusals(1, false), Values, 1, Probe, refusals(2, false)),
            (refusals(1, true), Values, 1, Quarantine, refusals(2, false)),
            // The rejection in the message's place is refused as well.
            (refusals(2, false), Values, 1, Probe, refusals(3, false)),
            // A database that is down never counts against a message.
            (refusals(0, false), Database, 20, Retry, refusals(0, false)),
            (refusals(1, false), Database, 20, Retry, refusals(0, false)),
            (refusals(1, true), Database, 1, Retry, refusals(0, true)),
            (refusals(0, true), Values, 1, Retry, refusals(1, true)),
            // Storage that is full or read-only never counts against a message either.
            (refusals(0, false), Storage, 20, Retry, refusals(1, false)),
            (refusals(1, false), Storage, 20, Split, refusals(1, false)),
            (refusals(1, false), Storage, 1, ProbeParked, refusals(0, false)),
            (refusals(1, true), Storage, 1, ProbeParked, refusals(0, false)),
        ] {
            assert_eq!(before.after(fault, n_writes), (verdict, after), "{before:?}, {fault:?}, {n_writes}");
        }
    }

    #[test]
    fn a_poison_message_is_tried_three_times_alone_before_its_quarantine() {
        let (mut refusals, mut verdicts) = (Refusals::default(), Vec::new());
        while verdicts.last() != Some(&Verdict::Quarantine) {
            let (verdict, next) = refusals.after(Fault::Values, 1);
            refusals = if verdict == Verdict::Probe { Refusals::after_probe(true) } else { next };
            verdicts.push(verdict);
        }
        assert_eq!(verdicts, [Verdict::Retry, Verdict::Probe, Verdict::Quarantine]);
    }

    #[test]
    fn a_database_that_refuses_the_probe_too_is_retried_for_ever() {
        let mut refusals = Refusals::default();
        for _ in 0..100 {
            let (verdict, next) = refusals.after(Fault::Values, 1);
            assert_ne!(verdict, Verdict::Quarantine);
            refusals = if verdict == Verdict::Probe { Refusals::after_probe(false) } else { next };
        }
    }

    #[test]
    fn only_an_error_about_values_may_be_the_fault_of_a_message() {
        let error = |kind| DieselError::DatabaseError(kind, Box::new(String::new()));
        for (kind, expected) in [
            (DatabaseErrorKind::CheckViolation, Fault::Values),
            (DatabaseErrorKind::NotNullViolation, Fault::Values),
            (DatabaseErrorKind::Unknown, Fault::Values),
            (DatabaseErrorKind::ClosedConnection, Fault::Database),
            (DatabaseErrorKind::SerializationFailure, Fault::Database),
            (DatabaseErrorKind::ReadOnlyTransaction, Fault::Storage),
        ] {
            assert_eq!(Fault::of(&error(kind)), expected, "{:?}", error(kind));
        }
        let full = "could not extend file \"base/5/2619\": No space left on device";
        let full = DieselError::DatabaseError(DatabaseErrorKind::Unknown, Box::new(full.to_owned()));
        assert_eq!(Fault::of(&full), Fault::Storage);
        assert_eq!(Fault::of(&DieselError::BrokenTransactionManager), Fault::Database);
    }
}
