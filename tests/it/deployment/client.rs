//! An HTTPS and WebSocket client with an address of its own: all of 127.0.0.0/8 belongs to this machine.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::support::soon;

/// The name in the certificate.
pub(super) const HOST: &str = "localhost";

type Stream = TlsStream<tokio::net::TcpStream>;

/// A client that trusts one authority.
pub(super) struct Client {
    tls: TlsConnector,
    /// The proxy.
    to: SocketAddr,
}

impl Client {
    pub(super) fn new(authority: &Path, port: u16) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority).expect("a certificate")).expect("an authority");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.expect("TLS").with_root_certificates(roots).with_no_client_auth();
        Self { tls: TlsConnector::from(Arc::new(config)), to: SocketAddr::from(([127, 0, 0, 1], port)) }
    }

    /// A connection from this address.
    async fn connect(&self, from: &str) -> Stream {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::new(from.parse().expect("an address"), 0)).expect("bound");
        let tcp = soon("the connection", socket.connect(self.to)).await.expect("the proxy listens");
        let name = ServerName::try_from(HOST).expect("a name");
        soon("the handshake", self.tls.connect(name, tcp)).await.expect("TLS")
    }

    /// The server's certificate, if this client accepts it.
    pub(super) async fn certificate(&self) -> Option<Vec<u8>> {
        let tcp = tokio::net::TcpStream::connect(self.to).await.expect("the server listens");
        let name = ServerName::try_from(HOST).expect("a name");
        let stream = soon("the handshake", self.tls.connect(name, tcp)).await.ok()?;
        stream.get_ref().1.peer_certificates().map(|chain| chain[0].to_vec())
    }

    /// Sends a request and reads until the connection ends or the response contains `end`.
    pub(super) async fn request(&self, from: &str, head: &str, body: &str, end: Option<&str>) -> String {
        let mut stream = self.connect(from).await;
        let length = body.len();
        let head = format!("{head}\r\nHost: {HOST}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
        stream.write_all(head.as_bytes()).await.expect("sent");
        let mut text = String::new();
        soon("the response", async {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = stream.read(&mut bytes).await {
                text.push_str(&String::from_utf8_lossy(&bytes[..n]));
                if end.is_some_and(|end| text.contains(end)) {
                    break;
                }
            }
        })
        .await;
        text
    }

    /// The response to an operation.
    pub(super) async fn query(&self, from: &str, token: &str, query: &str) -> Value {
        let head = format!(
            "POST /graphql HTTP/1.1\r\nContent-Type: application/json\r\nAuthorization: Bearer {token}\r\nAccept: application/json"
        );
        let text = self.request(from, &head, &json!({ "query": query }).to_string(), None).await;
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let (start, end) = (body.find('{').unwrap_or(0), body.rfind('}').map_or(0, |at| at + 1));
        serde_json::from_str(&body[start..end]).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// A subscription over WebSocket; returns once the server has started it.
    pub(super) async fn subscribe(&self, from: &str, token: &str, query: &str) -> Subscription {
        let stream = self.connect(from).await;
        let mut request = format!("wss://{HOST}/graphql").into_client_request().expect("a URL");
        request.headers_mut().insert("sec-websocket-protocol", "graphql-transport-ws".parse().expect("a header"));
        let upgrading = tokio_tungstenite::client_async(request, stream);
        let (stream, _) = soon("the upgrade", upgrading).await.expect("the proxy upgrades");
        let mut subscription = Subscription(stream);
        let authorization = format!("Bearer {token}");
        subscription.send(json!({"type": "connection_init", "payload": {"Authorization": authorization}})).await;
        assert_eq!(subscription.next().await["type"], "connection_ack");
        subscription.send(json!({"id": "1", "type": "subscribe", "payload": {"query": query}})).await;
        // The server reads messages in order.
        subscription.send(json!({"type": "ping"})).await;
        assert_eq!(subscription.next().await["type"], "pong");
        subscription
    }
}

pub(super) struct Subscription(WebSocketStream<Stream>);

impl Subscription {
    async fn send(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.expect("sent");
    }

    /// The next message of the protocol.
    pub(super) async fn next(&mut self) -> Value {
        loop {
            let message = soon("a message", self.0.next()).await.expect("an open socket").expect("a frame");
            if let Message::Text(text) = message {
                return serde_json::from_str(&text).expect("JSON");
            }
        }
    }
}
