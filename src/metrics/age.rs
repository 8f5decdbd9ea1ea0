//! A gauge of the seconds since an instant.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;

/// The seconds since an instant, computed when the gauge is read; 0 while there is no instant. All clones share it.
#[derive(Debug, Clone)]
pub struct Age {
    origin: Instant,
    /// Milliseconds from `origin` to the instant, plus 1; 0 for none.
    since: Arc<AtomicU64>,
}

impl Default for Age {
    fn default() -> Self {
        Self { origin: Instant::now(), since: Arc::default() }
    }
}

impl Age {
    /// Counts from an instant.
    pub fn count_from(&self, since: Instant) {
        let millis = since.saturating_duration_since(self.origin).as_millis();
        self.since.store(u64::try_from(millis).unwrap_or(u64::MAX).saturating_add(1), Ordering::Relaxed);
    }

    /// Back to 0.
    pub fn clear(&self) {
        self.since.store(0, Ordering::Relaxed);
    }

    /// The time since the instant.
    pub fn get(&self) -> Option<Duration> {
        let millis = self.since.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.origin.elapsed().saturating_sub(Duration::from_millis(millis)))
    }
}

impl EncodeMetric for Age {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_gauge(&self.get().unwrap_or_default().as_secs_f64())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_counts_from_the_instant_until_it_is_cleared() {
        let age = Age::default();
        assert_eq!(age.get(), None);
        age.clone().count_from(age.origin);
        assert!(age.get().is_some());
        age.count_from(Instant::now() + Duration::from_secs(60));
        assert_eq!(age.get(), Some(Duration::ZERO), "it is never negative");
        age.clear();
        assert_eq!(age.get(), None);
    }
}
