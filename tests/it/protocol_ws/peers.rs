//! Clients that are silent, slow or broken, and responses of any size.

use std::time::Duration;

use smarthome::metrics::Reason;
use tokio::io::AsyncWriteExt;

use crate::edge::{Edge, Received};
use crate::support::PATIENCE;

#[tokio::test]
async fn a_silent_client_is_pinged_and_then_closed() {
    let quick = |limits: &mut smarthome::http::Limits| {
        limits.socket_ping_interval = Duration::from_millis(30);
        limits.socket_pong_timeout = Duration::from_millis(100);
    };
    let edge = Edge::with(quick, true).await;
    let mut socket = edge.ready().await;
    // A client that reads answers each ping.
    for _ in 0..3 {
        assert_eq!(socket.receive().await, Received::Ping);
    }
    // A client that does not read answers none.
    let closed = async {
        while edge.n_sockets() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.expect("a dead client is noticed");
}

#[tokio::test]
async fn a_response_of_any_size_arrives_complete() {
    let edge = Edge::start().await;
    let mut socket = edge.ready().await;
    for kib in [255, 257, 4096] {
        socket.subscribe("1", &format!("{{ text(kib: {kib}) }}")).await;
        let received = socket.receive_json().await;
        assert_eq!(received["payload"]["data"]["text"].as_str().map(str::len), Some(kib << 10));
        assert_eq!(socket.receive_json().await["type"], "complete");
    }
}

/// The three classes of src/http/socket/read_error.rs; a message over the limit is among the close codes above.
#[tokio::test]
async fn broken_frames_are_closed_with_1002_and_lost_connections_are_not_counted_as_broken() {
    let edge = Edge::start().await;
    let n_broken = || edge.metrics.sockets_closed.get_or_create(&Reason { reason: "BROKEN" }).get();
    let (unmasked, reserved_opcode) = ([0x81, 0x01, b'x'].to_vec(), [0x83, 0x80, 0, 0, 0, 0].to_vec());
    for frame in [unmasked, reserved_opcode] {
        let mut socket = edge.ready().await;
        socket.tcp().write_all(&frame).await.unwrap();
        assert_eq!(socket.receive_close().await, 1002, "{frame:?}");
    }
    assert_eq!(n_broken(), 2);
    // A FIN without a close frame.
    drop(edge.ready().await);
    // A RST, because the client closes with unread data.
    let mut socket = edge.ready().await;
    socket.subscribe("1", "subscription { once }").await;
    socket.tcp().peek(&mut [0]).await.unwrap();
    drop(socket);
    let closed = async {
        while edge.n_sockets() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.expect("the server drops lost connections");
    assert_eq!(n_broken(), 2);
}

#[tokio::test]
async fn a_slow_reader_is_disconnected_and_others_are_not() {
    let edge = Edge::with(|limits| limits.slow_peer_stall = Duration::from_millis(100), true).await;
    let (mut slow, mut quick) = (edge.ready().await, edge.ready().await);
    slow.subscribe("1", "subscription { flood }").await;
    let cut = async {
        while edge.n_sockets() > 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, cut).await.expect("the slow reader is disconnected");
    edge.all_streams_end().await;
    quick.subscribe("1", "{ hello }").await;
    assert_eq!(quick.receive_json().await["payload"]["data"]["hello"], "world");
}
