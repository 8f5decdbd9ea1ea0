//! A WebSocket client of the fixture.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::PATIENCE;

/// What a socket's client receives.
#[derive(Debug, PartialEq)]
pub(crate) enum Received {
    Json(Value),
    Ping,
    Close(u16, String),
    Disconnected,
}

/// A WebSocket client that can send anything.
pub(crate) struct Socket(pub(crate) WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    pub(crate) async fn send_json(&mut self, message: &Value) {
        self.send_raw(Message::text(message.to_string())).await;
    }

    pub(crate) async fn send_raw(&mut self, message: Message) {
        // The server may have closed already: its close frame is received next.
        let _ = self.0.send(message).await;
    }

    /// The connection below, for raw bytes.
    pub(crate) fn tcp(&mut self) -> &mut TcpStream {
        match self.0.get_mut() {
            MaybeTlsStream::Plain(tcp) => tcp,
            _ => panic!("plain TCP"),
        }
    }

    pub(crate) async fn receive(&mut self) -> Received {
        let next = tokio::time::timeout(PATIENCE, self.0.next()).await.expect("a message in time");
        match next {
            Some(Ok(Message::Text(text))) => Received::Json(serde_json::from_str(&text).unwrap()),
            Some(Ok(Message::Ping(_))) => Received::Ping,
            Some(Ok(Message::Close(Some(frame)))) => Received::Close(frame.code.into(), frame.reason.to_string()),
            Some(Ok(other)) => panic!("{other:?}"),
            Some(Err(_)) | None => Received::Disconnected,
        }
    }

    pub(crate) async fn receive_json(&mut self) -> Value {
        match self.receive().await {
            Received::Json(value) => value,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn receive_close(&mut self) -> u16 {
        loop {
            match self.receive().await {
                Received::Close(code, _) => return code,
                Received::Disconnected => panic!("gone without a close frame"),
                _ => {}
            }
        }
    }

    pub(crate) async fn subscribe(&mut self, id: &str, query: &str) {
        self.send_json(&json!({"id": id, "type": "subscribe", "payload": {"query": query}})).await;
    }
}
