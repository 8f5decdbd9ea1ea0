//! A gauge of what another program reports, if it does.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::{MetricType, TypedMetric};

const NOTHING: i64 = i64::MIN;

/// A number that was reported; NaN before the first report. All clones share it.
#[derive(Debug, Clone)]
pub struct Reported(Arc<AtomicI64>);

impl Default for Reported {
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(NOTHING)))
    }
}

impl Reported {
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// As [`Reported::set`]; NaN for `None`.
    pub fn set_or_clear(&self, value: Option<i64>) {
        self.set(value.unwrap_or(NOTHING));
    }

    /// The last report.
    pub fn get(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|value| *value != NOTHING)
    }
}

impl TypedMetric for Reported {
    const TYPE: MetricType = MetricType::Gauge;
}

impl EncodeMetric for Reported {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_gauge(&self.get().map_or(f64::NAN, |value| value as f64))
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_reported_at_first() {
        let gauge = Reported::default();
        assert_eq!(gauge.get(), None);
        gauge.clone().set(0);
        assert_eq!(gauge.get(), Some(0));
    }
}
