//! The ids of traces.

use std::fmt;

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// A trace that is recorded, and the span in it below which others belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    trace: TraceId,
    span: SpanId,
}

/// The trace of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestTrace {
    pub context: TraceContext,
    /// The client's span, if the trace is the client's.
    pub(super) caller: Option<SpanId>,
}

impl TraceContext {
    /// A new trace.
    pub(super) fn begin() -> Self {
        // Ids of zeros are invalid. They only tell traces apart, so they need no secure random numbers.
        Self { trace: TraceId::from(fastrand::u128(1..)), span: new_span() }
    }

    /// A new span of an existing trace.
    pub(super) fn within(trace: TraceId) -> Self {
        Self { trace, span: new_span() }
    }

    pub(super) fn child(self) -> Self {
        Self::within(self.trace)
    }

    pub(super) fn trace(self) -> TraceId {
        self.trace
    }

    pub(super) fn span(self) -> SpanId {
        self.span
    }

    pub(super) fn into_sampled(self) -> SpanContext {
        SpanContext::new(self.trace, self.span, TraceFlags::SAMPLED, false, TraceState::NONE)
    }
}

fn new_span() -> SpanId {
    SpanId::from(fastrand::u64(1..))
}

/// The id of the trace, as logs and collectors show it.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.trace)
    }
}

/// The client's part of a trace, from the header `traceparent`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) trace: TraceId,
    pub(super) span: SpanId,
    pub(super) is_sampled: bool,
}

impl Caller {
    /// `None` for a header that is not valid (W3C Trace Context, 3.2): the trace begins here then.
    pub(super) fn parse(header: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(header).ok()?.split('-');
        let [version, trace, span, flags] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
        let is_known = version == "00" && parts.next().is_none();
        // A later version may have more parts.
        let is_later = is_hex(version, 2) && version != "00" && version != "ff";
        let is_valid = (is_known || is_later) && is_hex(trace, 32) && is_hex(span, 16) && is_hex(flags, 2);
        let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
        let is_sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        (is_valid && trace != TraceId::INVALID && span != SpanId::INVALID).then_some(Self { trace, span, is_sampled })
    }
}

fn is_hex(text: &str, n: usize) -> bool {
    text.len() == n && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_valid_headers_continue_a_trace() {
        let parse = |text: &str| Caller::parse(text.as_bytes());
        let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
        let good = parse(&format!("00-{trace}-{span}-01")).unwrap();
        assert_eq!((good.trace.to_string(), good.span.to_string()), (trace.to_owned(), span.to_owned()));
        assert!(good.is_sampled && !parse(&format!("00-{trace}-{span}-00")).unwrap().is_sampled);
        assert!(parse(&format!("01-{trace}-{span}-03-later")).is_some_and(|caller| caller.is_sampled));
        for wrong in [
            String::new(),
            format!("00-{trace}-{span}"),
            format!("00-{trace}-{span}-01-more"),
            format!("ff-{trace}-{span}-01"),
            format!("00-{}-{span}-01", trace.to_uppercase()),
            format!("00-{}-{span}-01", "0".repeat(32)),
            format!("00-{trace}-{}-01", "0".repeat(16)),
            format!("00-{trace}-{span}-1"),
            format!("00-{trace}+{span}-01"),
        ] {
            assert_eq!(parse(&wrong), None, "{wrong}");
        }
        assert_eq!(Caller::parse(b"00-\xff"), None);
    }
}
