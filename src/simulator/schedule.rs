//! When which device of a connection speaks next. Devices are spread evenly over their interval, so
//! a fleet's rate is steady and not a burst a second.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use tokio::time::Instant;

use super::config::Pace;

/// What the physics take for the time between readings where there is none.
const FLOOD_INTERVAL: Duration = Duration::from_secs(1);

/// What is to be said now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Due {
    /// A reading, so long after the one before.
    Telemetry {
        /// Which device of the connection.
        device: usize,
        /// Time since its reading before.
        interval: Duration,
    },
    /// A sign of life.
    Heartbeat {
        /// Which device of the connection.
        device: usize,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Telemetry,
    Heartbeat,
}

/// See the module.
pub(crate) struct Schedule {
    /// Time between readings of each device; empty when flooding.
    intervals: Vec<Duration>,
    /// Where in its interval each device speaks, 0 to 1.
    phases: Vec<f64>,
    heartbeat: Duration,
    queue: BinaryHeap<Reverse<(Instant, usize, Kind)>>,
    flooding: bool,
    next_in_flood: usize,
}

impl Schedule {
    /// For the devices with these numbers in a fleet of `fleet` devices.
    #[expect(clippy::cast_precision_loss, reason = "no fleet has 2^52 devices")]
    pub(crate) fn new(pace: Pace, heartbeat: Duration, fleet: usize, numbers: &[usize]) -> Self {
        let interval = match pace {
            Pace::PerSecond(rate) => Duration::from_secs_f64(fleet as f64 / rate),
            Pace::Flood => FLOOD_INTERVAL,
        };
        Self {
            intervals: vec![interval; numbers.len()],
            phases: numbers.iter().map(|&number| number as f64 / fleet as f64).collect(),
            heartbeat,
            queue: BinaryHeap::new(),
            flooding: pace == Pace::Flood,
            next_in_flood: 0,
        }
    }

    /// Begins anew: the link is up.
    pub(crate) fn start(&mut self, now: Instant) {
        self.queue.clear();
        for device in 0..self.intervals.len() {
            if !self.flooding {
                self.push(now + self.intervals[device].mul_f64(self.phases[device]), device, Kind::Telemetry);
            }
            self.push(now + self.heartbeat.mul_f64(1.0 + self.phases[device]), device, Kind::Heartbeat);
        }
    }

    /// When something is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.queue.peek().map(|Reverse((at, ..))| *at)
    }

    /// Takes what is due by `now`, and plans its successor.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Due> {
        let &Reverse((at, device, kind)) = self.queue.peek()?;
        if at > now {
            return None;
        }
        self.queue.pop();
        Some(match kind {
            Kind::Telemetry => {
                let interval = self.intervals[device];
                self.push(at + interval, device, kind);
                Due::Telemetry { device, interval }
            }
            Kind::Heartbeat => {
                self.push(at + self.heartbeat, device, kind);
                Due::Heartbeat { device }
            }
        })
    }

    /// The next device to speak in a flood, each in its turn; `None` where there is a schedule.
    pub(crate) fn flood(&mut self) -> Option<(usize, Duration)> {
        if !self.flooding || self.intervals.is_empty() {
            return None;
        }
        self.next_in_flood = (self.next_in_flood + 1) % self.intervals.len();
        Some((self.next_in_flood, FLOOD_INTERVAL))
    }

    /// A pushed configuration changed how often this device reports, from its next reading on.
    pub(crate) fn set_sample_rate(&mut self, device: usize, interval: Option<Duration>) {
        if let Some(interval) = interval {
            self.intervals[device] = interval;
        }
    }

    fn push(&mut self, at: Instant, device: usize, kind: Kind) {
        self.queue.push(Reverse((at, device, kind)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_devices_at_two_a_second_speak_every_half_second_in_turn() {
        let mut schedule = Schedule::new(Pace::PerSecond(2.0), Duration::from_secs(3600), 4, &[0, 1, 2, 3]);
        let start = Instant::now();
        schedule.start(start);
        let mut spoken = Vec::new();
        for tick in 0..8u32 {
            let at = start + Duration::from_millis(500) * tick;
            assert_eq!(schedule.next(), Some(at));
            while let Some(Due::Telemetry { device, interval }) = schedule.take(at) {
                assert_eq!(interval, Duration::from_secs(2));
                spoken.push(device);
            }
        }
        assert_eq!(spoken, [0, 1, 2, 3, 0, 1, 2, 3]);
    }

    #[test]
    fn a_pushed_sample_rate_counts_from_the_next_reading() {
        let mut schedule = Schedule::new(Pace::PerSecond(1.0), Duration::from_secs(3600), 1, &[0]);
        let start = Instant::now();
        schedule.start(start);
        schedule.set_sample_rate(0, Some(Duration::from_secs(10)));
        assert!(schedule.take(start).is_some());
        assert_eq!(schedule.next(), Some(start + Duration::from_secs(10)));
    }
}
