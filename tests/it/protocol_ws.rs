//! Every close code and race of the `graphql-transport-ws` protocol, the legacy protocol, and the limits of a socket,
//! against the real accept loop. W1 to W15 are the lines of the reliability checklist.

#![expect(clippy::unwrap_used, reason = "a socket that does not open fails the test")]

mod peers;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use smarthome::metrics::Reason;
use tokio_tungstenite::tungstenite::Message;

use super::edge::{Edge, Received};
use super::support::PATIENCE;
use super::support::node::node;

const TRANSPORT: &str = "graphql-transport-ws";

/// The close code of a new socket that sends these messages.
async fn closed_after(edge: &Edge, messages: &[Message]) -> u16 {
    let mut socket = edge.socket(TRANSPORT, &[]).await.unwrap();
    for message in messages {
        socket.send_raw(message.clone()).await;
    }
    socket.receive_close().await
}

fn text(value: &Value) -> Message {
    Message::text(value.to_string())
}

fn init() -> Message {
    text(&json!({"type": "connection_init"}))
}

fn subscribe(id: &str, query: &str) -> Message {
    text(&json!({"id": id, "type": "subscribe", "payload": {"query": query}}))
}

#[tokio::test]
async fn w1_to_w4_each_violation_has_its_close_code() {
    let edge = Edge::start().await;
    let once = || subscribe("1", "subscription { once }");
    for (what, messages, code) in [
        ("W1 subscribe before the ack", vec![once()], 4401),
        ("W2 second init", vec![init(), init()], 4429),
        ("W3 live id again", vec![init(), once(), once()], 4409),
        ("W4 not JSON", vec![init(), Message::text("hello")], 4400),
        ("W4 an array", vec![init(), text(&json!(["ping"]))], 4400),
        ("W4 unknown type", vec![init(), text(&json!({"type": "next"}))], 4400),
        ("W4 binary", vec![init(), Message::binary(vec![1])], 4400),
        ("W4 no id", vec![init(), text(&json!({"type": "subscribe", "payload": {"query": "{hello}"}}))], 4400),
        ("W4 no payload", vec![init(), text(&json!({"type": "subscribe", "id": "1"}))], 4400),
        ("W4 before init", vec![Message::text("{")], 4400),
        ("W6 bad token", vec![text(&json!({"type": "connection_init", "payload": {"token": "x"}}))], 4403),
        ("W6 no token text", vec![text(&json!({"type": "connection_init", "payload": {"token": 7}}))], 4403),
        ("unknown key", vec![text(&json!({"type": "connection_init", "payload": {"accessToken": "x"}}))], 4401),
        (
            "headers",
            vec![text(&json!({"type": "connection_init", "payload": {"headers": {"Authorization": "x"}}}))],
            4401,
        ),
        ("W13 too big", vec![init(), Message::text("x".repeat((64 << 10) + 1))], 1009),
        ("W13 far too big", vec![init(), Message::text("x".repeat(1 << 20))], 1009),
    ] {
        assert_eq!(closed_after(&edge, &messages).await, code, "{what}");
    }
    // A long id still fits into a valid close frame.
    let long = "ä".repeat(64);
    let again = subscribe(&long, "subscription { once }");
    assert_eq!(closed_after(&edge, &[init(), again.clone(), again]).await, 4409);
    edge.all_streams_end().await;
}

#[tokio::test]
async fn w5_a_socket_without_init_is_closed() {
    let edge = Edge::with(|limits| limits.socket_init_timeout = Duration::from_millis(50), true).await;
    assert_eq!(closed_after(&edge, &[]).await, 4408);
    // Messages that are allowed before init do not extend the timeout.
    assert_eq!(closed_after(&edge, &[text(&json!({"type": "ping"}))]).await, 4408);
}

#[tokio::test]
async fn an_idle_anonymous_socket_is_closed() {
    let edge = Edge::with(|limits| limits.socket_anonymous_timeout = Duration::from_millis(100), true).await;
    let mut used = edge.ready().await;
    used.subscribe("1", "subscription { once }").await;
    assert_eq!(used.receive_json().await["type"], "next");
    assert_eq!(closed_after(&edge, &[init()]).await, 4401);
    used.send_json(&json!({"type": "ping"})).await;
    assert_eq!(used.receive_json().await["type"], "pong");
    used.send_json(&json!({"type": "complete", "id": "1"})).await;
    assert_eq!(used.receive_close().await, 4401);
}

#[tokio::test]
async fn w6_w7_w12_bad_requests_are_refused_before_the_upgrade() {
    let edge = Edge::start().await;
    let own = format!("http://{}", edge.addr);
    for (protocol, headers, status) in [
        ("", vec![], 400),
        ("mqtt", vec![], 400),
        ("graphql-transport", vec![], 400),
        (TRANSPORT, vec![("origin", "https://evil.example.com")], 403),
        (TRANSPORT, vec![("origin", "null")], 403),
        (TRANSPORT, vec![("authorization", "Bearer x")], 401),
    ] {
        assert_eq!(edge.socket(protocol, &headers).await.err(), Some(status), "{protocol} {headers:?}");
    }
    for (protocol, headers) in [
        (TRANSPORT, vec![("origin", own.as_str())]),
        (TRANSPORT, vec![("origin", "https://app.example.com")]),
        ("graphql-ws", vec![]),
        ("mqtt, graphql-transport-ws", vec![]),
    ] {
        assert!(edge.socket(protocol, &headers).await.is_ok(), "{protocol} {headers:?}");
    }
}

#[tokio::test]
async fn a_token_is_accepted_in_init_under_three_names_or_with_the_upgrade() {
    let edge = Edge::start().await;
    let token = edge.token(7, Duration::from_secs(60));
    let bearer = format!("Bearer {token}");
    for (headers, payload) in [
        (vec![], json!({"Authorization": bearer})),
        (vec![], json!({"authorization": bearer})),
        (vec![], json!({"token": token})),
        (vec![("authorization", bearer.as_str())], Value::Null),
    ] {
        let mut socket = edge.socket(TRANSPORT, &headers).await.unwrap();
        socket.send_json(&json!({"type": "connection_init", "payload": payload})).await;
        assert_eq!(socket.receive_json().await["type"], "connection_ack");
        socket.subscribe("1", "{ me }").await;
        assert_eq!(socket.receive_json().await["payload"], json!({"data": {"me": "7"}}), "{payload}");
    }
}

#[tokio::test]
async fn w8_to_w11_operations_start_end_and_reuse_ids() {
    let edge = Edge::start().await;
    let mut socket = edge.ready().await;
    socket.send_json(&json!({"type": "ping", "payload": {"x": 1}})).await;
    assert_eq!(socket.receive_json().await, json!({"type": "pong"}));
    socket.send_json(&json!({"type": "pong"})).await;
    socket.send_json(&json!({"type": "complete", "id": "unknown"})).await;

    for (id, query, code) in [
        ("a", "subscription { nothing }", "BAD_USER_INPUT"),
        ("b", "subscription {", "BAD_USER_INPUT"),
        ("c", "subscription { forbidden }", "NOT_FOUND"),
        ("d", "{ nothing }", "BAD_USER_INPUT"),
        ("e", "subscription { count(to: \"x\") }", "BAD_USER_INPUT"),
        ("f", "subscription { once count(to: 1) }", "BAD_USER_INPUT"),
    ] {
        socket.subscribe(id, query).await;
        let received = socket.receive_json().await;
        assert_eq!((&received["type"], &received["id"]), (&json!("error"), &json!(id)), "{received}");
        assert_eq!(received["payload"][0]["extensions"]["code"], code, "{received}");
    }
    // Nothing follows an error, the socket stays open, and the id can be reused.
    for query in ["{ hello }", "mutation { bump(by: 1) }"] {
        socket.subscribe("a", query).await;
        assert_eq!(socket.receive_json().await["type"], "next");
        assert_eq!(socket.receive_json().await, json!({"id": "a", "type": "complete"}));
    }
    socket.subscribe("a", "subscription { count(to: 2) }").await;
    for n in 0..2 {
        assert_eq!(socket.receive_json().await, json!({"id": "a", "type": "next", "payload": {"data": {"count": n}}}));
    }
    assert_eq!(socket.receive_json().await["type"], "complete");
    // An error after the first event is an event.
    socket.subscribe("a", "subscription { falters }").await;
    assert_eq!(socket.receive_json().await["payload"]["data"]["falters"], 1);
    let lagged = socket.receive_json().await;
    assert_eq!(
        (&lagged["type"], &lagged["payload"]["errors"][0]["extensions"]["code"]),
        (&json!("next"), &json!("LAGGED"))
    );
    assert_eq!(socket.receive_json().await["type"], "complete");
    // A query with a failed field gets a response, not an error message.
    socket.subscribe("a", "{ me }").await;
    assert_eq!(socket.receive_json().await["type"], "next");
    assert_eq!(socket.receive_json().await["type"], "complete");
}

#[tokio::test]
async fn w10_after_the_clients_complete_no_message_follows_and_the_stream_ends() {
    let edge = Edge::start().await;
    let mut socket = edge.ready().await;
    socket.subscribe("a", "subscription { count(to: 2000000000) }").await;
    assert_eq!(socket.receive_json().await["type"], "next");
    socket.send_json(&json!({"type": "complete", "id": "a"})).await;
    socket.subscribe("b", "{ hello }").await;
    // Messages in flight may still arrive before b's response; after it, none of a.
    let received = loop {
        let received = socket.receive_json().await;
        if received["id"] == "b" {
            break received;
        }
    };
    assert_eq!(received["type"], "next");
    assert_eq!(socket.receive_json().await, json!({"id": "b", "type": "complete"}));
    edge.all_streams_end().await;
    // Many pairs of subscribe and complete at once leave no operation running.
    for _ in 0..30 {
        socket.subscribe("a", "subscription { once }").await;
        socket.send_json(&json!({"type": "complete", "id": "a"})).await;
    }
    edge.all_streams_end().await;
}

#[tokio::test]
async fn a_busy_operation_does_not_starve_the_others() {
    let edge = Edge::start().await;
    let mut socket = edge.ready().await;
    socket.subscribe("busy", "subscription { count(to: 2000000000) }").await;
    assert_eq!(socket.receive_json().await["id"], "busy");
    socket.subscribe("quiet", "subscription { once }").await;
    let received = async { while socket.receive_json().await["id"] != "quiet" {} };
    tokio::time::timeout(PATIENCE, received).await.expect("its turn comes");
}

#[tokio::test]
async fn w13_operations_and_messages_are_limited() {
    let edge = Edge::start().await;
    let mut socket = edge.ready().await;
    for n in 0..=200 {
        socket.subscribe(&n.to_string(), "subscription { once }").await;
    }
    let refused = async {
        loop {
            let received = socket.receive_json().await;
            if received["type"] == "error" {
                return received;
            }
        }
    };
    let refused = tokio::time::timeout(PATIENCE, refused).await.unwrap();
    assert_eq!((&refused["id"], &refused["payload"][0]["extensions"]["code"]), (&json!("200"), &json!("RATE_LIMITED")));
    for _ in 0..300 {
        socket.send_json(&json!({"type": "pong"})).await;
    }
    assert_eq!(socket.receive_close().await, 4429);
    edge.all_streams_end().await;
}

#[tokio::test]
async fn w14_a_socket_closes_when_its_token_expires_unless_a_new_one_was_sent() {
    let edge = Edge::start().await;
    let login = |life| json!({"Authorization": format!("Bearer {}", edge.token(7, Duration::from_secs(life)))});
    let mut plain = edge.socket(TRANSPORT, &[]).await.unwrap();
    let mut renewed = edge.socket(TRANSPORT, &[]).await.unwrap();
    let mut long = edge.socket(TRANSPORT, &[]).await.unwrap();
    let opened_at = Instant::now();
    for (socket, life) in [(&mut plain, 4), (&mut renewed, 4), (&mut long, 60)] {
        socket.send_json(&json!({"type": "connection_init", "payload": login(life)})).await;
        assert_eq!(socket.receive_json().await["type"], "connection_ack");
        socket.subscribe("1", "subscription { once }").await;
        assert_eq!(socket.receive_json().await["type"], "next");
    }
    renewed.send_json(&json!({"type": "ping", "payload": login(600)})).await;
    assert_eq!(renewed.receive_json().await["type"], "pong");
    assert_eq!(plain.receive_close().await, 4403);
    // The token counts whole seconds.
    let open_for = opened_at.elapsed();
    assert!((3..5).contains(&open_for.as_secs()), "{open_for:?}");
    // The clock was set.
    edge.clock.advance(chrono::TimeDelta::seconds(61));
    assert_eq!(long.receive_close().await, 4403);
    renewed.subscribe("2", "{ me }").await;
    assert_eq!(renewed.receive_json().await["payload"]["data"]["me"], "7");
    assert_eq!(renewed.receive_json().await["type"], "complete");
    // A token of another user does not renew the session.
    let foreign = json!({"token": edge.token(8, Duration::from_secs(60))});
    renewed.send_json(&json!({"type": "ping", "payload": foreign})).await;
    assert_eq!(renewed.receive_close().await, 4403);
    edge.all_streams_end().await;
}

#[tokio::test]
async fn w14_nothing_is_sent_after_the_token_has_expired() {
    let edge = Edge::start().await;
    let payload = json!({"token": edge.token(7, Duration::from_secs(60))});
    let mut quick = edge.socket(TRANSPORT, &[]).await.unwrap();
    quick.send_json(&json!({"type": "connection_init", "payload": payload})).await;
    assert_eq!(quick.receive_json().await["type"], "connection_ack");
    // During a burst.
    quick.subscribe("1", "subscription { ages }").await;
    for n in 0..3 {
        assert_eq!(quick.receive_json().await["payload"]["data"]["ages"], n);
    }
    assert!(matches!(quick.receive().await, Received::Close(4403, _)));
    // During a write to a client that does not read.
    let payload = json!({"token": edge.token(7, Duration::from_secs(3))});
    let mut slow = edge.socket(TRANSPORT, &[]).await.unwrap();
    slow.send_json(&json!({"type": "connection_init", "payload": payload})).await;
    assert_eq!(slow.receive_json().await["type"], "connection_ack");
    slow.subscribe("1", "subscription { flood }").await;
    while edge.live.count() == 0 {
        tokio::task::yield_now().await;
    }
    edge.all_streams_end().await;
    let closed = edge.metrics.sockets_closed.get_or_create(&Reason { reason: "SLOW_READER" }).get();
    assert_eq!(closed, 0, "the token's end comes before the reader's");
}

#[tokio::test]
async fn w15_every_socket_is_closed_with_1001_at_shutdown() {
    let edge = Edge::start().await;
    let (mut idle, mut busy) = (edge.ready().await, edge.ready().await);
    busy.subscribe("1", "subscription { count(to: 2000000000) }").await;
    assert_eq!(busy.receive_json().await["type"], "next");
    edge.stop.cancel();
    assert_eq!(idle.receive_close().await, 1001);
    assert_eq!(busy.receive_close().await, 1001);
    drop((idle, busy));
    edge.tracker.close();
    tokio::time::timeout(PATIENCE, edge.tracker.wait()).await.expect("sockets are part of the drain");
    assert_eq!((edge.live.count(), edge.n_sockets()), (0, 0));
}

#[tokio::test]
async fn the_legacy_protocol_works() {
    let edge = Edge::start().await;
    let mut socket = edge.socket("graphql-ws", &[]).await.unwrap();
    let token = edge.token(7, Duration::from_secs(60));
    socket.send_json(&json!({"type": "connection_init", "payload": {"authorization": token}})).await;
    assert_eq!(socket.receive_json().await, json!({"type": "connection_ack"}));
    assert_eq!(socket.receive_json().await, json!({"type": "ka"}));
    let start = |id: &str, query: &str| json!({"id": id, "type": "start", "payload": {"query": query}});
    socket.send_json(&start("1", "{ me }")).await;
    assert_eq!(socket.receive_json().await, json!({"id": "1", "type": "data", "payload": {"data": {"me": "7"}}}));
    assert_eq!(socket.receive_json().await, json!({"id": "1", "type": "complete"}));
    socket.send_json(&start("2", "subscription { nothing }")).await;
    let error = socket.receive_json().await;
    assert_eq!((&error["type"], &error["payload"]["extensions"]["code"]), (&json!("error"), &json!("BAD_USER_INPUT")));
    socket.send_json(&start("3", "subscription { once }")).await;
    assert_eq!(socket.receive_json().await["type"], "data");
    socket.send_json(&json!({"id": "3", "type": "stop"})).await;
    assert_eq!(socket.receive_json().await, json!({"id": "3", "type": "complete"}));
    edge.all_streams_end().await;
    socket.send_json(&json!({"type": "connection_terminate"})).await;
    assert_eq!(socket.receive_close().await, 1000);

    let mut refused = edge.socket("graphql-ws", &[]).await.unwrap();
    refused.send_json(&json!({"type": "connection_init", "payload": {"token": "x"}})).await;
    let error = refused.receive_json().await;
    assert_eq!(error["type"], "connection_error");
    assert_eq!(error["payload"]["message"], "Forbidden: invalid access token");
    assert_eq!(refused.receive_close().await, 4403);
}

#[tokio::test]
async fn the_npm_client_runs_unmodified() {
    let edge = Edge::start().await;
    let url = format!("ws://{}/graphql", edge.addr);
    let output = node("ws_client.mjs", &[&url, &edge.token(7, Duration::from_secs(60))]).await;
    let found: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let counted: Vec<i64> =
        found["count"].as_array().unwrap().iter().filter_map(|c| c["data"]["count"].as_i64()).collect();
    assert_eq!(counted, [0, 1, 2, 3, 4]);
    assert_eq!(found["me"], json!([{"data": {"me": "7"}}]));
    assert_eq!(found["refused"], "BAD_USER_INPUT");
    assert_eq!(found["cancelled"], json!([0, 1, 2]));
    assert_eq!(found["after"], json!([{"data": {"hello": "world"}}]));
    edge.all_streams_end().await;
}
