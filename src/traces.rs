//! Traces of requests and of a share of the MQTT messages, to a collector of OpenTelemetry.
//!
//! Code measures its own times and records a span when it has ended; nothing waits for a span. Invariants: without a
//! collector nothing is recorded, and a span that does not fit into the queue is dropped and counted.

mod collector;
mod context;
mod export;
mod sampling;
mod span;

use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use opentelemetry::InstrumentationScope;
use opentelemetry_sdk::trace::SpanData;
use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::metrics::{Metrics, Reason};
use crate::settings::{SettingsError, TraceSettings};
pub use context::{RequestTrace, TraceContext};
pub use export::Exporter;
use sampling::Sampling;
pub use span::{Span, SpanKind};

/// Spans that wait for the exporter: some 2 MiB.
const QUEUE_SPANS: usize = 4_096;

const QUEUE_FULL: &str = "QUEUE_FULL";
const EXPORT_FAILED: &str = "EXPORT_FAILED";
/// Why spans were dropped: the labels of the metric.
pub const DROPPED_SPANS: [&str; 2] = [QUEUE_FULL, EXPORT_FAILED];

/// Records spans; `Default` records none. Cheap to clone.
#[derive(Clone, Default)]
pub struct Traces(Option<Arc<Recorder>>);

struct Recorder {
    sampling: Sampling,
    scope: InstrumentationScope,
    spans: mpsc::Sender<SpanData>,
    clock: Clock,
    metrics: Metrics,
}

impl Traces {
    /// What records spans, and what sends them to the collector.
    pub fn new(settings: &TraceSettings, clock: Clock, metrics: Metrics) -> Result<(Self, Exporter), SettingsError> {
        let (spans, recorded) = mpsc::channel(QUEUE_SPANS);
        let exporter = Exporter::new(settings, recorded, metrics.clone())?;
        let scope = InstrumentationScope::builder("smarthome").with_version(env!("CARGO_PKG_VERSION")).build();
        let sampling = Sampling::new(settings);
        Ok((Self(Some(Arc::new(Recorder { sampling, scope, spans, clock, metrics }))), exporter))
    }

    /// Whether there is a collector.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Begins the trace of a message, if the message is sampled.
    pub fn begin_message(&self) -> Option<TraceContext> {
        self.0.as_ref()?.sampling.begin_message()
    }

    /// Begins or continues the trace of a request, if it is sampled. `traceparent` is the header of W3C Trace Context.
    pub fn begin_request(&self, traceparent: Option<&[u8]>) -> Option<RequestTrace> {
        self.0.as_ref()?.sampling.begin_request(traceparent)
    }

    /// The time of an instant by the server's clock.
    pub fn time_of(&self, instant: Instant) -> DateTime<Utc> {
        let Some(recorder) = &self.0 else { return DateTime::UNIX_EPOCH };
        let ago = TimeDelta::from_std(instant.elapsed()).unwrap_or_default();
        recorder.clock.now() - ago
    }

    /// Records the span with which a message's trace begins.
    pub fn record_message(&self, context: TraceContext, span: Span) {
        self.record(|scope| span.of_root(context, scope));
    }

    /// Records the span of a request.
    pub fn record_request(&self, trace: &RequestTrace, span: Span) {
        self.record(|scope| span.of_request(trace, scope));
    }

    /// Records a span below another one.
    pub fn record_child(&self, parent: TraceContext, span: Span) {
        self.record(|scope| span.of_child(parent, scope));
    }

    fn record(&self, span: impl FnOnce(InstrumentationScope) -> SpanData) {
        let Some(recorder) = &self.0 else { return };
        if recorder.spans.try_send(span(recorder.scope.clone())).is_err() {
            recorder.metrics.spans_dropped.get_or_create(&Reason { reason: QUEUE_FULL }).inc();
        }
    }
}
