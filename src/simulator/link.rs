//! The MQTT client of a simulated connection: options, transport, and the task that polls it.

use std::time::Duration;

use rumqttc::{Broker, Event, EventLoop, Incoming, LastWill, MqttOptions, QoS};
use tokio::sync::mpsc;

use super::config::{FleetConfig, Qos, VirtualDevice};
use super::device::{LAST_WILL, Topics};
use super::{SimulatorError, session};
use crate::settings::Transport;
use crate::tls;

const KEEP_ALIVE_S: u16 = 30;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Commands and configurations of up to 64 KiB, with room for their topic and properties.
const MAX_PACKET_BYTES: u32 = 256 * 1024;

/// What the polling task tells the connection.
pub(crate) enum Heard {
    /// The broker accepted us.
    Connected,
    /// A command or a configuration.
    Message {
        /// Its topic.
        topic: String,
        /// Its payload.
        payload: bytes::Bytes,
    },
    /// The link is gone; nothing follows.
    Lost(String),
}

/// Options of the connection that carries `device` (and perhaps others; then the will is its alone).
pub(crate) fn options(
    config: &FleetConfig,
    device: &VirtualDevice,
    topics: &Topics,
) -> Result<MqttOptions, SimulatorError> {
    let broker = &config.broker;
    let client_id = device.client_id.clone().unwrap_or_else(|| format!("{}@{}", device.key, config.home));
    let mut options = match broker.transport {
        Transport::Tcp | Transport::Tls => MqttOptions::new(client_id, (broker.host.as_str(), broker.port)),
        Transport::WebSocket | Transport::WebSocketTls => {
            let scheme = if broker.transport == Transport::WebSocket { "ws" } else { "wss" };
            let host = if broker.host.contains(':') { format!("[{}]", broker.host) } else { broker.host.clone() };
            let url = format!("{scheme}://{host}:{}{}", broker.port, broker.path);
            let target = Broker::websocket(url).map_err(|error| SimulatorError::Broker(error.to_string()))?;
            MqttOptions::new(client_id, target)
        }
    };
    match broker.transport {
        Transport::Tcp | Transport::WebSocket => {}
        Transport::Tls => {
            options.set_transport(rumqttc::Transport::tls_with_config(client_config(config)?.into()));
        }
        Transport::WebSocketTls => {
            options.set_transport(rumqttc::Transport::wss_with_config(client_config(config)?.into()));
        }
    }
    if let Some(credentials) = &device.credentials {
        options.set_credentials(credentials.username.clone(), credentials.password.reveal().to_owned());
    }
    options
        .set_clean_start(true)
        .set_keep_alive(KEEP_ALIVE_S)
        .set_connect_timeout(CONNECT_TIMEOUT)
        .set_max_packet_size(Some(MAX_PACKET_BYTES))
        .set_outgoing_inflight_upper_limit(config.window)
        .set_last_will(LastWill::new(topics.status.as_str(), LAST_WILL, QoS::AtLeastOnce, config.retain_status, None));
    if let Some(expiry) = config.session_expiry {
        session::keep(&mut options, expiry);
    }
    Ok(options)
}

/// Certificates are verified against `ca_file`, else the system's authorities.
fn client_config(config: &FleetConfig) -> Result<rustls::ClientConfig, SimulatorError> {
    let verifying = tls::client_config(config.ca_file.as_deref()).map_err(|error| match &config.ca_file {
        Some(path) => SimulatorError::File { path: path.clone(), problem: format!("no certificates: {error}") },
        None => SimulatorError::Broker(error.to_string()),
    })?;
    Ok(verifying.with_no_client_auth())
}

/// Polls until the link is gone. Waits for its reader, who never waits for it in turn: whatever the
/// connection gives to the client, it gives without waiting.
pub(crate) async fn poll(mut link: EventLoop, heard: mpsc::Sender<Heard>) {
    loop {
        let news = match link.poll().await {
            Ok(Event::Incoming(Incoming::ConnAck(_))) => Heard::Connected,
            Ok(Event::Incoming(Incoming::Publish(publish))) => match String::from_utf8(publish.topic.to_vec()) {
                Ok(topic) => Heard::Message { topic, payload: publish.payload },
                Err(_) => continue,
            },
            Ok(_) => continue,
            Err(error) => Heard::Lost(error.to_string()),
        };
        let last = matches!(news, Heard::Lost(_));
        if heard.send(news).await.is_err() || last {
            return;
        }
    }
}

impl From<Qos> for QoS {
    fn from(qos: Qos) -> Self {
        match qos {
            Qos::AtMostOnce => Self::AtMostOnce,
            Qos::AtLeastOnce => Self::AtLeastOnce,
            Qos::ExactlyOnce => Self::ExactlyOnce,
        }
    }
}
