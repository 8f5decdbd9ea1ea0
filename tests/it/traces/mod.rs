//! Traces of messages and requests, as a collector receives them.

mod collector;

use std::time::Instant;

use serde_json::{Value, json};

use crate::support::app::{Database, TestApp};
use crate::support::http;
use crate::support::server::Server;
use crate::support::services::services;
use crate::support::until;
use crate::support::user::User;
use collector::{Collector, Span, hex, text};

const READING: &str = r#"{"sensors": {"temperature": 21.5}}"#;
const JSON: (&str, &str) = ("content-type", "application/json");

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let mut found = spans.iter().filter(|span| span.name == name);
    let span = found.next().unwrap_or_else(|| panic!("no span {name} in {spans:?}"));
    assert!(found.next().is_none(), "{name} twice in {spans:?}");
    span
}

fn attribute(span: &Span, key: &str) -> Option<String> {
    text(&span.attributes, key)
}

/// A server whose log is JSON, and its collector.
async fn server(overrides: &[(&str, &str)]) -> (Database, Server) {
    let database = Database::create().await;
    let overrides = [&[("LOG_FORMAT", "json")], overrides].concat();
    let server = Server::start(&database.url(), services().mqtt_port(), &overrides).await;
    (database, server)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reading_has_one_trace_from_its_receipt_to_the_socket() {
    let collector = Collector::start().await;
    let app = TestApp::builder()
        .set("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint)
        .set("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20canary")
        .set("OTEL_SERVICE_NAME", "the hub")
        .set("TRACE_MESSAGE_RATIO", "1")
        .start()
        .await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "sensor").await;
    let query = "subscription ($home: ID!) { homeTelemetry(homeId: $home) { id } }";
    let mut events = owner.subscribe(query, json!({"home": home.id})).await;
    until("the subscription runs", || app.metric("subscriptions") == 1.0).await;
    app.publish(&device, "telemetry", READING).await;
    events.next().await;

    let spans = collector.trace_with("deliver", 6).await;
    let root = named(&spans, "process telemetry");
    assert!(root.parent_span_id.is_empty(), "{root:?}");
    for name in ["queue", "look_up", "insert", "acknowledge", "deliver"] {
        let span = named(&spans, name);
        assert_eq!(span.parent_span_id, root.span_id, "{span:?}");
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{span:?}");
    }
    assert_eq!(spans.len(), 6, "{spans:?}");
    // One after the other, by the same instants as the histograms.
    let (queue, look_up) = (named(&spans, "queue"), named(&spans, "look_up"));
    let (insert, deliver) = (named(&spans, "insert"), named(&spans, "deliver"));
    assert_eq!(queue.start_time_unix_nano, root.start_time_unix_nano);
    assert!(queue.end_time_unix_nano <= look_up.start_time_unix_nano, "{queue:?} {look_up:?}");
    assert!(look_up.end_time_unix_nano <= insert.start_time_unix_nano, "{look_up:?} {insert:?}");
    assert!(insert.end_time_unix_nano <= root.end_time_unix_nano, "{insert:?} {root:?}");
    assert!(root.end_time_unix_nano <= deliver.start_time_unix_nano, "{root:?} {deliver:?}");
    assert_eq!(attribute(root, "messaging.system").as_deref(), Some("mqtt"));
    assert_eq!(attribute(root, "smarthome.device.id"), Some(device.id));
    assert_eq!(attribute(root, "smarthome.home.id"), Some(home.id));
    assert_eq!(attribute(deliver, "smarthome.transport").as_deref(), Some("websocket"));
    assert_eq!(collector.sender(), ("the hub".to_owned(), "Bearer canary".to_owned()));

    // The operation on the socket belongs to the trace of its request.
    let spans = collector.trace_with("subscription", 2).await;
    let (request, operation) = (named(&spans, "GET /graphql"), named(&spans, "subscription"));
    assert_eq!(operation.parent_span_id, request.span_id);
    assert_eq!(attribute(request, "http.response.status_code").as_deref(), Some("101"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_message_has_its_reason_in_its_trace() {
    let collector = Collector::start().await;
    let app = TestApp::builder()
        .set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", format!("{}/v1/traces", collector.endpoint))
        .set("TRACE_MESSAGE_RATIO", "1")
        .start()
        .await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "sensor").await;
    app.publish(&device, "status", "no JSON").await;
    let metrics = app.app().services().metrics.clone();
    until("the message is rejected", || metrics.mqtt_rejected_total.get() == 1).await;
    // What waits is sent at the stop.
    app.stop().await;
    let spans = collector.trace_with("process status", 4).await;
    let root = named(&spans, "process status");
    assert_eq!(attribute(root, "error.type").as_deref(), Some("BAD_JSON"), "{root:?}");
    assert_eq!(collector.sender().0, "smarthome");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_continues_the_trace_of_its_client_and_logs_its_id() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    let collector = Collector::start().await;
    let (_database, server) = server(&[("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str())]).await;
    let user = User::register(server.addr()).await;
    let token = format!("Bearer {}", user.token().expect("a token"));
    let traceparent = format!("00-{TRACE}-b7ad6b7169203331-01");
    let headers = [JSON, ("authorization", token.as_str()), ("traceparent", traceparent.as_str())];
    let body = json!({"query": "query Others { home(id: \"4711\") { id } }"}).to_string();
    let answer = http::request(server.addr(), "POST", "/graphql", &headers, body.as_bytes()).await;
    assert_eq!((answer.status, answer.header("x-request-id")), (200, Some(TRACE)));

    let spans = collector.trace_with("query", 2).await;
    let (request, query) = (named(&spans, "POST /graphql"), named(&spans, "query"));
    assert_eq!(
        (hex(&request.trace_id), hex(&request.parent_span_id)),
        (TRACE.to_owned(), "b7ad6b7169203331".to_owned())
    );
    assert_eq!(query.parent_span_id, request.span_id);
    for (key, expected) in [
        ("http.request.method", "POST"),
        ("http.route", "/graphql"),
        ("http.response.status_code", "200"),
        ("graphql.operation.type", "query"),
        ("graphql.operation.name", "Others"),
        ("error.type", "NOT_FOUND"),
        ("user.id", user.id.as_str()),
    ] {
        assert_eq!(attribute(request, key).as_deref(), Some(expected), "{request:?}");
    }

    until("the refusal is logged", || server.log().contains(TRACE)).await;
    let log = server.log();
    let line = log.lines().find(|line| line.contains(TRACE)).expect("the line");
    let refused: Value = serde_json::from_str(line).expect("JSON");
    assert_eq!(refused["message"], "request refused", "{refused}");
    assert_eq!((&refused["span"]["trace.id"], &refused["span"]["request.id"]), (&json!(TRACE), &json!(TRACE)));
    assert!(!spans.iter().any(|span| format!("{span:?}").contains(user.token().expect("a token"))));

    // A client whose own trace is not sampled has none here, either.
    let headers = [("traceparent", "00-11111111111111111111111111111111-2222222222222222-00")];
    let answer = http::request(server.addr(), "POST", "/graphql", &headers, b"{}").await;
    assert!(answer.header("x-request-id").is_some_and(|id| id.len() == 36), "{:?}", answer.header("x-request-id"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_collector_the_server_goes_on_and_counts_the_spans_that_it_drops() {
    // Nothing listens at a port that was free a moment ago.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
    drop(listener);
    let overrides = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer canary"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "200"),
        ("TRACE_MESSAGE_RATIO", "1"),
    ];
    let (_database, mut server) = server(&overrides).await;
    let user = User::register(server.addr()).await;
    let dropped = async || {
        let metrics = http::request(server.addr(), "GET", "/metrics", &[], b"").await.text();
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("smarthome_spans_dropped_total{reason=\"EXPORT_FAILED\"} "));
        line.expect("the metric").parse::<f64>().expect("a number")
    };
    let began = Instant::now();
    while dropped().await < 2.0 {
        user.query("{ me { id } }", json!({})).await;
        assert!(began.elapsed().as_secs() < 30, "no span was dropped: {}", server.log());
    }
    let n_lines = || server.log().lines().filter(|line| line.contains("can't send traces")).count();
    until("the log says so", || n_lines() > 0).await;
    // A second failure is not logged within a minute.
    let before = dropped().await;
    while dropped().await <= before {
        user.query("{ me { id } }", json!({})).await;
        assert!(began.elapsed().as_secs() < 55, "no more spans were dropped");
    }
    assert_eq!(n_lines(), 1, "{}", server.log());
    assert!(!server.log().contains("canary"), "{}", server.log());
    assert!(server.stop().await.success());
}
