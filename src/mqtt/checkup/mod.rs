//! What `smarthome doctor` asks the broker: connections, rights, times. It has a client id of its own, and topics below a
//! home that can't exist, so it disturbs no server and no device.

mod fault;
mod load;
mod rights;
mod session;

use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::time::timeout;

pub use fault::{CertificateFault, ConnectFault, Refusal};
pub use rights::{Delivery, Grant, Write};
pub use session::{Connection, Start};

use crate::settings::{BrokerUrl, MqttSettings, Transport};

/// Longest wait for one answer of the broker.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// The same for a transport that is tried because the one of the URL does not work.
const OTHER_TIMEOUT: Duration = Duration::from_secs(1);
const TRANSPORTS: [Transport; 4] = [Transport::Tcp, Transport::Tls, Transport::WebSocket, Transport::WebSocketTls];

/// Opens a TCP connection; returns how long that took, or why it failed.
pub async fn reach(broker: &BrokerUrl) -> Result<Duration, String> {
    let started = Instant::now();
    let connecting = TcpStream::connect((broker.host.as_str(), broker.port));
    match timeout(ANSWER_TIMEOUT, connecting).await {
        Ok(Ok(_)) => Ok(started.elapsed()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs())),
    }
}

/// Connects to a broker that is reachable. Where its port speaks another protocol than the URL says, the fault names it.
pub async fn connect(settings: &MqttSettings, start: Start) -> Result<Connection, ConnectFault> {
    let fault = match Connection::open(settings, start, ANSWER_TIMEOUT).await {
        Ok(connection) => return Ok(connection),
        Err(fault) => fault,
    };
    if fault.is_of_transport() {
        for transport in TRANSPORTS.into_iter().filter(|other| *other != settings.broker.transport) {
            if speaks(settings, transport).await {
                return Err(ConnectFault::OtherTransport(transport));
            }
        }
    }
    Err(fault)
}

/// Whether the port answers as a broker by this transport.
async fn speaks(settings: &MqttSettings, transport: Transport) -> bool {
    let broker = BrokerUrl { transport, ..settings.broker.clone() };
    let settings = MqttSettings { broker, ..settings.clone() };
    match Connection::open(&settings, Start::Clean, OTHER_TIMEOUT).await {
        Ok(connection) => {
            connection.close().await;
            true
        }
        Err(fault) => !fault.is_of_transport(),
    }
}
