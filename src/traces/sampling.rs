//! Which requests and messages have a trace.

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanKind, TraceContextExt, TraceFlags, TraceId, TraceState};
use opentelemetry_sdk::trace::{Sampler, SamplingDecision, ShouldSample};

use super::context::{Caller, RequestTrace, TraceContext};
use crate::settings::{TraceSampler, TraceSettings};

pub(super) struct Sampling {
    sampler: Sampler,
    /// The share of messages that the sampler is asked about.
    message_ratio: f64,
}

impl Sampling {
    pub(super) fn new(settings: &TraceSettings) -> Self {
        let TraceSampler { is_parent_based, ratio } = settings.sampler;
        let of_roots = Sampler::TraceIdRatioBased(ratio);
        let sampler = if is_parent_based { Sampler::ParentBased(Box::new(of_roots)) } else { of_roots };
        Self { sampler, message_ratio: settings.message_ratio }
    }

    pub(super) fn begin_message(&self) -> Option<TraceContext> {
        if fastrand::f64() >= self.message_ratio {
            return None;
        }
        let context = TraceContext::begin();
        self.samples(context.trace(), None).then_some(context)
    }

    pub(super) fn begin_request(&self, traceparent: Option<&[u8]>) -> Option<RequestTrace> {
        let caller = traceparent.and_then(Caller::parse);
        let context = caller.as_ref().map_or_else(TraceContext::begin, |caller| TraceContext::within(caller.trace));
        let is_sampled = self.samples(context.trace(), caller.as_ref());
        is_sampled.then(|| RequestTrace { context, caller: caller.map(|caller| caller.span) })
    }

    fn samples(&self, trace: TraceId, caller: Option<&Caller>) -> bool {
        let caller = caller.map(|Caller { span, is_sampled, .. }| {
            let flags = if *is_sampled { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED };
            Context::new().with_remote_span_context(SpanContext::new(trace, *span, flags, true, TraceState::NONE))
        });
        let result = self.sampler.should_sample(caller.as_ref(), trace, "", &SpanKind::Server, &[], &[]);
        result.decision == SamplingDecision::RecordAndSample
    }
}
