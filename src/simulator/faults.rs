//! Faults of real devices, injected on purpose. Faults have random numbers of their own: the readings of a seed are
//! the same with and without faults.

use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::shares::{self, Share};

/// Longest mean time of a connection.
const MAX_MEAN_S: f64 = 86_400.0;

/// How often each fault occurs; zero means never.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Faults {
    /// Share of readings that are measured and never sent.
    pub loss: f64,
    /// Share of messages that the device sends twice, byte for byte.
    pub dup: f64,
    /// Share of devices whose clock is wrong after a boot (1970, hours behind, or days ahead).
    pub clock: f64,
    /// Mean seconds until a connection breaks without a DISCONNECT, so that the broker sends the Last Will.
    pub reconnect: f64,
}

/// `loss,dup,clock,reconnect`, each with an optional `=value`.
impl FromStr for Faults {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut faults = Self::default();
        shares::parse(
            text,
            &mut [
                Share::new("loss", &mut faults.loss, 0.01, 1.0),
                Share::new("dup", &mut faults.dup, 0.02, 1.0),
                Share::new("clock", &mut faults.clock, 0.2, 1.0),
                Share::new("reconnect", &mut faults.reconnect, 60.0, MAX_MEAN_S),
            ],
        )?;
        Ok(faults)
    }
}

/// Decides when a fault of one device occurs.
pub(crate) struct FaultInjector {
    faults: Faults,
    rng: fastrand::Rng,
}

impl FaultInjector {
    pub(crate) fn new(faults: Faults, seed: u64, device: u64) -> Self {
        Self { faults, rng: fastrand::Rng::with_seed(!seed ^ device.wrapping_mul(0xD1B5_4A32_D192_ED03)) }
    }

    /// Whether this reading is never sent.
    pub(crate) fn loses_reading(&mut self) -> bool {
        self.faults.loss > 0.0 && self.rng.f64() < self.faults.loss
    }

    /// Whether this message is sent twice.
    pub(crate) fn duplicates_message(&mut self) -> bool {
        self.faults.dup > 0.0 && self.rng.f64() < self.faults.dup
    }

    /// The error of the clock after this boot.
    pub(crate) fn clock_error(&mut self) -> ClockError {
        if self.faults.clock <= 0.0 || self.rng.f64() >= self.faults.clock {
            return ClockError::default();
        }
        match self.rng.u8(..3) {
            0 => ClockError::NeverSet,
            1 => ClockError::Off(TimeDelta::minutes(-self.rng.i64(5..600))),
            _ => ClockError::Off(TimeDelta::minutes(self.rng.i64(10..5_000))),
        }
    }

    /// Time after which this connection breaks; `None` for never.
    pub(crate) fn connection_lifetime(&mut self) -> Option<Duration> {
        let mean = self.faults.reconnect;
        (mean > 0.0).then(|| Duration::from_secs_f64(-mean * (1.0 - self.rng.f64()).ln()))
    }
}

/// The error of a device's clock.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) enum ClockError {
    #[default]
    None,
    /// It counts from 1970 since boot.
    NeverSet,
    Off(TimeDelta),
}

impl ClockError {
    /// The time that the device reports.
    pub(crate) fn apply(self, now: DateTime<Utc>, booted: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::None => now,
            Self::NeverSet => DateTime::UNIX_EPOCH + (now - booted),
            Self::Off(by) => now + by,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_defaults_or_a_value() {
        let faults: Faults = "loss, reconnect=5".parse().unwrap();
        assert_eq!(faults, Faults { loss: 0.01, reconnect: 5.0, ..Faults::default() });
        assert_eq!("".parse(), Ok(Faults::default()));
        for wrong in ["fire", "loss=2", "dup=x", "loss=NaN"] {
            assert!(wrong.parse::<Faults>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn no_fault_is_the_default() {
        let mut injector = FaultInjector::new(Faults::default(), 1, 1);
        assert!(!injector.loses_reading() && !injector.duplicates_message());
        assert_eq!((injector.connection_lifetime(), injector.clock_error()), (None, ClockError::None));
    }
}
