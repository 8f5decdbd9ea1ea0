//! Opens the stream of a connection: TCP, then TLS and WebSocket as the URL says. The client sees a plain stream.

use std::io;
use std::sync::Arc;

use async_tungstenite::bytes::{ByteReader, ByteWriter};
use async_tungstenite::tungstenite::client::IntoClientRequest;
use async_tungstenite::tungstenite::http::HeaderValue;
use async_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use rumqttc::NetworkOptions;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, Join, join};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::tcp::PausableTcp;
use super::{Bypass, BypassStream};
use crate::mqtt::options::websocket_url;
use crate::settings::BrokerUrl;

/// The WebSocket subprotocol of MQTT (MQTT 5, 6).
const SUBPROTOCOL: HeaderValue = HeaderValue::from_static("mqtt");

pub(in crate::mqtt) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {
    /// What arrives wakes nobody until the next read or write.
    fn pause(&mut self);
}

impl Stream for PausableTcp {
    fn pause(&mut self) {
        self.pause();
    }
}

impl Stream for TlsStream<PausableTcp> {
    fn pause(&mut self) {
        self.get_mut().0.pause();
    }
}

/// Nothing can be paused below a WebSocket: what arrives goes on waking the thread.
impl<R: AsyncRead + Send + Unpin, W: AsyncWrite + Send + Unpin> Stream for Join<R, W> {
    fn pause(&mut self) {}
}

impl<S: Stream + ?Sized> Stream for Box<S> {
    fn pause(&mut self) {
        (**self).pause();
    }
}

/// How the broker is reached.
#[derive(Clone)]
pub(in crate::mqtt) struct Connector {
    pub(in crate::mqtt) broker: BrokerUrl,
    /// Set where the URL says so.
    pub(in crate::mqtt) tls: Option<Arc<rustls::ClientConfig>>,
    pub(in crate::mqtt) bypass: Bypass,
}

impl Connector {
    pub(in crate::mqtt) async fn connect(self, network: NetworkOptions) -> io::Result<BypassStream<Box<dyn Stream>>> {
        let Self { broker, tls, bypass } = self;
        let tcp = PausableTcp::new(rumqttc::default_socket_connect(broker.authority(), network).await?);
        let mut stream: Box<dyn Stream> = match tls {
            None => Box::new(tcp),
            Some(config) => {
                let name = ServerName::try_from(broker.host.clone()).map_err(io::Error::other)?;
                Box::new(TlsConnector::from(config).connect(name, tcp).await?)
            }
        };
        if let Some(url) = websocket_url(&broker) {
            stream = websocket(&url, stream).await.map_err(io::Error::other)?;
        }
        Ok(BypassStream::new(stream, bypass))
    }
}

async fn websocket(
    url: &str,
    stream: Box<dyn Stream>,
) -> Result<Box<dyn Stream>, async_tungstenite::tungstenite::Error> {
    let mut request = url.into_client_request()?;
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL);
    let (socket, _) = async_tungstenite::tokio::client_async(request, stream).await?;
    let (sender, receiver) = socket.split();
    Ok(Box::new(join(ByteReader::new(receiver), ByteWriter::new(sender))))
}
