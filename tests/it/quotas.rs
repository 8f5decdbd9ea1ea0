//! Quotas of one user and one address, on real sockets and streams: the next one is refused, those of others are not,
//! and everything that ends is released, however it ends.

#![expect(clippy::unwrap_used, reason = "what does not open fails the test")]

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Value, json};
use smarthome::http::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::edge::{Edge, Received, Socket};
use super::support::{PATIENCE, until};

const TRANSPORT: &str = "graphql-transport-ws";
const ONCE: &str = "subscription { once }";
const EVENTS: &str = "text/event-stream";
const MULTIPART: &str = "multipart/mixed;subscriptionSpec=1.0";

fn bearer(edge: &Edge, user: i64) -> String {
    format!("Bearer {}", edge.token(user, Duration::from_secs(600)))
}

/// A socket whose token is sent with the upgrade, or the status of the error.
async fn by_header(edge: &Edge, user: i64) -> Result<Socket, u16> {
    let mut socket = edge.socket(TRANSPORT, &[("authorization", &bearer(edge, user))]).await?;
    socket.send_json(&json!({"type": "connection_init"})).await;
    assert_eq!(socket.receive_json().await["type"], "connection_ack");
    Ok(socket)
}

/// A socket whose token is sent in its init, and the reply.
async fn by_init(edge: &Edge, user: i64) -> (Socket, Received) {
    let mut socket = edge.socket(TRANSPORT, &[]).await.unwrap();
    let payload = json!({"Authorization": bearer(edge, user)});
    socket.send_json(&json!({"type": "connection_init", "payload": payload})).await;
    let received = socket.receive().await;
    (socket, received)
}

/// A stream over HTTP that has started, or the code of the error.
async fn stream(edge: &Edge, user: Option<i64>, accept: &str) -> Result<TcpStream, String> {
    let body = json!({ "query": ONCE }).to_string();
    let token = user.map(|user| format!("Authorization: {}\r\n", bearer(edge, user))).unwrap_or_default();
    let head = format!(
        "POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAccept: {accept}\r\n{token}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut tcp = TcpStream::connect(edge.addr).await.unwrap();
    tcp.write_all(head.as_bytes()).await.unwrap();
    let (mut text, mut chunk) = (String::new(), [0; 4096]);
    while !text.contains("\"once\":1") {
        let read = tokio::time::timeout(PATIENCE, tcp.read(&mut chunk)).await.expect("more in time").unwrap();
        text.push_str(std::str::from_utf8(&chunk[..read]).unwrap());
        if let Some((head, body)) = text.split_once("\r\n\r\n").filter(|(head, _)| !head.contains(" 200 ")) {
            assert!(head.starts_with("HTTP/1.1 429 "), "{text}");
            let answer: Value = serde_json::from_str(body).unwrap();
            return Err(answer["errors"][0]["extensions"]["code"].as_str().unwrap().to_owned());
        }
    }
    Ok(tcp)
}

/// Whether a socket may start another subscription.
async fn subscribes(socket: &mut Socket, id: &str) -> bool {
    socket.subscribe(id, ONCE).await;
    let received = socket.receive_json().await;
    assert_eq!(received["id"], id);
    if received["type"] == "error" {
        assert_eq!(received["payload"][0]["extensions"]["code"], "RATE_LIMITED");
    }
    received["type"] == "next"
}

async fn edge(change: impl FnOnce(&mut Limits)) -> Edge {
    Edge::with(change, true).await
}

#[tokio::test]
async fn sockets_of_one_user_are_limited_however_they_sign_in() {
    let edge = edge(|limits| limits.sockets_per_user = 2).await;
    let first = by_header(&edge, 7).await.unwrap();
    let (mut second, received) = by_init(&edge, 7).await;
    assert!(matches!(received, Received::Json(_)), "{received:?}");
    assert_eq!(by_header(&edge, 7).await.err(), Some(429));
    let (_, refused) = by_init(&edge, 7).await;
    assert_eq!(refused, Received::Close(4429, "Too many open sockets".to_owned()));
    let other = by_header(&edge, 8).await.unwrap();
    let (_, nobody) = (edge.ready().await, edge.ready().await);
    assert!(edge.metrics.render().contains("smarthome_quota_exceeded_total{reason=\"SOCKETS_PER_USER\"} 2"));

    // By a close frame, and by dropping the connection.
    second.0.close(None).await.unwrap();
    let closed = async { while second.0.next().await.is_some() {} };
    tokio::time::timeout(PATIENCE, closed).await.expect("the server closes too");
    let (third, received) = by_init(&edge, 7).await;
    assert!(matches!(received, Received::Json(_)), "free at once: {received:?}");
    drop((first, third));
    until("both are closed", || edge.n_sockets() == 2).await;
    let again = [by_header(&edge, 7).await.unwrap(), by_header(&edge, 7).await.unwrap()];
    drop((again, other, nobody));
    until("nothing is left", || edge.n_sockets() == 0).await;
}

#[tokio::test]
async fn subscriptions_of_one_user_are_limited_over_all_transports() {
    let edge = edge(|limits| limits.subscriptions_per_user = 4).await;
    let (mut here, mut there) = (by_header(&edge, 7).await.unwrap(), by_header(&edge, 7).await.unwrap());
    assert!(subscribes(&mut here, "a").await && subscribes(&mut there, "a").await);
    let events = stream(&edge, Some(7), EVENTS).await.unwrap();
    let multipart = stream(&edge, Some(7), MULTIPART).await.unwrap();
    assert_eq!(edge.metrics.http_subscriptions.get(), 4);
    assert!(!subscribes(&mut here, "b").await);
    for accept in [EVENTS, MULTIPART] {
        assert_eq!(stream(&edge, Some(7), accept).await.err().as_deref(), Some("RATE_LIMITED"));
    }
    // Queries do not count, and another user has a quota of their own.
    here.subscribe("q", "{ hello }").await;
    assert_eq!(here.receive_json().await["payload"]["data"]["hello"], "world");
    assert_eq!(here.receive_json().await["type"], "complete");
    let mut other = by_header(&edge, 8).await.unwrap();
    assert!(subscribes(&mut other, "a").await);

    // Ended by its client: released at once.
    here.send_json(&json!({"id": "a", "type": "complete"})).await;
    assert!(subscribes(&mut here, "b").await && !subscribes(&mut here, "c").await);
    // Ended by the server, and refused by the schema.
    here.send_json(&json!({"id": "b", "type": "complete"})).await;
    here.subscribe("n", "subscription { count(to: 0) }").await;
    assert_eq!(here.receive_json().await["type"], "complete");
    here.subscribe("f", "subscription { forbidden }").await;
    assert_eq!(here.receive_json().await["type"], "error");
    assert!(subscribes(&mut here, "d").await);
    // All disconnected at once.
    drop((events, multipart, there, here));
    until("their streams are gone", || edge.metrics.http_subscriptions.get() == 1).await;
    let mut again = by_header(&edge, 7).await.unwrap();
    for id in ["1", "2", "3", "4"] {
        assert!(subscribes(&mut again, id).await);
    }
    drop((again, other));
    until("nothing is left", || edge.metrics.http_subscriptions.get() == 0 && edge.n_sockets() == 0).await;
    assert_eq!(edge.live.count(), 0);
}

#[tokio::test]
async fn one_address_is_limited_over_all_its_users() {
    let edge = edge(|limits| (limits.sockets_per_address, limits.subscriptions_per_address) = (3, 2)).await;
    let mut first = by_header(&edge, 7).await.unwrap();
    let mut second = by_header(&edge, 8).await.unwrap();
    let third = edge.ready().await;
    assert_eq!(edge.socket(TRANSPORT, &[]).await.err(), Some(429));
    assert!(subscribes(&mut first, "a").await);
    let events = stream(&edge, None, EVENTS).await.unwrap();
    assert!(!subscribes(&mut second, "a").await);
    assert_eq!(stream(&edge, Some(9), EVENTS).await.err().as_deref(), Some("RATE_LIMITED"));
    drop((events, third));
    until("their quota is released", || edge.metrics.http_subscriptions.get() == 1 && edge.n_sockets() == 2).await;
    assert!(subscribes(&mut second, "b").await);
    edge.ready().await;
}

#[tokio::test]
async fn a_stream_ended_by_its_token_is_released_before_the_client_reads_the_end() {
    let edge = edge(|limits| limits.subscriptions_per_user = 1).await;
    let open = stream(&edge, Some(7), EVENTS).await.unwrap();
    edge.clock.advance(chrono::TimeDelta::seconds(601));
    until("it has ended", || edge.metrics.http_subscriptions.get() == 0).await;
    let _another = stream(&edge, Some(7), EVENTS).await.unwrap();
    drop(open);
}
