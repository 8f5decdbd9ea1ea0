//! The client's options: MQTT 5, a persistent session, manual acknowledgements, TLS where configured.

use std::sync::Arc;
use std::time::Duration;

use rumqttc::{
    AckMode, Broker, MqttOptions, NetworkOptions, PersistedAckMode, PersistedSession, SessionStore, SessionStoreError,
    SessionStoreKey, TlsConfiguration, Transport as MqttTransport,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

use super::bypass::Connector;
use crate::settings::{BrokerUrl, MqttSettings, SettingsError, Transport};
use crate::tls;

/// Seconds for which the broker keeps the session and queues messages while the server is disconnected.
const SESSION_EXPIRY_S: u32 = 7 * 24 * 3600;
/// Unacknowledged messages that the broker may have in flight to the server. Mosquitto exceeds it while
/// acknowledgements flow; the queue of the link is the real bound.
const RECEIVE_MAXIMUM: u16 = 4_000;
/// Bytes of the largest packet that the client accepts: above the brokers' limits, so that no message closes the link.
pub(super) const MAX_PACKET: u32 = 2 << 20;
/// Publishes of the server in flight. The client walks and copies this many slots at every acknowledgement, so a small
/// number keeps it fast.
pub(super) const OUTGOING_IN_FLIGHT: u16 = 10;
/// Seconds between pings on an idle connection.
pub(super) const KEEP_ALIVE_S: u16 = 30;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A TLS file that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{setting}: {problem}")]
pub struct TlsFileError {
    setting: &'static str,
    problem: String,
}

impl From<TlsFileError> for SettingsError {
    fn from(error: TlsFileError) -> Self {
        Self { name: error.setting.to_owned(), problem: error.problem }
    }
}

/// Fails where the TLS files of the settings can't be used.
pub fn check(settings: &MqttSettings) -> Result<(), TlsFileError> {
    build(settings).map(drop)
}

/// Options for the first connection of a client: it resumes the session that the broker has kept, or has it discarded.
pub(super) fn first(settings: &MqttSettings, starts_clean: bool) -> Result<MqttOptions, TlsFileError> {
    Ok(starting(build(settings)?, starts_clean))
}

/// Options of the link, whose messages go past the client. As [`first`] for the session.
pub(super) fn link(settings: &MqttSettings, connector: Connector, starts_clean: bool) -> MqttOptions {
    let mut options = common(settings, Broker::tcp(connector.broker.host.clone(), connector.broker.port));
    options.set_socket_connector(move |_, network| connector.clone().connect(network));
    starting(options, starts_clean)
}

fn starting(mut options: MqttOptions, starts_clean: bool) -> MqttOptions {
    if starts_clean {
        options.set_clean_start(true);
    } else {
        options.set_session_store(EmptySession);
    }
    options
}

/// Options for a connection without a session, under a client id of its own: nothing of it remains at the broker.
pub(super) fn without_session(settings: &MqttSettings, client_id: String) -> Result<MqttOptions, TlsFileError> {
    let mut options = build(&MqttSettings { client_id, ..settings.clone() })?;
    options.set_clean_start(true).set_session_expiry_interval(None).set_ack_mode(AckMode::Automatic);
    Ok(options)
}

/// Options of a client that resumes a session, without a session store.
pub(super) fn build(settings: &MqttSettings) -> Result<MqttOptions, TlsFileError> {
    let bad_url = |_| TlsFileError { setting: "MQTT_BROKER_URL", problem: "not a usable WebSocket URL".to_owned() };
    let url = websocket_url(&settings.broker);
    let is_websocket = url.is_some();
    let broker = match url {
        Some(url) => Broker::websocket(url).map_err(bad_url)?,
        None => Broker::tcp(settings.broker.host.clone(), settings.broker.port),
    };
    let mut options = common(settings, broker);
    if let Some(config) = tls(settings)?.map(TlsConfiguration::Rustls) {
        options.set_transport(match is_websocket {
            true => MqttTransport::wss_with_config(config),
            false => MqttTransport::tls_with_config(config),
        });
    }
    Ok(options)
}

/// The URL of a broker that is reached by WebSocket. Its scheme does not say whether TLS is used.
pub(super) fn websocket_url(broker: &BrokerUrl) -> Option<String> {
    matches!(broker.transport, Transport::WebSocket | Transport::WebSocketTls)
        .then(|| format!("ws://{}{}", broker.authority(), broker.path))
}

/// `None` where the URL says to connect without TLS.
pub(super) fn tls(settings: &MqttSettings) -> Result<Option<Arc<rustls::ClientConfig>>, TlsFileError> {
    match settings.broker.transport {
        Transport::Tcp | Transport::WebSocket => Ok(None),
        Transport::Tls | Transport::WebSocketTls => Ok(Some(Arc::new(client_config(settings)?))),
    }
}

/// What all connections have in common.
fn common(settings: &MqttSettings, broker: Broker) -> MqttOptions {
    let mut options = MqttOptions::new(settings.client_id.clone(), broker);
    match (&settings.username, &settings.password) {
        (Some(username), Some(password)) => {
            options.set_credentials(username.clone(), password.reveal().to_owned());
        }
        (Some(username), None) => {
            options.set_username(username.clone());
        }
        (None, _) => {}
    }
    let mut network = NetworkOptions::new();
    // Without Nagle's algorithm a single acknowledgement leaves at once.
    network.set_tcp_nodelay(true);
    options
        .set_network_options(network)
        .set_clean_start(false)
        .set_session_expiry_interval(Some(SESSION_EXPIRY_S))
        .set_ack_mode(AckMode::Manual)
        .set_receive_maximum(Some(RECEIVE_MAXIMUM))
        .set_max_packet_size(Some(MAX_PACKET))
        .set_topic_alias_max(Some(0))
        .set_keep_alive(KEEP_ALIVE_S)
        .set_connect_timeout(CONNECT_TIMEOUT)
        .set_outgoing_inflight_upper_limit(OUTGOING_IN_FLIGHT);
    options
}

fn client_config(settings: &MqttSettings) -> Result<rustls::ClientConfig, TlsFileError> {
    let config = tls::client_config(settings.ca_file.as_deref()).map_err(|error| bad("MQTT_CA_FILE", &error))?;
    match (&settings.client_cert_file, &settings.client_key_file) {
        (Some(cert), Some(key)) => {
            let chain = tls::certificates(cert).map_err(|error| bad("MQTT_CLIENT_CERT_FILE", &error))?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| bad("MQTT_CLIENT_KEY_FILE", &error))?;
            config.with_client_auth_cert(chain, key).map_err(|error| bad("MQTT_CLIENT_CERT_FILE", &error))
        }
        _ => Ok(config.with_no_client_auth()),
    }
}

fn bad(setting: &'static str, problem: &dyn std::fmt::Display) -> TlsFileError {
    TlsFileError { setting, problem: problem.to_string() }
}

/// An empty session of the client, with which it resumes the broker's session after a restart. Unconfirmed publishes
/// are in the database, not in the client.
#[derive(Debug)]
struct EmptySession;

type StoreFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = Result<T, SessionStoreError>> + Send + 'a>>;

impl SessionStore for EmptySession {
    fn load<'a>(&'a self, key: &'a SessionStoreKey) -> StoreFuture<'a, Option<PersistedSession>> {
        let session = PersistedSession {
            format_version: 1,
            client_id: key.client_id().to_owned(),
            clean_start: false,
            session_expiry_interval: Some(SESSION_EXPIRY_S),
            outgoing_inflight_upper_limit: Some(OUTGOING_IN_FLIGHT),
            ack_mode: PersistedAckMode::Manual,
            last_pkid: 0,
            last_puback: 0,
            replay: Vec::new(),
            incoming_qos2: Vec::new(),
        };
        Box::pin(async move { Ok(Some(session)) })
    }

    fn save<'a>(&'a self, _: &'a SessionStoreKey, _: &'a PersistedSession) -> StoreFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn clear<'a>(&'a self, _: &'a SessionStoreKey) -> StoreFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}
