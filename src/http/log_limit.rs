//! Which requests get a line in the log, and the limit on the lines of refusals: anybody can be refused as often as they
//! like, and would fill the disk.

use std::sync::{Arc, Mutex};

use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::rate::{Gcra, SECOND_US};
use crate::settings::LogRequests;

/// Sustained lines of refusals per second.
const LINES_PER_SECOND: u32 = 50;
/// Lines of refusals at once.
const LINE_BURST: u32 = 500;
/// Microseconds between two lines that say how many were left out.
const REPORT_EVERY: i64 = 60 * SECOND_US;

/// What the log of requests has. Cheap to clone; all clones share the limit.
#[derive(Clone)]
pub struct RequestLog {
    which: LogRequests,
    refusals: Arc<Refusals>,
}

/// The lines of all refusals: of requests, of operations and of sockets.
struct Refusals {
    limit: Gcra,
    /// The origin of all times, which are in microseconds.
    started_at: Instant,
    metrics: Metrics,
    lines: Mutex<Lines>,
}

#[derive(Debug, Default)]
struct Lines {
    /// See [`Gcra`].
    theoretical_arrival_time: i64,
    /// Lines left out since the last report.
    left_out: u64,
    reported_at: Option<i64>,
}

impl RequestLog {
    /// `metrics` counts the lines that are left out.
    pub fn new(which: LogRequests, metrics: Metrics) -> Self {
        let limit = Gcra::new(LINES_PER_SECOND, LINE_BURST);
        let refusals = Refusals { limit, started_at: Instant::now(), metrics, lines: Mutex::default() };
        Self { which, refusals: Arc::new(refusals) }
    }

    /// Whether a line is written. A line of a refusal uses up the limit.
    pub(super) fn admits(&self, is_refused: bool) -> bool {
        self.which.includes(is_refused) && (!is_refused || self.refusals.admit())
    }
}

impl Refusals {
    fn admit(&self) -> bool {
        let now = i64::try_from(self.started_at.elapsed().as_micros()).unwrap_or(i64::MAX);
        let mut lines = self.lines.lock().expect("log limit lock");
        let is_admitted = lines.admit(self.limit, now);
        let report = lines.report(now);
        drop(lines);
        if !is_admitted {
            self.metrics.log_lines_left_out.inc();
        }
        if let Some(left_out) = report {
            tracing::warn!(left_out, "too many refusals: some have no line in the log");
        }
        is_admitted
    }
}

impl Lines {
    fn admit(&mut self, limit: Gcra, now: i64) -> bool {
        let is_admitted = limit.admit(&mut self.theoretical_arrival_time, now);
        self.left_out += u64::from(!is_admitted);
        is_admitted
    }

    /// How many lines were left out, if it is time to say so.
    fn report(&mut self, now: i64) -> Option<u64> {
        let is_due = self.left_out > 0 && self.reported_at.is_none_or(|at| now - at >= REPORT_EVERY);
        is_due.then(|| {
            self.reported_at = Some(now);
            std::mem::take(&mut self.left_out)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_reported_once_a_minute() {
        let limit = Gcra::new(LINES_PER_SECOND, LINE_BURST);
        let mut lines = Lines::default();
        let (mut written, mut reports) = (0, Vec::new());
        // 1,000 refusals a second for two minutes, then one.
        for now in (0..120_000).map(|millisecond| millisecond * SECOND_US / 1_000) {
            written += u64::from(lines.admit(limit, now));
            reports.extend(lines.report(now));
        }
        assert!((500 + 119 * 50..=500 + 120 * 50).contains(&written), "{written}");
        assert_eq!(reports.len(), 2, "{reports:?}");
        assert!(lines.admit(limit, 180 * SECOND_US));
        reports.extend(lines.report(180 * SECOND_US));
        assert_eq!(reports.iter().sum::<u64>(), 120_000 - written);
        assert_eq!(lines.report(3_600 * SECOND_US), None);
    }

    #[test]
    fn all_requests_that_are_not_refused_are_logged() {
        let log = RequestLog::new(LogRequests::All, Metrics::new());
        assert!((0..2_000).all(|_| log.admits(false)));
        assert!((0..LINE_BURST).all(|_| log.admits(true)));
        let n_admitted = (0..2_000).filter(|_| log.clone().admits(true)).count();
        assert!(n_admitted < 2_000, "the clones share the limit");
        assert!((0..2_000).all(|_| log.admits(false)));
    }
}
