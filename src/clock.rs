//! The wall clock, passed in so that a test can move it. Timers use tokio's monotonic time instead.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};

/// Tells the time in UTC with microsecond precision (what PostgreSQL keeps).
#[derive(Debug, Clone, Default)]
pub struct Clock {
    /// Microseconds a test has moved it by.
    offset_us: Option<Arc<AtomicI64>>,
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self::default()
    }

    /// The machine's clock, which [`Clock::advance`] may move.
    pub fn movable() -> Self {
        Self { offset_us: Some(Arc::default()) }
    }

    /// Moves a movable clock; a system clock stays as it is.
    pub fn advance(&self, by: TimeDelta) {
        if let Some(offset) = &self.offset_us {
            offset.fetch_add(by.num_microseconds().unwrap_or_default(), Ordering::Relaxed);
        }
    }

    /// Now.
    pub fn now(&self) -> DateTime<Utc> {
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
        let now = Utc::now().trunc_subsecs(6);
        match &self.offset_us {
            Some(offset) => now + TimeDelta::microseconds(offset.load(Ordering::Relaxed)),
            None => now,
        }
    }
}
