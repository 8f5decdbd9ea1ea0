//! A histogram of durations.
//!
//! `prometheus_client::metrics::histogram::Histogram` takes a lock for each observation. Here an observation is an addition
//! to a bucket and one to the sum, and many observations of one place are added up before they are shared.

use std::array::from_fn;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Upper bounds of the buckets, in microseconds: half a millisecond to a minute. Longer times are in one more bucket.
const BOUNDS: [u64; 16] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000, 30_000_000, 60_000_000,
];
const N_BUCKETS: usize = BOUNDS.len() + 1;

/// Counts durations by buckets. Cheap to clone; all clones share the counts.
#[derive(Debug, Clone, Default)]
pub struct Latency(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    buckets: [AtomicU64; N_BUCKETS],
    /// The sum of all durations, in microseconds.
    sum: AtomicU64,
}

impl Default for Shared {
    fn default() -> Self {
        Self { buckets: from_fn(|_| AtomicU64::default()), sum: AtomicU64::default() }
    }
}

/// Observes the time from its creation until it is dropped.
#[derive(Debug)]
pub struct Timer {
    latency: Latency,
    began: Instant,
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.latency.observe(self.began.elapsed());
    }
}

impl Latency {
    /// Observes the time until the timer is dropped.
    #[must_use]
    pub fn start(&self) -> Timer {
        Timer { latency: self.clone(), began: Instant::now() }
    }

    pub fn observe(&self, duration: Duration) {
        let micros = as_micros(duration);
        self.0.buckets[bucket(micros)].fetch_add(1, Ordering::Relaxed);
        self.0.sum.fetch_add(micros, Ordering::Relaxed);
    }

    /// Observes the times from these instants until now. The clock is read only if there is one.
    pub fn observe_since(&self, instants: impl Iterator<Item = Instant>) {
        let mut now = None;
        for instant in instants {
            self.observe(now.get_or_insert_with(Instant::now).saturating_duration_since(instant));
        }
    }

    /// Observes many at once, in microseconds.
    pub fn observe_all(&self, micros: impl Iterator<Item = u64>) {
        let (mut buckets, mut sum) = ([0; N_BUCKETS], 0_u64);
        for micros in micros {
            buckets[bucket(micros)] += 1;
            sum = sum.saturating_add(micros);
        }
        for (shared, n) in self.0.buckets.iter().zip(buckets).filter(|(_, n)| *n > 0) {
            shared.fetch_add(n, Ordering::Relaxed);
        }
        self.0.sum.fetch_add(sum, Ordering::Relaxed);
    }
}

fn as_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn bucket(micros: u64) -> usize {
    BOUNDS.iter().position(|bound| micros <= *bound).unwrap_or(BOUNDS.len())
}

fn seconds(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64()
}

impl TypedMetric for Latency {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Latency {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        // The encoder writes the last bound as `+Inf`.
        let bounds = BOUNDS.into_iter().map(seconds).chain([f64::MAX]);
        let counts = self.0.buckets.iter().map(|n| n.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let count = buckets.iter().map(|(_, n)| n).sum();
        encoder.encode_histogram::<NoLabelSet>(seconds(self.0.sum.load(Ordering::Relaxed)), count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn durations_are_counted_by_the_bound_that_they_do_not_exceed() {
        let (latency, mut registry, mut text) = (Latency::default(), Registry::default(), String::new());
        registry.register("t", "T", latency.clone());
        latency.observe(Duration::from_millis(40));
        latency.observe(Duration::from_micros(500));
        latency.observe_all([501, 40_000, 61_000_000].into_iter());
        encode(&mut text, &registry).unwrap();
        for line in [
            "t_sum 61.081001",
            "t_count 5",
            "t_bucket{le=\"0.0005\"} 1",
            "t_bucket{le=\"0.001\"} 2",
            "t_bucket{le=\"0.025\"} 2",
            "t_bucket{le=\"0.05\"} 4",
            "t_bucket{le=\"60.0\"} 4",
            "t_bucket{le=\"+Inf\"} 5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}
