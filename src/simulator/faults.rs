//! What goes wrong with real devices, on purpose and by dice of its own: the readings of a seed
//! stay the same with and without faults.

use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

const LOSS: f64 = 0.01;
const DUP: f64 = 0.02;
const WRONG_CLOCKS: f64 = 0.2;
const RECONNECT_MEAN_S: f64 = 60.0;

/// How often each fault strikes; zero is never.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Faults {
    /// Share of readings that are measured and never sent.
    pub loss: f64,
    /// Share of messages that the device sends twice, byte for byte.
    pub dup: f64,
    /// Share of devices whose clock is wrong after a boot (1970, hours behind, or days ahead).
    pub clock: f64,
    /// Mean seconds until a link is cut without a DISCONNECT, so that the Last Will goes out.
    pub reconnect: f64,
}

/// `loss,dup,clock,reconnect`, each with an optional `=value`.
impl FromStr for Faults {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut faults = Self::default();
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let (name, value) = item.split_once('=').map_or((item, None), |(name, value)| (name, Some(value)));
            let (field, default, most) = match name {
                "loss" => (&mut faults.loss, LOSS, 1.0),
                "dup" => (&mut faults.dup, DUP, 1.0),
                "clock" => (&mut faults.clock, WRONG_CLOCKS, 1.0),
                "reconnect" => (&mut faults.reconnect, RECONNECT_MEAN_S, 86_400.0),
                _ => return Err(format!("unknown fault {name:?}: expected loss, dup, clock or reconnect")),
            };
            *field = match value {
                None => default,
                Some(value) => value
                    .parse()
                    .ok()
                    .filter(|v| (0.0..=most).contains(v))
                    .ok_or_else(|| format!("{name}: expected a number from 0 to {most}"))?,
            };
        }
        Ok(faults)
    }
}

/// Decides when a fault strikes.
pub(crate) struct Dice {
    faults: Faults,
    rng: fastrand::Rng,
}

impl Dice {
    /// Dice of their own for one device or one connection.
    pub(crate) fn new(faults: Faults, seed: u64, index: u64) -> Self {
        Self { faults, rng: fastrand::Rng::with_seed(!seed ^ index.wrapping_mul(0xD1B5_4A32_D192_ED03)) }
    }

    /// Whether this reading is never sent.
    pub(crate) fn loses(&mut self) -> bool {
        self.faults.loss > 0.0 && self.rng.f64() < self.faults.loss
    }

    /// Whether this message goes out twice.
    pub(crate) fn doubles(&mut self) -> bool {
        self.faults.dup > 0.0 && self.rng.f64() < self.faults.dup
    }

    /// How the clock is wrong after this boot.
    pub(crate) fn clock(&mut self) -> WrongClock {
        if self.faults.clock <= 0.0 || self.rng.f64() >= self.faults.clock {
            return WrongClock::default();
        }
        match self.rng.u8(..3) {
            0 => WrongClock::SinceEpoch,
            1 => WrongClock::Off(TimeDelta::minutes(-self.rng.i64(5..600))),
            _ => WrongClock::Off(TimeDelta::minutes(self.rng.i64(10..5_000))),
        }
    }

    /// How long this link lives, if it is to be cut.
    pub(crate) fn link_life(&mut self) -> Option<Duration> {
        let mean = self.faults.reconnect;
        (mean > 0.0).then(|| Duration::from_secs_f64(-mean * (1.0 - self.rng.f64()).ln()))
    }
}

/// What a device takes for the time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) enum WrongClock {
    /// It is right.
    #[default]
    Right,
    /// Never set: counts from 1970 since boot.
    SinceEpoch,
    /// Set, and off by this much.
    Off(TimeDelta),
}

impl WrongClock {
    /// The device's idea of `now`.
    pub(crate) fn read(self, now: DateTime<Utc>, booted: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::Right => now,
            Self::SinceEpoch => DateTime::UNIX_EPOCH + (now - booted),
            Self::Off(by) => now + by,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_take_sensible_defaults_or_a_value() {
        let faults: Faults = "loss, reconnect=5".parse().unwrap();
        assert_eq!(faults, Faults { loss: LOSS, reconnect: 5.0, ..Faults::default() });
        assert_eq!("".parse(), Ok(Faults::default()));
        for wrong in ["fire", "loss=2", "dup=x", "loss=NaN"] {
            assert!(wrong.parse::<Faults>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn no_fault_strikes_unasked() {
        let mut dice = Dice::new(Faults::default(), 1, 1);
        assert!(!dice.loses() && !dice.doubles() && dice.link_life().is_none());
        assert_eq!(dice.clock(), WrongClock::Right);
    }
}
