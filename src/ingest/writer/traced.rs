//! The spans of messages that have a trace.

use std::collections::HashSet;

use chrono::{DateTime, Utc};

use super::RunningWriter;
use crate::ids::DeviceId;
use crate::ingest::batch::{Batch, ClassifiedMessage, Outcome};
use crate::traces::{Span, SpanKind, TraceContext};

/// Steps of a batch that are kept. A batch that is tried for long has more: these are the first ones.
const MAX_STEPS: usize = 16;

/// When the messages of a batch were taken from the queue, and the steps since.
#[derive(Default)]
pub(super) struct BatchTimes {
    taken_at: DateTime<Utc>,
    steps: Vec<(&'static str, DateTime<Utc>, DateTime<Utc>)>,
}

impl BatchTimes {
    pub(super) fn begin(&mut self, now: DateTime<Utc>) {
        self.taken_at = now;
        self.steps.clear();
    }

    pub(super) fn add_step(&mut self, step: &'static str, began: DateTime<Utc>, ended: DateTime<Utc>) {
        if self.steps.len() < MAX_STEPS {
            self.steps.push((step, began, ended));
        }
    }
}

impl RunningWriter {
    /// Records the traced messages of a committed batch, and adds those that will be acknowledged. Messages of deleted devices
    /// are committed later.
    pub(super) fn record_committed(
        &self,
        batch: &Batch,
        deleted: &HashSet<DeviceId>,
        acknowledged: &mut Vec<TraceContext>,
    ) {
        for message in &batch.messages {
            let Some(trace) = message.envelope.trace else { continue };
            if message.device.is_some_and(|device| deleted.contains(&device)) {
                continue;
            }
            self.record_message(trace, message);
            acknowledged.extend(message.envelope.pending_ack.is_some().then_some(trace));
        }
    }

    fn record_message(&self, trace: TraceContext, message: &ClassifiedMessage) {
        let envelope = &message.envelope;
        self.traces.record_child(trace, Span::new("queue", envelope.received_at, self.times.taken_at));
        for (step, began, ended) in &self.times.steps {
            self.traces.record_child(trace, Span::new(*step, *began, *ended));
        }
        let kind = envelope.topic.kind().map_or("message", |kind| kind.as_str());
        let rejection = match &message.outcome {
            Outcome::Rejected { reason, .. } => Some(reason.as_str()),
            _ => None,
        };
        let span = Span::new(format!("process {kind}"), envelope.received_at, self.clock.now())
            .of_kind(SpanKind::Consumer)
            .with("messaging.system", "mqtt")
            .with("messaging.operation.type", "process")
            .with_some("smarthome.home.id", message.outcome.home().map(|home| home.to_string()))
            .with_some("smarthome.device.id", message.device.map(|device| device.to_string()))
            .with_some("error.type", rejection);
        self.traces.record_message(trace, span);
    }
}
