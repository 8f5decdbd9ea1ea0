//! A GraphQL subscriber over a real WebSocket: graphql-transport-ws, as any client speaks it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::client::find;
use crate::messages::Numbers;

/// A subscriber that receives nothing for this long counts as lost.
const SILENCE: Duration = Duration::from_secs(10);
/// What a live view asks of an event; `recordedAt` carries the message's number.
const FIELDS: &str = "id recordedAt sensors { temperature humidity powerW }";

/// One subscription on one socket.
pub(crate) struct Subscriber(WebSocketStream<TcpStream>);

impl Subscriber {
    /// Connects, signs in and subscribes to `telemetry` of a home or a device.
    pub(crate) async fn connect(addr: SocketAddr, token: &str, argument: &str, id: &str) -> Result<Self> {
        let query = format!("subscription($id: ID!) {{ telemetry({argument}: $id) {{ {FIELDS} }} }}");
        Self::open(addr, token, &query, id).await
    }

    /// Connects, signs in and subscribes to the commands of a home.
    pub(crate) async fn commands(addr: SocketAddr, token: &str, home: &str) -> Result<Self> {
        Self::open(addr, token, "subscription($id: ID!) { commandUpdates(homeId: $id) { id status } }", home).await
    }

    async fn open(addr: SocketAddr, token: &str, query: &str, id: &str) -> Result<Self> {
        let mut request = format!("ws://{addr}/graphql").into_client_request()?;
        request.headers_mut().insert("sec-websocket-protocol", "graphql-transport-ws".parse()?);
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await.context("the upgrade")?;
        let mut subscriber = Self(socket);
        let payload = json!({"Authorization": format!("Bearer {token}")});
        subscriber.send(&json!({"type": "connection_init", "payload": payload})).await?;
        let ack = subscriber.next().await?;
        if !ack.contains("connection_ack") {
            bail!("the server did not acknowledge the connection: {ack}");
        }
        let payload = json!({"query": query, "variables": {"id": id}});
        subscriber.send(&json!({"id": "1", "type": "subscribe", "payload": payload})).await?;
        Ok(subscriber)
    }

    /// The next event of a command: its id and its status.
    pub(crate) async fn next_command(&mut self) -> Result<(String, String)> {
        let text = self.next().await?;
        let mut event: Value = serde_json::from_str(&text)?;
        let mut field = |name: &str| match event["payload"]["data"]["commandUpdates"][name].take() {
            Value::String(text) => Some(text),
            _ => None,
        };
        field("id").zip(field("status")).with_context(|| format!("expected a command, got {text}"))
    }

    /// The number of the next event's message.
    pub(crate) async fn next_number(&mut self, numbers: &Numbers) -> Result<u64> {
        const MARK: &[u8] = br#""recordedAt":""#;
        let text = self.next().await?;
        let number = find(text.as_bytes(), MARK).and_then(|at| {
            let rest = &text[at + MARK.len()..];
            numbers.parse(&rest[..rest.find('"')?])
        });
        number.with_context(|| format!("expected an event, got {text}"))
    }

    async fn send(&mut self, message: &Value) -> Result<()> {
        Ok(self.0.send(Message::text(message.to_string())).await?)
    }

    /// The next protocol message; answers pings on the way.
    async fn next(&mut self) -> Result<Utf8Bytes> {
        loop {
            let message =
                timeout(SILENCE, self.0.next()).await.context("the subscriber received nothing for too long")?;
            match message.context("the server closed the socket")?? {
                Message::Text(text) if text.contains(r#""type":"ping""#) => {
                    self.send(&json!({"type": "pong"})).await?;
                }
                Message::Text(text) => return Ok(text),
                Message::Close(frame) => bail!("the server closed the socket: {frame:?}"),
                _ => {}
            }
        }
    }
}
