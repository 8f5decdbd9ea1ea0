//! The times of a device's readings and heartbeats. The devices of a fleet are spread evenly over their interval, so
//! the fleet's rate is steady.

use std::time::Duration;

use tokio::time::Instant;

/// A message that is due.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Due {
    /// A reading, this long after the previous one.
    Reading(Duration),
    Heartbeat,
}

pub(crate) struct Schedule {
    interval: Duration,
    heartbeat: Duration,
    /// The device's offset in its interval, 0 to 1.
    phase: f64,
    next_reading: Instant,
    next_heartbeat: Instant,
}

impl Schedule {
    pub(crate) fn new(interval: Duration, heartbeat: Duration, phase: f64) -> Self {
        let now = Instant::now();
        Self { interval, heartbeat, phase, next_reading: now, next_heartbeat: now }
    }

    /// Starts again: the device is connected.
    pub(crate) fn start(&mut self, now: Instant) {
        self.next_reading = now + self.interval.mul_f64(self.phase);
        self.next_heartbeat = now + self.heartbeat.mul_f64(1.0 + self.phase);
    }

    /// The time of the next message.
    pub(crate) fn next(&self) -> Instant {
        self.next_reading.min(self.next_heartbeat)
    }

    /// A message that is due at `now`.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Due> {
        if self.next_reading <= now {
            self.next_reading += self.interval;
            return Some(Due::Reading(self.interval));
        }
        if self.next_heartbeat <= now {
            self.next_heartbeat += self.heartbeat;
            return Some(Due::Heartbeat);
        }
        None
    }

    /// Applies a configured sample rate from the next reading on.
    pub(crate) fn set_interval(&mut self, interval: Option<Duration>) {
        self.interval = interval.unwrap_or(self.interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_come_in_the_devices_phase_and_at_a_pushed_sample_rate() {
        let mut schedule = Schedule::new(Duration::from_secs(2), Duration::from_secs(3600), 0.5);
        let start = Instant::now();
        schedule.start(start);
        assert_eq!((schedule.take(start), schedule.next()), (None, start + Duration::from_secs(1)));
        let due = start + Duration::from_secs(1);
        assert_eq!(schedule.take(due), Some(Due::Reading(Duration::from_secs(2))));
        schedule.set_interval(Some(Duration::from_secs(10)));
        assert_eq!(schedule.next(), due + Duration::from_secs(2));
        schedule.take(due + Duration::from_secs(2)).unwrap();
        assert_eq!(schedule.next(), due + Duration::from_secs(12));
        assert_eq!(schedule.take(start + Duration::from_secs(5_400)), Some(Due::Reading(Duration::from_secs(10))));
    }
}
