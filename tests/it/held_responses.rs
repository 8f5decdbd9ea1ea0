//! Memory of responses that clients do not read: an account and an address have a limit, and everything is returned.

#![expect(clippy::unwrap_used, reason = "what does not open fails the test")]

use std::time::Duration;

use serde_json::{Value, json};
use smarthome::http::Limits;
use smarthome::request_memory::MemoryLimits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::edge::{Edge, Reply};
use super::support::{PATIENCE, until};

/// A response of 2 MiB and a few bytes.
const LARGE: &str = "{ text(kib: 2048) }";
/// A response of almost the largest size.
const LARGEST: &str = "{ text(kib: 8000) }";
/// The receive buffer of clients that read slowly or not at all, in bytes.
const RECEIVE_BUFFER: u32 = 64 << 10;

/// Room for two large responses of an account, three of an address.
fn small(limits: &mut Limits) {
    limits.memory = MemoryLimits { per_user: 5 << 20, per_address: 7 << 20, in_all: 64 << 20 };
}

fn bearer(edge: &Edge, user: i64) -> String {
    format!("\r\nAuthorization: Bearer {}", edge.token(user, Duration::from_secs(600)))
}

/// Sends a query and reads nothing.
async fn ask(edge: &Edge, user: i64, query: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(RECEIVE_BUFFER).unwrap();
    let mut tcp = socket.connect(edge.addr).await.unwrap();
    let body = json!({ "query": query }).to_string();
    let head = format!(
        "POST /graphql HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json{}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        bearer(edge, user),
        body.len()
    );
    tcp.write_all(head.as_bytes()).await.unwrap();
    tcp
}

/// Asks for large responses of a user until this many bytes are held.
async fn hold(edge: &Edge, user: i64, n: usize) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for _ in 0..n {
        let before = edge.metrics.request_memory.get();
        held.push(ask(edge, user, LARGE).await);
        until("the response is held", || edge.metrics.request_memory.get() >= before + (1 << 20)).await;
    }
    held
}

async fn large_of(edge: &Edge, user: i64) -> Reply {
    edge.post(&bearer(edge, user), &json!({ "query": LARGE })).await
}

fn assert_refused(reply: &Reply) {
    assert_eq!((reply.status, reply.code().as_str()), (429, "RATE_LIMITED"), "{}", reply.head);
    assert!(reply.head.contains("\r\nretry-after: 15\r\n"), "{}", reply.head);
    let error = &reply.json()["errors"][0];
    assert_eq!(error["extensions"]["retryAfterSeconds"], 15);
    assert_eq!(reply.json()["data"], Value::Null);
}

#[tokio::test]
async fn an_account_that_reads_nothing_is_refused_further_large_responses() {
    let edge = Edge::with(small, true).await;
    let held = hold(&edge, 7, 2).await;
    assert_refused(&large_of(&edge, 7).await);
    // Small responses and other accounts are served; another one meets the limit of the address.
    let hello = edge.post(&bearer(&edge, 7), &json!({"query": "{ hello }"})).await;
    assert_eq!((hello.status, &hello.json()["data"]["hello"]), (200, &json!("world")));
    let reply = large_of(&edge, 8).await;
    assert_eq!((reply.status, reply.body.len()), (200, (2 << 20) + 20));
    until("the response that was read is not held", || edge.metrics.request_memory.get() < 5 << 20).await;
    let more = hold(&edge, 8, 1).await;
    assert_refused(&large_of(&edge, 9).await);
    let metrics = edge.metrics.render();
    for reason in ["MEMORY_PER_USER", "MEMORY_PER_ADDRESS"] {
        assert!(metrics.contains(&format!("smarthome_quota_exceeded_total{{reason=\"{reason}\"}} 1")), "{reason}");
    }
    // Read by one client, abandoned by the others.
    drop(more);
    let mut rest = Vec::new();
    let [mut first, second] = <[TcpStream; 2]>::try_from(held).unwrap();
    tokio::time::timeout(PATIENCE, first.read_to_end(&mut rest)).await.expect("all of it").unwrap();
    assert!(rest.len() > 2 << 20);
    drop(second);
    until("all memory is returned", || edge.metrics.request_memory.get() == 0).await;
    assert_eq!(large_of(&edge, 7).await.status, 200);
}

#[tokio::test]
async fn a_refused_account_that_reads_nothing_is_refused_large_operations_before_they_run() {
    let edge = Edge::with(small, true).await;
    // Large by its complexity; what it really takes is known only after it ran.
    let large = async |user| {
        let query = json!({"query": "{ node { leaves(first: 150) { id } } }"});
        edge.post(&bearer(&edge, user), &query).await
    };
    let held = hold(&edge, 7, 2).await;
    assert_eq!(large(7).await.status, 200, "nothing was refused");
    assert_refused(&large_of(&edge, 7).await);
    assert_refused(&large(7).await);
    let hello = edge.post(&bearer(&edge, 7), &json!({"query": "{ hello }"})).await;
    assert_eq!((hello.status, large(8).await.status), (200, 200), "small ones, and other accounts");
    drop(held);
    until("all memory is returned", || edge.metrics.request_memory.get() == 0).await;
    assert_eq!(large(7).await.status, 200);
}

#[tokio::test]
async fn compressed_responses_and_sockets_count_too() {
    let edge = Edge::with(small, true).await;
    let headers = format!("{}\r\nAccept-Encoding: gzip", bearer(&edge, 7));
    let reply = edge.post(&headers, &json!({ "query": LARGE })).await;
    assert!(reply.status == 200 && reply.head.contains("content-encoding: gzip"), "{}", reply.head);
    let _held = hold(&edge, 7, 2).await;
    let token = format!("Bearer {}", edge.token(7, Duration::from_secs(600)));
    let mut socket = edge.socket("graphql-transport-ws", &[("authorization", &token)]).await.unwrap();
    socket.send_json(&json!({"type": "connection_init"})).await;
    assert_eq!(socket.receive_json().await["type"], "connection_ack");
    socket.subscribe("q", LARGE).await;
    let refused = socket.receive_json().await;
    assert_eq!(refused["payload"]["errors"][0]["extensions"]["code"], "RATE_LIMITED", "{refused}");
    assert_eq!(socket.receive_json().await["type"], "complete");
}

/// Reads `n_bytes` of a socket at 640 KiB a second: a whole response takes longer than a stall may last.
async fn read_steadily(tcp: &mut TcpStream, n_bytes: usize) -> usize {
    let (mut ticks, mut chunk, mut n_read) = (tokio::time::interval(Duration::from_millis(50)), vec![0; 32 << 10], 0);
    while n_read < n_bytes {
        ticks.tick().await;
        match tcp.read(&mut chunk).await {
            Ok(n) if n > 0 => n_read += n,
            _ => break,
        }
    }
    n_read
}

#[tokio::test]
async fn a_socket_that_reads_steadily_receives_a_large_response_and_one_that_reads_nothing_is_closed() {
    let change = |limits: &mut Limits| {
        limits.slow_peer_stall = Duration::from_secs(2);
    };
    let edge = Edge::with(change, true).await;
    let token = format!("Bearer {}", edge.token(7, Duration::from_secs(600)));
    let open = async || {
        let mut socket = edge.socket("graphql-transport-ws", &[("authorization", &token)]).await.unwrap();
        socket.send_json(&json!({"type": "connection_init"})).await;
        assert_eq!(socket.receive_json().await["type"], "connection_ack");
        socket.subscribe("q", LARGEST).await;
        socket
    };
    let silent = open().await;
    until("it is disconnected", || edge.n_sockets() == 0).await;
    drop(silent);
    let mut steady = open().await;
    assert!(read_steadily(steady.tcp(), 8_000 << 10).await >= 8_000 << 10);
    assert_eq!(edge.n_sockets(), 1);
    // And the socket goes on.
    steady.subscribe("next", "{ hello }").await;
    until("it is read", || edge.metrics.request_memory.get() == 0).await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_disconnected_and_a_slow_steady_one_is_not() {
    let change = |limits: &mut Limits| {
        limits.slow_peer_window = Duration::from_secs(4);
        limits.slow_peer_min_bytes = 16 << 10;
        limits.slow_peer_stall = Duration::from_secs(2);
    };
    let edge = Edge::with(change, true).await;
    let silent = ask(&edge, 7, LARGEST).await;
    until("it is connected", || edge.metrics.http_connections.get() == 1).await;
    until("it is disconnected", || edge.metrics.http_connections.get() == 0).await;
    assert_eq!(edge.metrics.request_memory.get(), 0);
    drop(silent);
    // 160 KiB a second, for longer than the window.
    let mut steady = ask(&edge, 7, LARGEST).await;
    let (mut ticks, mut chunk) = (tokio::time::interval(Duration::from_millis(50)), vec![0; 8 << 10]);
    let mut n_read = 0;
    for _ in 0..90 {
        ticks.tick().await;
        n_read += steady.read_exact(&mut chunk).await.unwrap();
    }
    assert_eq!((edge.metrics.http_connections.get(), n_read), (1, 720 << 10));
}
