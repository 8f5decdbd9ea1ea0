//! Whether the broker holds messages back because the server has not acknowledged those before.
//!
//! A broker has a limited number of messages in flight to a client, Mosquitto 20 by default. With a small limit the queue
//! before the writer never fills, however many messages wait at the broker. What is seen of it is that the writer hardly ever
//! waits for a message, and that the number of unacknowledged messages is the same after each commit: the limit. The messages of
//! devices that send by themselves vary in number, and leave the writer pauses.

use std::time::{Duration, Instant};

use super::writer::LONG_OUTAGE;

/// Fewer unacknowledged messages than this are no limit of a broker.
const MIN_IN_FLIGHT: usize = 8;
/// Messages by which the number may always vary.
const MIN_VARIATION: usize = 4;
/// Longest wait for a message while others are held back.
const MAX_IDLE: Duration = Duration::from_secs(1);

/// A time in which the writer was busy and the number of unacknowledged messages hardly changed.
#[derive(Default)]
pub(super) struct Saturation(Option<Run>);

struct Run {
    since: Instant,
    last: Instant,
    idle: Duration,
    lowest: usize,
    highest: usize,
}

impl Run {
    fn new(in_flight: usize, now: Instant) -> Self {
        Self { since: now, last: now, idle: Duration::ZERO, lowest: in_flight, highest: in_flight }
    }

    fn add(&mut self, in_flight: usize, now: Instant) {
        self.last = now;
        (self.lowest, self.highest) = (self.lowest.min(in_flight), self.highest.max(in_flight));
    }

    /// Whether the number varied less than one of independent messages does (its root), and the writer waited for a fifth
    /// of the time at most.
    fn is_steady(&self) -> bool {
        let varied = self.highest - self.lowest;
        self.lowest >= MIN_IN_FLIGHT
            && varied <= MIN_VARIATION + self.highest.isqrt()
            && self.idle * 5 <= self.last - self.since
    }

    fn is_long(&self, now: Instant) -> bool {
        now - self.since > LONG_OUTAGE
    }
}

impl Saturation {
    /// The writer has waited for this long, whatever ended it: a message, or something else.
    pub(super) fn add_idle(&mut self, idle: Duration) {
        if let Some(run) = &mut self.0 {
            run.idle += idle;
        }
    }

    /// Call after each commit of messages, with the number of those that were not acknowledged then. Returns whether a long
    /// time of saturation has ended.
    pub(super) fn observe(&mut self, in_flight: usize, now: Instant) -> bool {
        let Some(run) = &mut self.0 else {
            self.0 = Some(Run::new(in_flight, now));
            return false;
        };
        run.add(in_flight, now);
        if run.is_steady() {
            return false;
        }
        let was_long = run.is_long(now);
        self.0 = Some(Run::new(in_flight, now));
        was_long
    }

    /// The same when the writer waits for a message.
    pub(super) fn end_if_idle(&mut self, now: Instant) -> bool {
        let ended = self.0.take_if(|run| now - run.last >= MAX_IDLE);
        ended.is_some_and(|run| run.last - run.since > LONG_OUTAGE)
    }

    /// Whether messages have been held back for so long that no device counts as silent.
    pub(super) fn is_long(&self, now: Instant) -> bool {
        self.0.as_ref().is_some_and(|run| run.is_long(now))
    }

    /// When [`Saturation::end_if_idle`] is due.
    pub(super) fn ends_at(&self) -> Option<Instant> {
        self.0.as_ref().map(|run| run.last + MAX_IDLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: Duration = Duration::from_millis(100);

    /// Observes commits, each with its number of unacknowledged messages and its pause; whether it was long saturated.
    fn observed(commits: impl IntoIterator<Item = (usize, Duration)>) -> (Saturation, bool, Instant) {
        let (mut saturation, mut now) = (Saturation::default(), Instant::now());
        let mut was_long = false;
        for (in_flight, idle) in commits {
            now += COMMIT + idle;
            saturation.add_idle(idle);
            saturation.observe(in_flight, now);
            was_long |= saturation.is_long(now);
        }
        (saturation, was_long, now)
    }

    #[test]
    fn a_constant_number_in_flight_without_pauses_is_a_limit_of_the_broker() {
        let commits = (0..200).map(|n| (20 + n % 3, Duration::from_millis(1)));
        let (mut saturation, was_long, now) = observed(commits);
        assert!(was_long && saturation.is_long(now));
        assert!(saturation.observe(9, now), "the backlog has ended");
        assert!(!saturation.is_long(now));
    }

    #[test]
    fn devices_that_send_by_themselves_are_no_backlog() {
        let paused = (0..200).map(|_| (20, Duration::from_millis(900)));
        assert!(!observed(paused).1, "a burst each second");
        let varying = (0..200).map(|n| (12 + n * 7 % 17, Duration::ZERO));
        assert!(!observed(varying).1, "a slow database");
        let few = (0..200).map(|_| (1, Duration::ZERO));
        assert!(!observed(few).1, "one message after the other");
    }

    #[test]
    fn a_pause_counts_that_something_else_than_a_message_interrupts() {
        let (mut saturation, mut now) = (Saturation::default(), Instant::now());
        for _ in 0..200 {
            // Half of the time until a device's deadline, and the other half until its next message.
            for _ in 0..2 {
                now += COMMIT / 2;
                saturation.add_idle(COMMIT / 8);
            }
            saturation.observe(20, now);
            assert!(!saturation.is_long(now));
        }
    }

    #[test]
    fn a_backlog_that_ends_with_a_full_batch_ends_with_the_next_pause() {
        let (mut saturation, was_long, now) = observed((0..200).map(|_| (20, Duration::ZERO)));
        assert!(was_long && !saturation.end_if_idle(now + MAX_IDLE / 2));
        let end = saturation.ends_at().unwrap();
        assert!(saturation.end_if_idle(end) && !saturation.is_long(end) && saturation.ends_at().is_none());
    }
}
