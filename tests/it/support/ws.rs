//! A GraphQL client over a real WebSocket, in `graphql-transport-ws`, and its raw frames.

use std::collections::VecDeque;
use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::soon;

/// One socket.
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// What the server sent.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// A protocol message.
    Json(Value),
    /// The server closed, with its code and reason.
    Closed(u16, String),
    /// The connection ended without a close frame.
    Cut,
}

impl Socket {
    /// Upgrades with this subprotocol; `path` is `/graphql` or `/graphql/ws`.
    pub async fn open(addr: SocketAddr, path: &str, protocol: &str) -> Self {
        let mut request = format!("ws://{addr}{path}").into_client_request().expect("a URL");
        request.headers_mut().insert("sec-websocket-protocol", protocol.parse().expect("a header"));
        let connecting = tokio_tungstenite::connect_async(request);
        let (stream, _) = soon("the upgrade", connecting).await.expect("the server upgrades");
        Self { stream }
    }

    /// Opens, sends `connection_init` with a token and waits for the acknowledgement.
    pub async fn signed_in(addr: SocketAddr, token: Option<&str>) -> Self {
        let mut socket = Self::open(addr, "/graphql", "graphql-transport-ws").await;
        let payload = token.map_or(json!({}), |token| json!({"Authorization": format!("Bearer {token}")}));
        socket.send(&json!({"type": "connection_init", "payload": payload})).await;
        let ack = socket.next().await;
        assert!(matches!(&ack, Frame::Json(message) if message["type"] == "connection_ack"), "{ack:?}");
        socket
    }

    /// Sends one protocol message.
    pub async fn send(&mut self, message: &Value) {
        self.send_raw(Message::text(message.to_string())).await;
    }

    /// Sends a raw frame.
    pub async fn send_raw(&mut self, message: Message) {
        let _ = self.stream.send(message).await;
    }

    /// Starts an operation.
    pub async fn subscribe(&mut self, id: &str, query: &str, variables: Value) {
        let payload = json!({"query": query, "variables": variables});
        self.send(&json!({"id": id, "type": "subscribe", "payload": payload})).await;
    }

    /// The next frame that is no ping of the protocol.
    pub async fn next(&mut self) -> Frame {
        loop {
            let message = match soon("a WebSocket frame", self.stream.next()).await {
                Some(Ok(message)) => message,
                Some(Err(_)) | None => return Frame::Cut,
            };
            match message {
                Message::Text(text) => {
                    let message: Value = serde_json::from_str(&text).expect("JSON");
                    if message["type"] != "ping" && message["type"] != "ka" {
                        return Frame::Json(message);
                    }
                }
                Message::Close(Some(frame)) => return Frame::Closed(frame.code.into(), frame.reason.to_string()),
                Message::Close(None) => return Frame::Cut,
                _ => {}
            }
        }
    }
}

/// A subscription on its own socket.
pub struct Subscription {
    socket: Socket,
    /// Frames that arrived while the test waited for others.
    early: VecDeque<Frame>,
}

impl Subscription {
    /// Starts it without waiting for an answer.
    pub async fn start(addr: SocketAddr, token: Option<&str>, query: &str, variables: Value) -> Self {
        let mut socket = Socket::signed_in(addr, token).await;
        socket.subscribe("1", query, variables).await;
        Self { socket, early: VecDeque::new() }
    }

    /// The next event's `data`; fails the test on anything else.
    pub async fn next(&mut self) -> Value {
        match self.frame().await {
            Frame::Json(mut message) if message["type"] == "next" && message["payload"]["errors"].is_null() => {
                message["payload"]["data"].take()
            }
            other => panic!("not an event: {other:?}"),
        }
    }

    /// Sends another protocol message on its socket.
    pub async fn send(&mut self, message: &Value) {
        self.socket.send(message).await;
    }

    /// The next frame of any kind.
    pub async fn frame(&mut self) -> Frame {
        match self.early.pop_front() {
            Some(frame) => frame,
            None => self.socket.next().await,
        }
    }

    /// Waits until the server has read the subscription; it reads messages in order.
    pub async fn wait_until_read(&mut self) {
        self.socket.send(&json!({"type": "ping"})).await;
        loop {
            match self.socket.next().await {
                Frame::Json(message) if message["type"] == "pong" => return,
                frame @ Frame::Json(_) => self.early.push_back(frame),
                other => panic!("instead of a pong: {other:?}"),
            }
        }
    }
}
