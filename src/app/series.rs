//! The labelled series of the metrics. Each is there from the start: of a series that begins with its first event, Prometheus
//! does not see the event.

use crate::commands::{CommandOutbox, CommandStatus};
use crate::device_config::ConfigOutbox;
use crate::graphql::OperationKind;
use crate::http;
use crate::ingest::{BATCH_STEPS, IGNORED_ANSWERS};
use crate::mail;
use crate::metrics::{Kind, Metrics, OutboxLabel, Reason, Status, Step};
use crate::mqtt::Rejection;
use crate::outbox::Outbox;
use crate::request_memory::MEMORY_QUOTAS;
use crate::traces::DROPPED_SPANS;
use crate::turns;

/// Begins all series, with zero.
pub(super) fn begin(metrics: &Metrics) {
    for reason in Rejection::ALL {
        drop(metrics.mqtt_rejected.get_or_create(&Reason { reason: reason.as_str() }));
    }
    for status in CommandStatus::ALL {
        drop(metrics.commands.get_or_create(&Status { status: status.as_str() }));
    }
    for reason in IGNORED_ANSWERS {
        drop(metrics.command_answers_ignored.get_or_create(&Reason { reason }));
    }
    for reason in mail::FAILURES {
        drop(metrics.mails_failed.get_or_create(&Reason { reason }));
    }
    for reason in DROPPED_SPANS {
        drop(metrics.spans_dropped.get_or_create(&Reason { reason }));
    }
    for outbox in [CommandOutbox::NAME, ConfigOutbox::NAME] {
        drop(metrics.outbox_pending.get_or_create(&OutboxLabel { outbox }));
    }
    for step in BATCH_STEPS {
        drop(metrics.ingest_steps.get_or_create(&Step { step }));
    }
    for kind in OperationKind::ALL {
        drop(metrics.graphql_operations.get_or_create(&Kind { kind: kind.name() }));
    }
    for reason in MEMORY_QUOTAS.into_iter().chain([turns::REASON]) {
        drop(metrics.quota_exceeded.get_or_create(&Reason { reason }));
    }
    http::begin_series(metrics);
}
