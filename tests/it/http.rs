//! GraphQL over HTTP: the public audit, the status of every error, streams over HTTP, and connections that waste
//! resources.

#![expect(clippy::unwrap_used, reason = "what can't be read fails the test")]

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::edge::Edge;
use super::support::PATIENCE;
use super::support::node::node;

#[tokio::test]
async fn the_public_audit_passes_with_and_without_a_token() {
    let edge = Edge::start().await;
    let url = format!("http://{}/graphql", edge.addr);
    for arguments in [vec![url.clone()], vec![url, edge.token(7, Duration::from_secs(60))]] {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = node("audit.mjs", &arguments).await;
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
        assert!(text.contains(r#"{"ok":61,"notice":0,"warn":0,"error":0}"#), "{text}");
    }
}

#[tokio::test]
async fn each_error_has_its_status_and_its_code() {
    let edge = Edge::start().await;
    const JSON: &str = "\r\nContent-Type: application/json";
    const STREAM: &str = "\r\nContent-Type: application/json\r\nAccept: text/event-stream";
    let good = br#"{"query":"{hello}"}"#.as_slice();
    let long_query = json!({"query": " ".repeat(17 << 10)}).to_string().into_bytes();
    let large = vec![b' '; (256 << 10) + 1];
    let table: &[(&str, &str, &[u8], u16, &str)] = &[
        ("POST /graphql", JSON, good, 200, ""),
        ("POST /graphql", "", good, 415, "BAD_USER_INPUT"),
        ("POST /graphql", "\r\nContent-Type: text/plain", good, 415, "BAD_USER_INPUT"),
        ("POST /graphql", "\r\nContent-Type: application/json; charset=utf-16", good, 415, "BAD_USER_INPUT"),
        ("POST /graphql", "\r\nContent-Type: multipart/form-data; boundary=x", good, 415, "BAD_USER_INPUT"),
        ("POST /graphql", "\r\nContent-Type: application/json\r\nAccept: text/html", good, 406, "BAD_USER_INPUT"),
        ("POST /graphql", STREAM, br#"{"query":"{"}"#, 400, "BAD_USER_INPUT"),
        ("POST /graphql", STREAM, br#"{"query":"{a}","operationName":"B"}"#, 400, "BAD_USER_INPUT"),
        ("POST /graphql", STREAM, &long_query, 413, "PAYLOAD_TOO_LARGE"),
        ("POST /graphql", JSON, &large, 413, "PAYLOAD_TOO_LARGE"),
        ("POST /graphql", JSON, b"{\"query\":\"\xff\"}", 400, "BAD_USER_INPUT"),
        ("POST /graphql", JSON, b"[{\"query\":\"{hello}\"}]", 400, "BAD_USER_INPUT"),
        ("POST /graphql", JSON, b"{}", 400, "BAD_USER_INPUT"),
        ("POST /graphql", JSON, b"", 400, "BAD_USER_INPUT"),
        ("POST /graphql", JSON, br#"{"query":"subscription{once}"}"#, 406, "BAD_USER_INPUT"),
        ("PUT /graphql", JSON, good, 405, "BAD_USER_INPUT"),
        ("DELETE /livez", "", b"", 405, "BAD_USER_INPUT"),
        ("GET /graphql?query=%7Bhello%7D", "", b"", 200, ""),
        ("GET /graphql?query=mutation%7Bbump(by:1)%7D", "", b"", 405, "BAD_USER_INPUT"),
        ("GET /graphql", "", b"", 400, "BAD_USER_INPUT"),
        ("GET /nothing", "", b"", 404, "NOT_FOUND"),
        ("GET /livez", "", b"", 200, ""),
        ("GET /readyz", "", b"", 200, ""),
        ("GET /health", "", b"", 200, ""),
        ("GET /metrics", "", b"", 200, ""),
        ("GET /schema.graphql", "", b"", 200, ""),
        (
            "POST /graphql",
            "\r\nContent-Type: application/json\r\nAuthorization: Bearer x",
            good,
            401,
            "UNAUTHENTICATED",
        ),
        (
            "POST /graphql",
            "\r\nContent-Type: application/json\r\nAuthorization: Basic eDp5",
            good,
            401,
            "UNAUTHENTICATED",
        ),
        ("POST /graphql", "\r\nContent-Type: application/json\r\nAuthorization: Bearer ", good, 401, "UNAUTHENTICATED"),
    ];
    for (line, headers, body, status, code) in table {
        let reply = edge.request(&format!("{line} HTTP/1.1{headers}"), body).await;
        assert_eq!((reply.status, reply.code().as_str()), (*status, *code), "{line} {headers}: {}", reply.head);
        assert!(reply.head.contains("x-content-type-options: nosniff") && reply.head.contains("x-request-id: "));
        assert_eq!(reply.head.contains("allow: "), *status == 405, "{line}");
        assert!(status / 100 == 2 || reply.head.contains("application/json"), "{line}");
    }
}

#[tokio::test]
async fn a_mutation_by_get_is_told_which_method_it_needs() {
    let edge = Edge::start().await;
    let reply = edge.request("GET /graphql?query=mutation%7Bbump(by:1)%7D HTTP/1.1", b"").await;
    assert_eq!(reply.json()["errors"][0]["message"], "a mutation needs the method POST");
    assert!(reply.head.contains("allow: post"), "{}", reply.head);
}

#[tokio::test]
async fn internal_errors_have_a_code_and_reveal_nothing() {
    let edge = Edge::start().await;
    for (query, status, code, data) in [
        ("{ uncoded }", 200, "INTERNAL", true),
        ("{ panics }", 200, "INTERNAL", true),
        ("{ never }", 200, "UNAVAILABLE", true),
        ("{ me }", 200, "UNAUTHENTICATED", true),
        ("{ nothing }", 400, "BAD_USER_INPUT", false),
        ("{ echo(text: 7) }", 400, "BAD_USER_INPUT", false),
        ("{ hello", 400, "BAD_USER_INPUT", false),
        ("query A { hello } query B { hello }", 400, "BAD_USER_INPUT", false),
        ("mutation { a: login(password: \"1\") b: login(password: \"2\") }", 400, "BAD_USER_INPUT", false),
    ] {
        let reply = edge.query(query).await;
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{query}: {}", reply.json());
        assert_eq!(reply.json().get("data").is_some(), data, "{query}");
        let text = String::from_utf8_lossy(&reply.body);
        assert!(!text.contains("hunter2") && !text.contains("on purpose"), "{text}");
    }
    // The server survives the panic.
    assert_eq!(edge.query("{ hello }").await.json()["data"]["hello"], "world");
}

#[tokio::test]
async fn a_token_identifies_a_viewer_until_it_expires() {
    let edge = Edge::start().await;
    let header = format!("\r\nAuthorization: Bearer {}", edge.token(7, Duration::from_secs(60)));
    let reply = edge.post(&header, &json!({"query": "{ me }"})).await;
    assert_eq!(reply.json(), json!({"data": {"me": "7"}}));
    edge.clock.advance(chrono::TimeDelta::seconds(61));
    let reply = edge.post(&header, &json!({"query": "{ me }"})).await;
    assert_eq!((reply.status, reply.code().as_str()), (401, "UNAUTHENTICATED"));
    assert!(reply.head.contains("www-authenticate: bearer"));
}

#[tokio::test]
async fn a_persisted_document_is_found_by_its_hash() {
    use sha2::Digest;
    let edge = Edge::start().await;
    let query = "query ($t: String!) { echo(text: $t) }";
    let hash: String = sha2::Sha256::digest(query).iter().map(|byte| format!("{byte:02x}")).collect();
    let extensions = json!({"persistedQuery": {"version": 1, "sha256Hash": hash}});
    let by_hash = json!({"variables": {"t": "hi"}, "extensions": extensions});
    assert_eq!(edge.post("", &by_hash).await.code(), "PERSISTED_QUERY_NOT_FOUND");
    let both = json!({"query": query, "variables": {"t": "hi"}, "extensions": extensions});
    for body in [&both, &by_hash] {
        assert_eq!(edge.post("", body).await.json(), json!({"data": {"echo": "hi"}}));
    }
    let wrong = json!({"query": "{ hello }", "extensions": extensions});
    assert_eq!(edge.post("", &wrong).await.code(), "BAD_USER_INPUT");
}

#[tokio::test]
async fn introspection_works_in_full_and_can_be_turned_off() {
    const FULL: &str = include_str!("introspection.graphql");
    let on = Edge::start().await.query(FULL).await;
    assert_eq!(on.json()["data"]["__schema"]["queryType"]["name"], "Query", "{}", on.json());
    let off = Edge::with(|_| {}, false).await;
    for query in
        [FULL, "{ __type(name: \"Query\") { name } }", "{ ...F } fragment F on Query { __schema { description } }"]
    {
        assert_eq!(off.query(query).await.code(), "FORBIDDEN", "{query}");
    }
    assert_eq!(off.query("{ __typename }").await.json()["data"]["__typename"], "Query");
}

/// Sends a request and reads until the response contains `until`, or ends.
async fn read_until(edge: &Edge, head: &str, body: &str, until: &str) -> (String, TcpStream) {
    let mut tcp = TcpStream::connect(edge.addr).await.unwrap();
    let head = format!("{head}\r\nHost: {}\r\nContent-Length: {}\r\n\r\n{body}", edge.addr, body.len());
    tcp.write_all(head.as_bytes()).await.unwrap();
    let mut text = String::new();
    let mut chunk = [0; 4096];
    while !text.contains(until) {
        let read = tokio::time::timeout(PATIENCE, tcp.read(&mut chunk)).await.expect("more in time").unwrap();
        assert_ne!(read, 0, "ended without {until:?}: {text}");
        text.push_str(std::str::from_utf8(&chunk[..read]).unwrap());
    }
    (text, tcp)
}

#[tokio::test]
async fn server_sent_events_carry_subscriptions_and_queries() {
    let edge = Edge::with(|limits| limits.heartbeat = Duration::from_millis(50), true).await;
    let head = "POST /graphql HTTP/1.1\r\nContent-Type: application/json\r\nAccept: text/event-stream";
    let body = json!({"query": "subscription { count(to: 2) }"}).to_string();
    let (text, _) = read_until(&edge, head, &body, "event: complete\ndata:\n\n").await;
    assert!(text.to_lowercase().contains("content-type: text/event-stream"));
    assert!(text.contains("event: next\ndata: {\"data\":{\"count\":1}}\n\n"), "{text}");
    let body = json!({"query": "mutation { bump(by: 1) }"}).to_string();
    let (text, _) = read_until(&edge, head, &body, "event: complete").await;
    assert!(text.contains("{\"data\":{\"bump\":2}}"));
    // By GET, for EventSource; heartbeats while nothing happens; the subscription ends when the client disconnects.
    let get = "GET /graphql?query=subscription%7Bonce%7D HTTP/1.1\r\nAccept: text/event-stream";
    let (text, tcp) = read_until(&edge, get, "", ":\n\n\r\n3\r\n:\n\n").await;
    assert!(text.contains("{\"data\":{\"once\":1}}"));
    assert_eq!(edge.live.count(), 1);
    drop(tcp);
    edge.all_streams_end().await;
}

#[tokio::test]
async fn multipart_subscriptions_are_delimited_and_kept_alive() {
    let edge = Edge::with(|limits| limits.heartbeat = Duration::from_millis(50), true).await;
    let head = "POST /graphql HTTP/1.1\r\nContent-Type: application/json\r\n\
                Accept: multipart/mixed;boundary=\"graphql\";subscriptionSpec=1.0,application/json";
    let body = json!({"query": "subscription { count(to: 1) }"}).to_string();
    let (text, _) = read_until(&edge, head, &body, "0\r\n\r\n").await;
    assert!(text.to_lowercase().contains("content-type: multipart/mixed;boundary=\"-\";subscriptionspec=\"1.0\""));
    assert!(text.contains("\r\n---"), "{text}");
    assert!(
        text.contains("Content-Type: application/json\r\n\r\n{\"payload\":{\"data\":{\"count\":0}}}\r\n---"),
        "{text}"
    );
    assert!(text.contains("--\r\n"));
    let body = json!({"query": "subscription { once }"}).to_string();
    read_until(&edge, head, &body, "\r\n\r\n{}\r\n---").await;
    // A query of the same client gets a plain response.
    let (text, _) = read_until(&edge, head, r#"{"query":"{hello}"}"#, "world").await;
    assert!(text.to_lowercase().contains("content-type: application/json"));
}

#[tokio::test]
async fn a_stream_over_http_ends_when_its_token_expires_and_when_the_server_stops() {
    let edge = Edge::start().await;
    let token = edge.token(7, Duration::from_secs(3));
    let body = json!({"query": "subscription { once }"}).to_string();
    let anonymous = "POST /graphql HTTP/1.1\r\nContent-Type: application/json\r\nAccept: text/event-stream";
    let head = format!("{anonymous}\r\nAuthorization: Bearer {token}");
    let (_, mut tcp) = read_until(&edge, &head, &body, "once").await;
    let mut rest = [0; 4096];
    let read = tokio::time::timeout(Duration::from_secs(4), tcp.read(&mut rest)).await.expect("it expires").unwrap();
    assert!(std::str::from_utf8(&rest[..read]).unwrap().contains("UNAUTHENTICATED"));

    let (_, mut tcp) = read_until(&edge, anonymous, &body, "once").await;
    edge.stop.cancel();
    let mut rest = String::new();
    tokio::time::timeout(PATIENCE, tcp.read_to_string(&mut rest)).await.expect("the stream ends").unwrap();
    assert!(!rest.contains("complete") && !rest.ends_with("0\r\n\r\n"), "it does not look finished: {rest}");
    edge.tracker.close();
    tokio::time::timeout(PATIENCE, edge.tracker.wait()).await.expect("the server drains");
}

#[tokio::test]
async fn silent_and_slow_connections_are_closed() {
    let edge = Edge::with(
        |limits| {
            limits.header_timeout = Duration::from_millis(200);
            limits.idle_timeout = Duration::from_millis(200);
            limits.body_timeout = Duration::from_millis(200);
            limits.slow_peer_window = Duration::from_millis(300);
        },
        true,
    )
    .await;
    let post = "POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{";
    let flood = json!({"query": "subscription { flood }"}).to_string();
    let stalled = format!(
        "POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAccept: text/event-stream\r\n\
         Content-Length: {}\r\n\r\n{flood}",
        flood.len()
    );
    for opening in ["", "POST /gra", "GET /livez HTTP/1.1\r\nHost: x\r\n", post, &stalled] {
        let mut tcp = TcpStream::connect(edge.addr).await.unwrap();
        tcp.write_all(opening.as_bytes()).await.unwrap();
        // Reads nothing until the server has closed the connection.
        let cut = async {
            while edge.metrics.http_connections.get() == 0 {
                tokio::task::yield_now().await;
            }
            while edge.metrics.http_connections.get() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, cut).await.unwrap_or_else(|_| panic!("{opening:?} stays open"));
        let mut answer = Vec::new();
        let _ = tcp.read_to_end(&mut answer).await;
        if opening == post {
            assert!(answer.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&answer));
        }
    }
    edge.all_streams_end().await;
}

/// Otherwise the next request of a proxy or of a busy client meets the end of its connection.
#[tokio::test]
async fn a_connection_that_was_used_outlives_one_that_asks_nothing() {
    let edge = Edge::with(|limits| limits.header_timeout = Duration::from_millis(200), true).await;
    let mut used = TcpStream::connect(edge.addr).await.unwrap();
    is_answered(&mut used).await;
    let mut silent = TcpStream::connect(edge.addr).await.unwrap();
    let closed = tokio::time::timeout(PATIENCE, silent.read(&mut [0])).await.expect("the silent connection is closed");
    assert_eq!(closed.unwrap_or(0), 0);
    is_answered(&mut used).await;

    let edge = Edge::with(|limits| limits.idle_timeout = Duration::from_millis(200), true).await;
    let mut used = TcpStream::connect(edge.addr).await.unwrap();
    is_answered(&mut used).await;
    let closed = tokio::time::timeout(PATIENCE, used.read(&mut [0])).await.expect("the idle connection is closed");
    assert_eq!(closed.unwrap_or(0), 0);
}

/// Sends a request on a connection that stays open, and reads the whole response.
async fn is_answered(tcp: &mut TcpStream) {
    tcp.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut response = Vec::new();
    let whole = async {
        while !response.ends_with(b"}") {
            assert!(
                tcp.read_buf(&mut response).await.unwrap() > 0,
                "closed after {}",
                String::from_utf8_lossy(&response)
            );
        }
    };
    tokio::time::timeout(PATIENCE, whole).await.expect("a response");
    assert!(response.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&response));
}

#[tokio::test]
async fn large_headers_are_refused_and_connections_over_the_limit_wait() {
    let edge = Edge::with(|limits| limits.connections = 2, true).await;
    let many: String = (0..70).map(|n| format!("\r\nX-{n}: 1")).collect();
    assert_eq!(edge.request(&format!("GET /livez HTTP/1.1{many}"), b"").await.status, 431);
    let long = "x".repeat(40 << 10);
    assert_eq!(edge.request(&format!("GET /livez HTTP/1.1\r\nX: {long}"), b"").await.status, 431);

    let first = edge.ready().await;
    let _second = edge.ready().await;
    // Sockets hold both slots: the next connection waits until one is free.
    let third = edge.request("GET /livez HTTP/1.1", b"");
    tokio::pin!(third);
    while edge.metrics.http_connections_full.get() == 0 {
        tokio::select! {
            reply = &mut third => panic!("{reply:?}"),
            () = tokio::task::yield_now() => {}
        }
    }
    drop(first);
    assert_eq!(third.await.status, 200);
}

#[tokio::test]
async fn one_peer_can_not_take_all_connections() {
    let edge = Edge::with(|limits| limits.connections_per_peer = 2, true).await;
    let first = edge.ready().await;
    let _second = edge.ready().await;
    let mut third = TcpStream::connect(edge.addr).await.unwrap();
    let cut = tokio::time::timeout(PATIENCE, third.read(&mut [0])).await.expect("it is closed at once");
    assert!(matches!(cut, Ok(0) | Err(_)), "{cut:?}");
    assert_eq!(edge.metrics.http_connections_cut.get(), 1);
    drop(first);
    let freed = async {
        while edge.n_sockets() > 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, freed).await.expect("the server notices");
    let answered = async {
        // The slot is released a moment after the socket is closed.
        while edge.request("GET /livez HTTP/1.1", b"").await.status != 200 {}
    };
    tokio::time::timeout(PATIENCE, answered).await.expect("a slot is free");
}

#[tokio::test]
async fn http_2_in_clear_text_is_not_supported() {
    let edge = Edge::start().await;
    let mut tcp = TcpStream::connect(edge.addr).await.unwrap();
    tcp.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, tcp.read_to_end(&mut answer)).await.expect("it is closed");
    let is_frame = answer.get(3) == Some(&4);
    assert!(!is_frame && !answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(edge.request("GET /livez HTTP/1.1", b"").await.status, 200);
}
