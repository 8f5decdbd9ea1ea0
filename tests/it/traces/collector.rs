//! A collector of OpenTelemetry: it receives spans by OTLP over HTTP, in protobuf.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
pub(super) use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::TcpListener;

use crate::support::eventually;

/// What it has received.
#[derive(Default)]
struct Received {
    spans: Vec<Span>,
    /// `service.name` of the last request.
    service: String,
    /// The header `authorization` of the last request.
    authorization: String,
}

pub(super) struct Collector {
    /// For `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub(super) endpoint: String,
    received: Arc<Mutex<Received>>,
}

impl Collector {
    pub(super) async fn start() -> Self {
        let received = Arc::<Mutex<Received>>::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
        let router = Router::new().route("/v1/traces", post(receive)).with_state(received.clone());
        tokio::spawn(async { axum::serve(listener, router).await });
        Self { endpoint, received }
    }

    /// The spans of the trace that has a span with this name, once it has as many.
    pub(super) async fn trace_with(&self, name: &str, n_spans: usize) -> Vec<Span> {
        eventually(&format!("a trace of {n_spans} spans with {name}"), async || {
            let received = self.received.lock().expect("the spans");
            let trace = &received.spans.iter().find(|span| span.name == name)?.trace_id;
            let spans: Vec<Span> = received.spans.iter().filter(|span| span.trace_id == *trace).cloned().collect();
            (spans.len() >= n_spans).then_some(spans)
        })
        .await
    }

    /// The name of the service and the header `authorization` of the last request.
    pub(super) fn sender(&self) -> (String, String) {
        let received = self.received.lock().expect("the spans");
        (received.service.clone(), received.authorization.clone())
    }
}

async fn receive(
    State(received): State<Arc<Mutex<Received>>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Vec<u8>, StatusCode> {
    if headers.get("content-type").is_none_or(|kind| kind != "application/x-protobuf") {
        return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    let request = ExportTraceServiceRequest::decode(body).map_err(|_| StatusCode::BAD_REQUEST)?;
    let mut received = received.lock().expect("the spans");
    let authorization = headers.get("authorization").and_then(|value| value.to_str().ok());
    received.authorization = authorization.unwrap_or_default().to_owned();
    for of_resource in request.resource_spans {
        let resource = of_resource.resource.map(|resource| resource.attributes).unwrap_or_default();
        received.service = text(&resource, "service.name").unwrap_or_default();
        received.spans.extend(of_resource.scope_spans.into_iter().flat_map(|of_scope| of_scope.spans));
    }
    // An empty `ExportTraceServiceResponse`.
    Ok(Vec::new())
}

/// An attribute as text.
pub(super) fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let attribute = attributes.iter().find(|attribute| attribute.key == key)?;
    match attribute.value.as_ref()?.value.as_ref()? {
        any_value::Value::StringValue(text) => Some(text.clone()),
        any_value::Value::IntValue(number) => Some(number.to_string()),
        _ => None,
    }
}

/// An id as logs have it.
pub(super) fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
