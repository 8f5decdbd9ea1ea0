//! Percentiles, medians, and numbers as people read them.

use std::time::Duration;

/// Latencies of one run.
#[derive(Default)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(crate) fn push(&mut self, latency: Duration) {
        self.0.push(latency);
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// p50 and p99.
    pub(crate) fn p50_p99(&self) -> (Duration, Duration) {
        let at = |percent| percentile(&self.0, percent).unwrap_or_default();
        (at(50), at(99))
    }
}

/// The latency that so many of a hundred are below; `None` if there is none.
pub(crate) fn percentile(latencies: &[Duration], percent: usize) -> Option<Duration> {
    let mut sorted = latencies.to_vec();
    sorted.sort_unstable();
    sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied()
}

/// The middle one of a few figures, or the lower one of the middle two.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

/// `64,000`
pub(crate) fn thousands(figure: f64) -> String {
    let digits = format!("{figure:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The same for a count.
pub(crate) fn thousands_of(count: u64) -> String {
    thousands(per_second(count, Duration::from_secs(1)))
}

/// `0.05 / 0.20 ms`
pub(crate) fn pair((p50, p99): (Duration, Duration)) -> String {
    format!("{:.2} / {}", p50.as_secs_f64() * 1_000.0, millis(p99))
}

/// `0.20 ms`
pub(crate) fn millis(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1_000.0)
}

/// `n` of something in this time, as a rate.
#[expect(clippy::cast_precision_loss, reason = "counts of a run")]
pub(crate) fn per_second(n: u64, time: Duration) -> f64 {
    n as f64 / time.as_secs_f64()
}
