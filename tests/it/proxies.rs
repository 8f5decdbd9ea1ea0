//! Behind a proxy that appends to `X-Forwarded-For` as nginx and HAProxy do. Each client has an address of its own: all
//! of 127.0.0.0/8 belongs to this machine.

#![expect(clippy::unwrap_used, reason = "what can't be sent fails the test")]

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::edge::Edge;
use super::support::PATIENCE;
use super::support::app::TestApp;
use super::support::soon;

/// The address of the proxy.
const PROXY: &str = "127.0.0.1";

/// Starts the proxy. It appends the client's address after what the client itself has claimed. One request a
/// connection.
async fn forwarder(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind((PROXY, 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, peer)) = listener.accept().await {
            tokio::spawn(forward(client, peer, server));
        }
    });
    addr
}

async fn forward(mut client: TcpStream, peer: SocketAddr, server: SocketAddr) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    head.truncate(head.len() - 2);
    head.extend_from_slice(format!("X-Forwarded-For: {}\r\nX-Forwarded-Proto: https\r\n\r\n", peer.ip()).as_bytes());
    let mut server = TcpStream::connect(server).await?;
    server.write_all(&head).await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

/// A connection from this loopback address.
async fn connect(from: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
    socket.connect(to).await.unwrap()
}

/// The JSON response to an operation.
async fn post(from: &str, to: SocketAddr, headers: &str, query: &str) -> Value {
    let body = json!({ "query": query }).to_string();
    let head = format!(
        "POST /graphql HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    let mut tcp = connect(from, to).await;
    let mut answer = String::new();
    tcp.write_all((head + &body).as_bytes()).await.unwrap();
    soon("the answer", tcp.read_to_string(&mut answer)).await.unwrap();
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

const ATTEMPT: &str = "mutation { refreshToken(refreshToken: \"x\") { accessToken } }";

/// Whether one of at most `n` attempts is refused as rate limited.
async fn attempts(n: usize, from: &str, to: SocketAddr, headers: &str) -> bool {
    for _ in 0..n {
        let answer = post(from, to, headers, ATTEMPT).await;
        if answer["errors"][0]["extensions"]["code"] == "RATE_LIMITED" {
            return true;
        }
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn each_client_behind_a_trusted_proxy_has_limits_of_its_own() {
    let app = TestApp::builder().set("RATE_LIMITS", "on").set("TRUSTED_PROXIES", "127.0.0.1/32").start().await;
    let proxy = forwarder(app.addr()).await;
    assert!(attempts(70, "127.0.0.2", proxy, "").await, "its budget is 60");
    assert!(!attempts(2, "127.0.0.3", proxy, "").await, "another client of the same proxy");
    for claim in
        ["X-Forwarded-For: 192.0.2.1\r\n", "X-Forwarded-For: 127.0.0.1, junk\r\n", "Forwarded: for=192.0.2.1\r\n"]
    {
        assert!(attempts(1, "127.0.0.2", proxy, claim).await, "a claim changes nothing: {claim}");
    }
    // Not through the trusted proxy: the header is ignored.
    assert!(attempts(1, "127.0.0.2", app.addr(), "X-Forwarded-For: 192.0.2.2\r\n").await);
    assert!(!attempts(2, "127.0.0.4", app.addr(), "X-Forwarded-For: 127.0.0.2\r\n").await);

    // The address is recorded where the peer's would be.
    let register = "mutation { register(input: {email: \"a@test.example\", password: \"correct horse battery\", \
                    name: \"A\"}) { accessToken } }";
    let answer = post("127.0.0.5", proxy, "", register).await;
    let token = answer["data"]["register"]["accessToken"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let answer = post("127.0.0.6", proxy, &bearer, "{ me { sessions { address } } }").await;
    assert_eq!(answer["data"]["me"]["sessions"][0]["address"], "127.0.0.5", "{answer}");
}

#[tokio::test]
async fn the_connection_limit_of_one_peer_does_not_apply_to_a_trusted_proxy() {
    let edge = Edge::behind(PROXY, |limits| limits.connections_per_peer = 2, true).await;
    let proxy = forwarder(edge.addr).await;
    let mut open = Vec::new();
    for n in 0..5 {
        let mut tcp = connect("127.0.0.2", proxy).await;
        tcp.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let read = tokio::time::timeout(PATIENCE, tcp.read(&mut [0; 12])).await.expect("an answer");
        assert_eq!(read.unwrap(), 12, "connection {n}");
        open.push(tcp);
    }
    // The same client may open two direct connections; a third is closed.
    let mut own = Vec::new();
    for n in 0..3 {
        let mut tcp = connect("127.0.0.2", edge.addr).await;
        let _ = tcp.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let read = tokio::time::timeout(PATIENCE, tcp.read(&mut [0; 12])).await.expect("a response or the end");
        assert_eq!(matches!(read, Ok(12)), n < 2, "connection {n}: {read:?}");
        own.push(tcp);
    }
    assert_eq!(edge.metrics.http_connections_cut.get(), 1);
}
