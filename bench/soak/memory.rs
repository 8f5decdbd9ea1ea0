//! Resident memory over time.

use std::time::Duration;

use crate::table::Table;

/// The part of the time after which memory must be flat.
const WARM_UP: u32 = 3;
/// Longest warm-up.
const MOST_WARM_UP: Duration = Duration::from_secs(600);

#[derive(Default)]
pub(super) struct Samples {
    /// Time since the start, and KiB.
    samples: Vec<(Duration, u64)>,
    highest: u64,
}

impl Samples {
    pub(super) fn add(&mut self, at: Duration, kib: u64, highest: u64) {
        self.samples.push((at, kib));
        self.highest = highest;
    }

    /// Adds the rows about them.
    pub(super) fn rows(&self, table: &mut Table, what: &str) {
        let time = self.samples.last().map(|(at, _)| *at).unwrap_or_default();
        let warm_up = (time / WARM_UP).min(MOST_WARM_UP);
        let warm: Vec<_> = self.samples.iter().filter(|(at, _)| *at >= warm_up).collect();
        let kib = |sample: Option<&(Duration, u64)>| sample.map(|(_, kib)| *kib).unwrap_or_default();
        let [first, then, last] = [self.samples.first(), warm.first().copied(), self.samples.last()].map(kib).map(mib);
        let measured = format!("{first}, {then} after {} s, {last} at the end", warm_up.as_secs());
        table.row(&format!("{what}: memory"), &measured, &format!("highest {}", mib(self.highest)), None, "");

        let sizes = || warm.iter().map(|(_, kib)| *kib);
        let (least, most) = (sizes().min().unwrap_or_default(), sizes().max().unwrap_or_default());
        let measured = format!("{:+.1} MB an hour", slope(&warm) / 1_024.0);
        table.row(
            "the same: slope after the warm-up",
            &measured,
            &format!("{} to {}", mib(least), mib(most)),
            None,
            "flat",
        );
    }
}

/// KiB an hour, by least squares.
#[expect(clippy::cast_precision_loss, reason = "sizes and counts of a run")]
fn slope(samples: &[&(Duration, u64)]) -> f64 {
    let n = samples.len() as f64;
    let points = || samples.iter().map(|(at, kib)| (at.as_secs_f64() / 3_600.0, *kib as f64));
    let mean = |sum: f64| sum / n;
    let (hours, size) = (mean(points().map(|(x, _)| x).sum()), mean(points().map(|(_, y)| y).sum()));
    let covariance: f64 = points().map(|(x, y)| (x - hours) * (y - size)).sum();
    let variance: f64 = points().map(|(x, _)| (x - hours).powi(2)).sum();
    if variance > 0.0 { covariance / variance } else { 0.0 }
}

pub(super) fn mib(kib: u64) -> String {
    format!("{:.1} MB", f64::from(u32::try_from(kib).unwrap_or(u32::MAX)) / 1_024.0)
}
