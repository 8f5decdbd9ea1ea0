//! The messages of a run: telemetry of the device protocol, 378 bytes, from a thousand devices. Each message has
//! a number, which is its timestamp in milliseconds after the run's first one: unique, known to
//! the subscriber at the other end, and not one byte longer than a device's message.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};

pub(crate) const DEVICES: usize = 1_000;
/// Where the digits of the time stand in the payload.
const STAMP: Range<usize> = 14..38;
/// The run's numbers lie in the past, where no server doubts a device's clock.
const REACH_BACK: TimeDelta = TimeDelta::hours(12);

/// The key of a device; its length makes the payload 378 bytes.
pub(crate) fn key(device: usize) -> String {
    format!("ESP32_BENCHMARK_{device:03}")
}

/// What device number `device` sends; the stamp is still to be set.
pub(crate) fn payload(device: usize) -> String {
    format!(
        concat!(
            r#"{{"timestamp":"2026-02-13T12:00:00.000Z","deviceId":"{}","sensors":{{"current":0.75,"gasPpm":450,"#,
            r#""flame":false,"binLevel":45.2,"powerW":120.5,"energyKwh":2.45,"voltageV":220.3,"currentA":0.55,"#,
            r#""frequencyHz":50.1,"powerFactor":0.95,"distanceCm":15.2,"temperature":23.5,"humidity":65.2}},"#,
            r#""metadata":{{"firmwareVersion":"v2.1.0","signalStrength":-45,"batteryLevel":85}}}}"#
        ),
        key(device)
    )
}

/// Gives out numbers and turns them into stamps and back.
pub(crate) struct Numbers {
    first: DateTime<Utc>,
    next: AtomicU64,
}

impl Numbers {
    pub(crate) fn new(now: DateTime<Utc>) -> Self {
        // Whole seconds, so that a stamp's milliseconds are its number's.
        let seconds = (now - REACH_BACK).timestamp();
        Self { first: DateTime::from_timestamp(seconds, 0).expect("a time of today"), next: AtomicU64::new(0) }
    }

    /// `n` numbers that nobody else gets.
    pub(crate) fn take(&self, n: u64) -> Range<u64> {
        let first = self.next.fetch_add(n, Ordering::Relaxed);
        first..first + n
    }

    /// The time that a number stands for.
    pub(crate) fn time(&self, number: u64) -> DateTime<Utc> {
        self.first + TimeDelta::milliseconds(i64::try_from(number).expect("a small number"))
    }

    /// The number of a message, by the timestamp in its text.
    pub(crate) fn parse(&self, timestamp: &str) -> Option<u64> {
        let time = DateTime::parse_from_rfc3339(timestamp).ok()?;
        u64::try_from((time.to_utc() - self.first).num_milliseconds()).ok()
    }

    /// The number of a message, by its payload.
    pub(crate) fn of(&self, payload: &[u8]) -> Option<u64> {
        self.parse(std::str::from_utf8(payload.get(STAMP)?).ok()?)
    }

    /// A stamper for one sender.
    pub(crate) fn stamper(&self) -> Stamper {
        Stamper { first: self.first, second: u64::MAX, text: [0; 24] }
    }
}

/// Writes stamps; formats the date only when the second changes.
pub(crate) struct Stamper {
    first: DateTime<Utc>,
    second: u64,
    text: [u8; 24],
}

impl Stamper {
    /// Sets the stamp of a payload.
    pub(crate) fn stamp(&mut self, payload: &mut [u8], number: u64) {
        let (second, mut millis) = (number / 1_000, number % 1_000);
        if second != self.second {
            let time = self.first + TimeDelta::seconds(i64::try_from(second).expect("a small number"));
            self.text.copy_from_slice(time.format("%Y-%m-%dT%H:%M:%S.000Z").to_string().as_bytes());
            self.second = second;
        }
        for digit in self.text[20..23].iter_mut().rev() {
            *digit = b'0' + u8::try_from(millis % 10).expect("one digit");
            millis /= 10;
        }
        payload[STAMP].copy_from_slice(&self.text);
    }
}
