//! `MQTT_BROKER_URL`. Parsed here, because the MQTT client rejects the schemes with TLS.

use std::fmt;

/// The transport of MQTT packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// `mqtt://`
    Tcp,
    /// `mqtts://`
    Tls,
    /// `ws://`
    WebSocket,
    /// `wss://`
    WebSocketTls,
}

/// A parsed `MQTT_BROKER_URL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerUrl {
    pub transport: Transport,
    /// A name or an address.
    pub host: String,
    /// 1883, 8883, 80 or 443 by default.
    pub port: u16,
    /// Path of a WebSocket URL, `/mqtt` by default.
    pub path: String,
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, path) = match self.transport {
            Transport::Tcp => ("mqtt", ""),
            Transport::Tls => ("mqtts", ""),
            Transport::WebSocket => ("ws", self.path.as_str()),
            Transport::WebSocketTls => ("wss", self.path.as_str()),
        };
        write!(f, "{scheme}://{}{path}", self.authority())
    }
}

impl BrokerUrl {
    /// `host:port`, with an IPv6 address in brackets.
    pub fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl std::str::FromStr for BrokerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "a URL such as mqtt://host:1883, mqtts://host, ws://host:9001/mqtt or wss://host/mqtt";
        let url = url::Url::parse(text).map_err(|_| EXPECTED.to_owned())?;
        let (transport, default_port) = match url.scheme() {
            "mqtt" | "tcp" => (Transport::Tcp, 1883),
            "mqtts" | "ssl" => (Transport::Tls, 8883),
            "ws" => (Transport::WebSocket, 80),
            "wss" => (Transport::WebSocketTls, 443),
            _ => return Err(EXPECTED.to_owned()),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err("credentials belong in MQTT_USERNAME and MQTT_PASSWORD, not in the URL".to_owned());
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(EXPECTED)?;
        let path = if matches!(url.path(), "" | "/") { "/mqtt" } else { url.path() };
        Ok(Self {
            transport,
            host: host.trim_matches(['[', ']']).to_owned(),
            port: url.port().unwrap_or(default_port),
            path: path.to_owned(),
        })
    }
}
