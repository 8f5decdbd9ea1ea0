//! Rate limits by the generic cell rate algorithm (GCRA, from ATM traffic management: ITU-T I.371, annex A).
//!
//! GCRA is a token bucket that needs one number per sender instead of a level and the time of its last refill.
//! That number is the *theoretical arrival time* (TAT): when the next message of a sender that sends at exactly
//! the limit would arrive. Each admitted message moves it on by the emission interval. A message that arrives
//! before the TAT is early; it is admitted as long as it is early by no more than the burst tolerance.
//!
//! Times are whole microseconds since an epoch of the caller's choice.

/// Microseconds of a second.
pub const SECOND_US: i64 = 1_000_000;

/// The limit. Its state is one theoretical arrival time per sender, kept by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gcra {
    /// Microseconds between two messages at exactly the limit.
    emission_interval: i64,
    /// Microseconds by which a message may be early: the whole burst but the message itself.
    burst_tolerance: i64,
}

impl Gcra {
    /// `per_second` messages sustained, `burst` at once after a pause; both at least 1.
    pub fn new(per_second: u32, burst: u32) -> Self {
        let emission_interval = SECOND_US / i64::from(per_second);
        Self { emission_interval, burst_tolerance: emission_interval * (i64::from(burst) - 1) }
    }

    /// `n` messages a minute sustained, and at once after a pause; at least 1.
    pub fn per_minute(n: u32) -> Self {
        let emission_interval = 60 * SECOND_US / i64::from(n);
        Self { emission_interval, burst_tolerance: emission_interval * (i64::from(n) - 1) }
    }

    /// Microseconds that one message takes of the sustained rate.
    pub fn emission_interval(self) -> i64 {
        self.emission_interval
    }

    /// Microseconds of silence after which a whole burst is available again.
    pub fn refill_time(self) -> i64 {
        self.burst_tolerance + self.emission_interval
    }

    /// Microseconds from `now` until the next message conforms.
    pub fn wait(self, theoretical_arrival_time: i64, now: i64) -> i64 {
        (theoretical_arrival_time - self.burst_tolerance - now).max(0)
    }

    /// Admits a message that arrives at `now`, and moves the theoretical arrival time on, if it conforms.
    pub fn admit(self, theoretical_arrival_time: &mut i64, now: i64) -> bool {
        self.admit_delayed(theoretical_arrival_time, now, now)
    }

    /// As [`Gcra::admit`], for a message that the receiver itself may have delayed: it was sent between
    /// `sent_after` and `now`, so the whole span counts as time in which the sender kept silent.
    pub fn admit_delayed(self, theoretical_arrival_time: &mut i64, now: i64, sent_after: i64) -> bool {
        let arrival = (*theoretical_arrival_time).max(sent_after);
        let conforms = arrival - self.burst_tolerance <= now;
        if conforms {
            *theoretical_arrival_time = arrival + self.emission_interval;
        }
        conforms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: i64 = 1_000;

    #[test]
    fn a_burst_is_admitted_then_the_sustained_rate() {
        let limit = Gcra::new(20, 5);
        let mut tat = 0;
        assert!((0..5).all(|_| limit.admit(&mut tat, 0)));
        assert!(!limit.admit(&mut tat, 49 * MILLISECOND));
        assert!(limit.admit(&mut tat, 50 * MILLISECOND), "one emission interval later");
        assert!(!limit.admit(&mut tat, 99 * MILLISECOND));
    }

    #[test]
    fn a_pause_refills_the_burst_and_no_more() {
        let limit = Gcra::new(20, 5);
        let mut tat = 0;
        assert_eq!(limit.refill_time(), 250 * MILLISECOND);
        for pause in [limit.refill_time(), 3_600 * SECOND_US] {
            let now = tat.max(0) + pause;
            assert_eq!((0..100).filter(|_| limit.admit(&mut tat, now)).count(), 5);
        }
    }

    #[test]
    fn the_wait_is_the_time_until_the_next_message_conforms() {
        let limit = Gcra::per_minute(10);
        let mut tat = 0;
        assert_eq!((0..100).filter(|_| limit.admit(&mut tat, 0)).count(), 10);
        let wait = limit.wait(tat, 0);
        assert_eq!(wait, 6 * SECOND_US);
        assert!(!limit.admit(&mut tat, wait - 1) && limit.admit(&mut tat, wait));
    }

    #[test]
    fn a_refused_message_costs_nothing() {
        let limit = Gcra::new(1, 1);
        let mut tat = 0;
        assert!(limit.admit(&mut tat, 0));
        assert!((0..100).all(|_| !limit.admit(&mut tat, SECOND_US - 1)));
        assert!(limit.admit(&mut tat, SECOND_US));
    }

    #[test]
    fn time_in_which_the_receiver_was_behind_counts_as_silence() {
        let limit = Gcra::new(10, 2);
        let mut tat = 0;
        assert_eq!((0..100).filter(|_| limit.admit(&mut tat, 0)).count(), 2);
        // One second behind at ten a second.
        assert_eq!((0..100).filter(|_| limit.admit_delayed(&mut tat, SECOND_US, 0)).count(), 10);
    }
}
