//! A model of one board that gives plausible readings of its sensors.
//!
//! Readings depend on the seed and on the number of the reading alone, never on the wall clock, so a fleet can be run
//! again with the same values. The virtual day starts at 08:00.

use std::f64::consts::TAU;
use std::time::Duration;

use serde::Serialize;

const DAY_S: f64 = 86_400.0;
const START_OF_DAY_S: f64 = 8.0 * 3_600.0;
/// The warmest hour of a room is in the afternoon.
const WARMEST_S: f64 = 15.0 * 3_600.0;
/// A flame is seen about once in this many readings, for a few readings.
const FLAME_ONE_IN: u32 = 20_000;
const FLAME_READINGS: u32 = 5;
/// Distance from the lid sensor to the bottom of an empty bin, in cm.
const BIN_DEPTH_CM: f64 = 30.0;

/// The sensors of one message, in the order of docs/device-protocol.md.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Readings {
    current: f64,
    gas_ppm: i64,
    flame: bool,
    bin_level: f64,
    power_w: f64,
    energy_kwh: f64,
    voltage_v: f64,
    current_a: f64,
    frequency_hz: f64,
    power_factor: f64,
    distance_cm: f64,
    temperature: f64,
    humidity: f64,
}

/// The state behind the readings.
pub(crate) struct Board {
    rng: fastrand::Rng,
    elapsed_s: f64,
    room_c: f64,
    humidity: f64,
    gas: f64,
    voltage: f64,
    load_w: f64,
    bin: f64,
    energy_kwh: f64,
    battery: f64,
    signal_dbm: f64,
    flame_left: u32,
    powered: bool,
}

impl Board {
    /// The board of device number `index` of the fleet with this seed.
    pub(crate) fn new(seed: u64, index: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed ^ index.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut between = |low: f64, high: f64| low + rng.f64() * (high - low);
        Self {
            elapsed_s: 0.0,
            room_c: between(19.0, 23.0),
            humidity: between(45.0, 60.0),
            gas: between(300.0, 450.0),
            voltage: between(218.0, 232.0),
            load_w: between(20.0, 400.0),
            bin: between(0.0, 60.0),
            energy_kwh: between(1.0, 900.0),
            battery: between(60.0, 100.0),
            signal_dbm: between(-75.0, -45.0),
            flame_left: 0,
            powered: true,
            rng,
        }
    }

    /// A step of a random walk that tends back to `mean`.
    fn walk(&mut self, value: f64, mean: f64, step: f64) -> f64 {
        value + (self.rng.f64() - 0.5) * 2.0 * step + (mean - value) * 0.02
    }

    /// The next readings, `interval` after the previous ones.
    pub(crate) fn measure(&mut self, interval: Duration) -> Readings {
        let seconds = interval.as_secs_f64();
        self.elapsed_s += seconds;
        let day = ((self.elapsed_s + START_OF_DAY_S - WARMEST_S) / DAY_S * TAU).cos();

        self.flame_left = match self.flame_left {
            0 if self.rng.u32(..FLAME_ONE_IN) == 0 => FLAME_READINGS,
            left => left.saturating_sub(1),
        };
        let flame = self.flame_left > 0;
        self.room_c = self.walk(self.room_c, 21.0, 0.05);
        self.humidity = self.walk(self.humidity, 52.0, 0.2).clamp(15.0, 95.0);
        self.gas = self.walk(self.gas, if flame { 1_500.0 } else { 380.0 }, 6.0).clamp(100.0, 5_000.0);
        self.voltage = self.walk(self.voltage, 226.0, 0.3).clamp(207.0, 253.0);
        self.load_w = self.walk(self.load_w, 150.0, 8.0).clamp(2.0, 2_000.0);
        self.signal_dbm = self.walk(self.signal_dbm, -60.0, 0.8).clamp(-90.0, -35.0);
        // A bin fills in about two days and is emptied when it is full.
        self.bin = if self.bin >= 98.0 { 0.0 } else { self.bin + seconds / DAY_S * 50.0 };
        // Charged again when it is low, as a person would.
        self.battery = if self.battery <= 10.0 { 100.0 } else { self.battery - seconds / DAY_S * 4.0 };

        let power = if self.powered { self.load_w * (1.0 + 0.3 * day) } else { 0.4 };
        let factor = 0.9 + 0.08 * self.rng.f64();
        let amps = power / (self.voltage * factor);
        self.energy_kwh += power * seconds / 3_600_000.0;

        let (noise, frequency) = (self.rng.f64() * 0.02, 49.95 + self.rng.f64() * 0.1);
        Readings {
            current: round(amps + noise, 2),
            gas_ppm: whole(self.gas),
            flame,
            bin_level: round(self.bin, 1),
            power_w: round(power, 1),
            // With fewer digits the counter would show no change for hours.
            energy_kwh: round(self.energy_kwh, 4),
            voltage_v: round(self.voltage, 1),
            current_a: round(amps, 2),
            frequency_hz: round(frequency, 2),
            power_factor: round(factor, 2),
            distance_cm: round(BIN_DEPTH_CM * (1.0 - self.bin / 100.0), 1),
            temperature: round(self.room_c + 2.5 * day + if flame { 6.0 } else { 0.0 }, 1),
            humidity: round(self.humidity - 6.0 * day, 1),
        }
    }

    /// Switches the load that the board measures.
    pub(crate) fn set_power(&mut self, on: bool) {
        self.powered = on;
    }

    /// Percent.
    pub(crate) fn battery(&self) -> i64 {
        whole(self.battery)
    }

    /// dBm.
    pub(crate) fn signal(&self) -> i64 {
        whole(self.signal_dbm)
    }

    /// Free heap in bytes.
    pub(crate) fn free_memory(&self) -> i64 {
        45_000 + whole(self.signal_dbm * 13.0)
    }
}

fn round(value: f64, digits: i32) -> f64 {
    let factor = 10f64.powi(digits);
    (value * factor).round() / factor
}

#[expect(clippy::cast_possible_truncation, reason = "readings are small by construction")]
fn whole(value: f64) -> i64 {
    value.round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);

    #[test]
    fn the_same_seed_gives_the_same_readings_and_another_seed_differs() {
        let run = |seed, index| {
            let mut board = Board::new(seed, index);
            (0..100).map(|_| board.measure(INTERVAL)).collect::<Vec<_>>()
        };
        assert_eq!(run(7, 3), run(7, 3));
        assert_ne!(run(7, 3), run(8, 3));
        assert_ne!(run(7, 3), run(7, 4));
    }

    #[test]
    fn a_week_of_readings_stays_plausible_and_the_energy_counter_never_falls() {
        let mut board = Board::new(1, 1);
        let mut energy = 0.0;
        for _ in 0..20_160 {
            let r = board.measure(INTERVAL);
            assert!(r.energy_kwh >= energy, "{} after {energy}", r.energy_kwh);
            energy = r.energy_kwh;
            assert!((5.0..45.0).contains(&r.temperature), "{r:?}");
            assert!((0.0..=100.0).contains(&r.humidity) && (0.0..=100.0).contains(&r.bin_level), "{r:?}");
            assert!((200.0..=260.0).contains(&r.voltage_v) && r.current_a >= 0.0, "{r:?}");
            assert!((0.9..=0.99).contains(&r.power_factor), "{r:?}");
            assert!((0..=100).contains(&board.battery()) && (-100..0).contains(&board.signal()));
        }
    }
}
