//! A span that has ended.

use std::time::SystemTime;

use chrono::{DateTime, Utc};
pub use opentelemetry::trace::SpanKind;
use opentelemetry::trace::{SpanId, Status};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::context::{RequestTrace, TraceContext};

/// What happened from one time to another.
pub struct Span {
    name: String,
    kind: SpanKind,
    began: DateTime<Utc>,
    ended: DateTime<Utc>,
    attributes: Vec<KeyValue>,
    is_failed: bool,
}

/// Where a span belongs.
#[derive(Clone, Copy)]
struct Place {
    context: TraceContext,
    parent: SpanId,
    parent_is_remote: bool,
}

impl Span {
    /// Work inside the server.
    pub fn new(name: impl Into<String>, began: DateTime<Utc>, ended: DateTime<Utc>) -> Self {
        let (name, kind) = (name.into(), SpanKind::Internal);
        // The clock may have been set back.
        Self { name, kind, began, ended: ended.max(began), attributes: Vec::new(), is_failed: false }
    }

    #[must_use]
    pub fn of_kind(self, kind: SpanKind) -> Self {
        Self { kind, ..self }
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.attributes.push(KeyValue::new(key, value));
        self
    }

    /// Adds an attribute if there is a value.
    #[must_use]
    pub fn with_some(self, key: &'static str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// Marks the work as failed by a fault of the server.
    #[must_use]
    pub fn failed(self, is_failed: bool) -> Self {
        Self { is_failed, ..self }
    }

    pub(super) fn of_root(self, context: TraceContext, scope: InstrumentationScope) -> SpanData {
        self.at(Place { context, parent: SpanId::INVALID, parent_is_remote: false }, scope)
    }

    pub(super) fn of_request(self, trace: &RequestTrace, scope: InstrumentationScope) -> SpanData {
        let parent = trace.caller.unwrap_or(SpanId::INVALID);
        self.at(Place { context: trace.context, parent, parent_is_remote: trace.caller.is_some() }, scope)
    }

    pub(super) fn of_child(self, parent: TraceContext, scope: InstrumentationScope) -> SpanData {
        self.at(Place { context: parent.child(), parent: parent.span(), parent_is_remote: false }, scope)
    }

    fn at(self, place: Place, scope: InstrumentationScope) -> SpanData {
        SpanData {
            span_context: place.context.into_sampled(),
            parent_span_id: place.parent,
            parent_span_is_remote: place.parent_is_remote,
            span_kind: self.kind,
            name: self.name.into(),
            start_time: SystemTime::from(self.began),
            end_time: SystemTime::from(self.ended),
            attributes: self.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: if self.is_failed { Status::error("") } else { Status::Unset },
            instrumentation_scope: scope,
        }
    }
}
