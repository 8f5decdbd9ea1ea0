//! The MQTT client of a simulated device: options, transport, and the task that polls it.

use std::time::Duration;

use rumqttc::{Broker, Event, EventLoop, Incoming, LastWill, MqttOptions, QoS};
use tokio::sync::mpsc;

use super::config::{FleetConfig, VirtualDevice};
use super::device::{LAST_WILL, Topics};
use super::{SimulatorError, session};
use crate::settings::Transport;
use crate::tls;

/// Unacknowledged messages of a device. The client is fast with a small limit: it walks all slots at every flush.
pub(crate) const MAX_IN_FLIGHT: u16 = 100;
const KEEP_ALIVE_S: u16 = 30;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Commands and configurations of up to 64 KiB, with room for their topic and properties.
const MAX_PACKET_BYTES: u32 = 256 * 1024;

pub(crate) enum ClientEvent {
    Connected,
    /// A command or a configuration.
    Received {
        topic: String,
        payload: bytes::Bytes,
    },
    /// The connection is lost; no event follows.
    Lost(String),
}

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
        .set_outgoing_inflight_upper_limit(MAX_IN_FLIGHT)
        .set_last_will(LastWill::new(topics.status.as_str(), LAST_WILL, QoS::AtLeastOnce, false, None));
    if let Some(expiry) = config.session_expiry {
        session::keep(&mut options, expiry);
    }
    Ok(options)
}

/// Verifies certificates with `ca_file`, or with the system's authorities by default.
fn client_config(config: &FleetConfig) -> Result<rustls::ClientConfig, SimulatorError> {
    let verifying = tls::client_config(config.ca_file.as_deref()).map_err(|error| match &config.ca_file {
        Some(path) => SimulatorError::File { path: path.clone(), problem: format!("no certificates: {error}") },
        None => SimulatorError::Broker(error.to_string()),
    })?;
    Ok(verifying.with_no_client_auth())
}

/// Polls until the connection is lost. Waits for its receiver; the receiver never waits for it, because it gives
/// messages to the client without waiting.
pub(crate) async fn poll(mut event_loop: EventLoop, events: mpsc::Sender<ClientEvent>) {
    loop {
        let event = match event_loop.poll().await {
            Ok(Event::Incoming(Incoming::ConnAck(_))) => ClientEvent::Connected,
            Ok(Event::Incoming(Incoming::Publish(publish))) => match String::from_utf8(publish.topic.to_vec()) {
                Ok(topic) => ClientEvent::Received { topic, payload: publish.payload },
                Err(_) => continue,
            },
            Ok(_) => continue,
            Err(error) => ClientEvent::Lost(error.to_string()),
        };
        let is_last = matches!(event, ClientEvent::Lost(_));
        if events.send(event).await.is_err() || is_last {
            return;
        }
    }
}
