//! What one operation may still ask for. The price of a query is judged before it runs, and there a
//! list without pages is taken to be short; this counts what the lists really hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus_client::metrics::counter::Counter;

use super::error::Result;
use crate::error::Error;

/// Most objects that the lists of one operation, or of one event of a subscription, may hold together.
pub const MAX_OBJECTS: usize = 50_000;

/// The objects asked for so far: request data of every operation.
#[derive(Clone, Default)]
pub struct Budget(Arc<AtomicUsize>);

impl Budget {
    /// Takes so many objects, or refuses; `exhausted` counts the operations that came to their end.
    pub(super) fn spend(&self, n_objects: usize, exhausted: &Counter) -> Result<()> {
        let before = self.0.fetch_add(n_objects, Ordering::Relaxed);
        if before.saturating_add(n_objects) <= MAX_OBJECTS {
            return Ok(());
        }
        if before <= MAX_OBJECTS {
            exhausted.inc();
        }
        Err(Error::bad_input("query", format!("the operation asks for more than {MAX_OBJECTS} objects")).into())
    }

    /// Gives back what was taken and not there.
    pub(super) fn give_back(&self, n_objects: usize) {
        self.0.fetch_sub(n_objects, Ordering::Relaxed);
    }

    /// Starts anew, at an event.
    pub(super) fn renew(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_is_refused_and_counted_once() {
        let (budget, exhausted) = (Budget::default(), Counter::default());
        assert!(budget.spend(MAX_OBJECTS, &exhausted).is_ok());
        budget.give_back(1);
        assert!(budget.spend(1, &exhausted).is_ok());
        assert!(budget.spend(1, &exhausted).is_err());
        assert!(budget.spend(1, &exhausted).is_err());
        assert_eq!(exhausted.get(), 1);
        budget.renew();
        assert!(budget.spend(1, &exhausted).is_ok());
    }
}
