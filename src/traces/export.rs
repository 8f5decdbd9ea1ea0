//! Sends the recorded spans to the collector, in batches.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::EXPORT_FAILED;
use super::collector::{CollectorClient, LastFailure};
use crate::metrics::{Metrics, Reason};
use crate::settings::{SettingsError, TraceSettings};

/// Spans of one request.
const MAX_BATCH: usize = 512;
/// How long the first span of a batch waits for others.
const MAX_BATCH_AGE: Duration = Duration::from_secs(1);
/// How often a failure is logged.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// Takes spans from the queue and sends them.
pub struct Exporter {
    spans: mpsc::Receiver<SpanData>,
    exporter: SpanExporter,
    failure: LastFailure,
    logged_at: Option<Instant>,
    metrics: Metrics,
}

impl Exporter {
    /// Connects to nothing yet.
    pub(super) fn new(
        settings: &TraceSettings,
        spans: mpsc::Receiver<SpanData>,
        metrics: Metrics,
    ) -> Result<Self, SettingsError> {
        let client = CollectorClient::new(settings)?;
        let failure = client.last_failure();
        let headers = settings.headers.iter().map(|(name, value)| (name.clone(), value.reveal().to_owned()));
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(settings.endpoint.as_str())
            .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
            .with_timeout(settings.timeout)
            .with_headers(headers.collect())
            .build();
        let mut exporter = exporter.map_err(|error| SettingsError {
            name: "OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(),
            problem: error.to_string(),
        })?;
        exporter.set_resource(&resource(settings));
        Ok(Self { spans, exporter, failure, logged_at: None, metrics })
    }

    /// Sends spans until `stop`, then those that wait.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(MAX_BATCH);
        while stop.run_until_cancelled(self.fill(&mut batch)).await.is_some() {
            self.export(std::mem::take(&mut batch)).await;
        }
        loop {
            while let Some(span) = (batch.len() < MAX_BATCH).then(|| self.spans.try_recv().ok()).flatten() {
                batch.push(span);
            }
            if batch.is_empty() {
                return;
            }
            self.export(std::mem::take(&mut batch)).await;
        }
    }

    /// Takes spans until the batch is full or its first span has waited. Cancel safe: they stay in the batch.
    async fn fill(&mut self, batch: &mut Vec<SpanData>) {
        if self.spans.recv_many(batch, MAX_BATCH).await == 0 {
            // Every recorder is gone: the server stops.
            return std::future::pending().await;
        }
        let full = async {
            while batch.len() < MAX_BATCH {
                let n_free = MAX_BATCH - batch.len();
                if self.spans.recv_many(batch, n_free).await == 0 {
                    return;
                }
            }
        };
        tokio::select! {
            () = full => {}
            () = sleep(MAX_BATCH_AGE) => {}
        }
    }

    async fn export(&mut self, batch: Vec<SpanData>) {
        let n = batch.len() as u64;
        let Err(error) = self.exporter.export(batch).await else {
            self.metrics.spans_sent.inc_by(n);
            return;
        };
        self.metrics.spans_dropped.get_or_create(&Reason { reason: EXPORT_FAILED }).inc_by(n);
        // The library says only that something failed.
        let error = self.failure.take().unwrap_or_else(|| error.to_string());
        if self.logged_at.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
            self.logged_at = Some(Instant::now());
            tracing::warn!(error, "can't send traces to the collector; they are dropped");
        }
    }
}

fn resource(settings: &TraceSettings) -> Resource {
    let attributes = settings.resource.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    Resource::builder_empty()
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("telemetry.sdk.language", "rust"))
        .with_attribute(KeyValue::new("telemetry.sdk.name", "opentelemetry"))
        .with_attributes(attributes)
        .build()
}
