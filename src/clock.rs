//! The wall clock, passed in so that a test can move it. Timers use tokio's monotonic clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};

/// The time in UTC in microseconds, the precision of PostgreSQL.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    /// Microseconds by which a test has moved it.
    offset_us: Option<Arc<AtomicI64>>,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that [`Clock::advance`] can move.
    pub fn movable() -> Self {
        Self { offset_us: Some(Arc::default()) }
    }

    /// Moves a movable clock; does nothing to the system's.
    pub fn advance(&self, by: TimeDelta) {
        if let Some(offset) = &self.offset_us {
            offset.fetch_add(by.num_microseconds().unwrap_or_default(), Ordering::Relaxed);
        }
    }

    pub fn now(&self) -> DateTime<Utc> {
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
        let now = Utc::now().trunc_subsecs(6);
        match &self.offset_us {
            Some(offset) => now + TimeDelta::microseconds(offset.load(Ordering::Relaxed)),
            None => now,
        }
    }
}

/// A larger difference matters: a command expires too early or too late if one server sets its end and another one enforces it.
const MAX_DIFFERENCE: TimeDelta = TimeDelta::seconds(1);

/// How far a clock is ahead of another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockDifference {
    pub ahead: TimeDelta,
    /// The largest error of the measurement.
    error: TimeDelta,
}

impl ClockDifference {
    /// Of a clock that was read before and after the other one gave its time, at some moment in between.
    pub fn measured(before: DateTime<Utc>, other: DateTime<Utc>, after: DateTime<Utc>) -> Self {
        let error = (after - before) / 2;
        Self { ahead: before + error - other, error }
    }

    /// Whether it matters.
    pub fn is_large(&self) -> bool {
        self.ahead.abs() > MAX_DIFFERENCE + self.error
    }
}
