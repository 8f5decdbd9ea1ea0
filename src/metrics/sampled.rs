//! A gauge whose value is looked up when it is read.

use std::fmt;
use std::sync::{Arc, OnceLock};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::{MetricType, TypedMetric};

type Source = Box<dyn Fn() -> f64 + Send + Sync>;

/// A gauge that asks its source for the value; 0 without a source. All clones share the source.
#[derive(Clone, Default)]
pub struct Sampled(Arc<OnceLock<Source>>);

impl Sampled {
    /// Sets the source, which must not wait. The first one stays.
    pub fn read_from(&self, source: impl Fn() -> f64 + Send + Sync + 'static) {
        let _ = self.0.set(Box::new(source));
    }

    fn get(&self) -> f64 {
        self.0.get().map_or(0.0, |source| source())
    }
}

impl fmt::Debug for Sampled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sampled").field(&self.get()).finish()
    }
}

impl TypedMetric for Sampled {
    const TYPE: MetricType = MetricType::Gauge;
}

impl EncodeMetric for Sampled {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_gauge(&self.get())
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_is_that_of_the_source_at_each_reading() {
        let (gauge, source) = (Sampled::default(), Arc::new(std::sync::atomic::AtomicU32::new(3)));
        assert_eq!(gauge.get(), 0.0);
        let read = source.clone();
        gauge.clone().read_from(move || f64::from(read.load(std::sync::atomic::Ordering::Relaxed)));
        assert_eq!(gauge.get(), 3.0);
        source.store(4, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(gauge.get(), 4.0);
    }
}
