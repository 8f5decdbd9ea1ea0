//! A GraphQL subscriber over a real WebSocket: graphql-transport-ws, as any client speaks it.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::client::find;
use crate::messages::Numbers;
use crate::server::Endpoint;

/// A subscriber that receives nothing for this long counts as lost.
const SILENCE: Duration = Duration::from_secs(10);
/// What a live view asks of an event; `recordedAt` carries the message's number.
pub(crate) const FIELDS: &str = "id recordedAt sensors { temperature humidity powerW }";
/// The same with the name of the device.
pub(crate) const DEVICE_FIELDS: &str = "id recordedAt sensors { temperature humidity powerW } device { id key name }";

/// The subscriptions on one socket.
pub(crate) struct Subscriber {
    socket: WebSocketStream<TcpStream>,
    operations: usize,
}

impl Subscriber {
    /// Connects, signs in and subscribes to `telemetry` of each of these homes or devices.
    pub(crate) async fn connect(endpoint: &Endpoint, argument: &str, ids: &[String], fields: &str) -> Result<Self> {
        let query = format!("subscription($id: ID!) {{ telemetry({argument}: $id) {{ {fields} }} }}");
        let mut subscriber = Self::open(endpoint.addr, &endpoint.token).await?;
        for id in ids {
            subscriber.subscribe(&query, id).await?;
        }
        Ok(subscriber)
    }

    /// Connects, signs in and subscribes to the commands of a home.
    pub(crate) async fn commands(addr: SocketAddr, token: &str, home: &str) -> Result<Self> {
        let mut subscriber = Self::open(addr, token).await?;
        subscriber.subscribe("subscription($id: ID!) { commandUpdates(homeId: $id) { id status } }", home).await?;
        Ok(subscriber)
    }

    pub(crate) async fn open(addr: SocketAddr, token: &str) -> Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        Self::open_on(stream, addr, token).await
    }

    /// Signs in on a connection to this address.
    pub(crate) async fn open_on(stream: TcpStream, addr: SocketAddr, token: &str) -> Result<Self> {
        let mut request = format!("ws://{addr}/graphql").into_client_request()?;
        request.headers_mut().insert("sec-websocket-protocol", "graphql-transport-ws".parse()?);
        stream.set_nodelay(true)?;
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await.context("the upgrade")?;
        let mut subscriber = Self { socket, operations: 0 };
        let payload = json!({"Authorization": format!("Bearer {token}")});
        subscriber.send(&json!({"type": "connection_init", "payload": payload})).await?;
        let ack = subscriber.next().await?;
        if !ack.contains("connection_ack") {
            bail!("the server did not acknowledge the connection: {ack}");
        }
        Ok(subscriber)
    }

    /// Starts a subscription with one variable, `$id`.
    pub(crate) async fn subscribe(&mut self, query: &str, id: &str) -> Result<()> {
        self.operations += 1;
        let payload = json!({"query": query, "variables": {"id": id}});
        self.send(&json!({"id": self.operations.to_string(), "type": "subscribe", "payload": payload})).await
    }

    /// Until each subscription has received an event.
    pub(crate) async fn all_received(&mut self) -> Result<()> {
        let mut received = HashSet::new();
        while received.len() < self.operations {
            let text = self.next().await?;
            let event: Value = serde_json::from_str(&text)?;
            ensure!(event["type"] == "next", "expected an event, got {text}");
            received.insert(event["id"].to_string());
        }
        Ok(())
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

    /// Says that it leaves; the server need not have answered.
    pub(crate) async fn close(&mut self) -> Result<()> {
        Ok(self.socket.close(None).await?)
    }

    async fn send(&mut self, message: &Value) -> Result<()> {
        Ok(self.socket.send(Message::text(message.to_string())).await?)
    }

    /// The next protocol message; answers pings on the way.
    pub(crate) async fn next(&mut self) -> Result<Utf8Bytes> {
        loop {
            let message =
                timeout(SILENCE, self.socket.next()).await.context("the subscriber received nothing for too long")?;
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
