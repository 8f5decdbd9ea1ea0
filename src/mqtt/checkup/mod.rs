//! What `smarthome doctor` asks the broker: connections, rights, times. It has client ids of its own, and topics below a
//! home that can't exist, so it disturbs no server, no device and no other doctor.

mod fault;
mod load;
mod rights;
mod session;

use std::io;
use std::time::{Duration, Instant};

use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

pub use fault::{CertificateFault, ConnectFault, Refusal, RequestError, Unreachable, protocol};
pub use rights::{Delivery, Grant, PublishAnswer};
pub use session::{Connection, RunId, Start};

use crate::settings::{BrokerUrl, MqttSettings, Transport};

/// Longest wait for one answer of the broker.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// The same for a transport that is tried because the one of the URL does not work.
const OTHER_TIMEOUT: Duration = Duration::from_secs(1);
const TRANSPORTS: [Transport; 4] = [Transport::Tcp, Transport::Tls, Transport::WebSocket, Transport::WebSocketTls];

/// Opens a TCP connection; returns how long that took, or why it failed.
pub async fn reach(broker: &BrokerUrl) -> Result<Duration, Unreachable> {
    let started = Instant::now();
    let connecting = async {
        let found = lookup_host((broker.host.as_str(), broker.port)).await.map_err(Unreachable::UnknownName)?;
        let addresses: Vec<_> = found.collect();
        TcpStream::connect(&addresses[..]).await.map_err(Unreachable::NoConnection)
    };
    let no_answer = || {
        let problem = format!("no answer within {} s", ANSWER_TIMEOUT.as_secs());
        Unreachable::NoConnection(io::Error::new(io::ErrorKind::TimedOut, problem))
    };
    timeout(ANSWER_TIMEOUT, connecting).await.map_err(|_| no_answer())??;
    Ok(started.elapsed())
}

/// Connects to a broker that is reachable. Where its port speaks another protocol than the URL says, the fault names it.
pub async fn connect(settings: &MqttSettings, start: Start) -> Result<Connection, ConnectFault> {
    let fault = match Connection::open(start.options(settings)?, ANSWER_TIMEOUT).await {
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

/// Whether the port answers as a broker by this transport, if only to refuse a client without a user name: the password is
/// for the transport of the URL alone.
async fn speaks(settings: &MqttSettings, transport: Transport) -> bool {
    let broker = BrokerUrl { transport, ..settings.broker.clone() };
    let settings = MqttSettings { broker, username: None, password: None, ..settings.clone() };
    let Ok(options) = Start::Clean.options(&settings) else { return false };
    match Connection::open(options, OTHER_TIMEOUT).await {
        Ok(connection) => {
            connection.close().await;
            true
        }
        Err(fault) => !fault.is_of_transport(),
    }
}
