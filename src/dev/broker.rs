//! The embedded MQTT broker of `dev`, on the loopback, or with accounts on an address of the local network.
//!
//! It writes to disk up to 250 ms late and ends with this process: messages that it acknowledged just before a
//! crash may be lost. A broker under `serve` must keep them. The rest of `dev` uses the [`Broker`] trait only.

mod access;
mod websocket;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use mqtt5::broker::config::WebSocketConfig;
use mqtt5::broker::{BrokerConfig, BrokerShutdownHandle, MqttBroker, StorageBackendType, StorageConfig};
use tokio::task::JoinHandle;

pub use access::{Access, AccountAccess, ConnectedDevices, SERVER_USER};

/// Below the limit of our MQTT client, so that no packet the broker accepts can end the server's connection.
const MAX_PACKET_BYTES: usize = 1 << 20;
/// Messages queued for one disconnected client. Each is a file: more would make the start slow.
const MAX_QUEUED: usize = 20_000;
const SESSION_EXPIRY: Duration = Duration::from_secs(24 * 3600);
/// Unacknowledged messages to one client. The server acknowledges after its commit.
const MAX_INFLIGHT: u16 = 1_000;
const MAX_CLIENTS: usize = 1_000;
/// Longest wait at the stop for queues to be written.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

type Stopped = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A broker in this process.
pub trait Broker: Send {
    /// Where it accepts MQTT over TCP.
    fn tcp_addr(&self) -> SocketAddr;
    /// Where it accepts MQTT over WebSocket, at any path.
    fn ws_addr(&self) -> SocketAddr;
    /// Saves queues and sessions and closes every connection.
    fn stop(self: Box<Self>) -> Stopped;
}

/// Why the broker can't start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// Another program listens there.
    #[error("{what} {addr} is taken: stop the program that listens there, or choose another one with {option}")]
    Taken {
        what: &'static str,
        addr: SocketAddr,
        /// The option that changes it.
        option: &'static str,
    },
    #[error(
        "{0} is not a loopback address: the broker of `dev` serves this machine only. Use --lan with this machine's \
         address in your network, or `serve`"
    )]
    NotLoopback(SocketAddr),
    /// Anything else.
    #[error("the embedded MQTT broker can't start: {0}")]
    Broken(String),
}

/// The `mqtt5` crate's broker.
struct Embedded {
    tcp: SocketAddr,
    ws: SocketAddr,
    stop: BrokerShutdownHandle,
    task: JoinHandle<()>,
}

/// Fails for an address that can't be used, before anything else is started. Of the addresses that are not of the loopback only
/// `lan` may be used.
pub async fn check(tcp: SocketAddr, ws: Option<SocketAddr>, lan: Option<IpAddr>) -> Result<(), BrokerError> {
    for addr in [Some(tcp), ws].into_iter().flatten() {
        if !addr.ip().is_loopback() && lan != Some(addr.ip()) {
            return Err(BrokerError::NotLoopback(addr));
        }
    }
    check_free(tcp, "the MQTT address", "--mqtt-addr").await?;
    match ws {
        Some(ws) => check_free(ws, "the MQTT WebSocket address", "--mqtt-ws-addr").await,
        None => Ok(()),
    }
}

/// Starts the embedded broker. Without `ws` it uses port 9001 as in the device protocol, or a free port if that is
/// taken.
pub async fn start(
    data: &Path,
    tcp: SocketAddr,
    ws: Option<SocketAddr>,
    lan: Option<IpAddr>,
    access: Access,
) -> Result<Box<dyn Broker>, BrokerError> {
    check(tcp, ws, lan).await?;
    let ws = match ws {
        Some(ws) => ws,
        None => {
            let usual = SocketAddr::new(tcp.ip(), 9001);
            let is_free = check_free(usual, "", "").await.is_ok();
            if is_free { usual } else { SocketAddr::new(tcp.ip(), 0) }
        }
    };
    let io_error = |error: io::Error| BrokerError::Broken(format!("{ws}: {error}"));
    let relay = tokio::net::TcpListener::bind(ws).await.map_err(io_error)?;
    let ws = relay.local_addr().map_err(io_error)?;
    let config = configuration(data, tcp);
    let connected = match &access {
        Access::Anonymous => None,
        Access::Accounts(accounts) => Some((accounts.connected.clone(), accounts.logins.clone())),
    };
    let broken = |error: mqtt5::MqttError| BrokerError::Broken(error.to_string());
    let mut broker = MqttBroker::with_config(config).await.map_err(broken)?.with_auth_provider(Arc::new(access));
    let unbound = || BrokerError::Broken("it is bound to no address".to_owned());
    let tcp = broker.local_addr().ok_or_else(unbound)?;
    let behind_relay = broker.ws_local_addr().ok_or_else(unbound)?;
    let stop = broker.shutdown_handle();
    let mut ready = broker.ready_receiver();
    let router = broker.router();
    let task = tokio::spawn(async move {
        let run = async {
            if let Err(error) = broker.run().await {
                tracing::error!(%error, "the embedded MQTT broker ended");
            }
        };
        let watch = async {
            match connected {
                Some((connected, logins)) => connected.disconnect_revoked(logins, router).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = run => {}
            () = watch => {}
            () = websocket::relay(relay, behind_relay) => {}
        }
    });
    if ready.wait_for(|ready| *ready).await.is_err() {
        return Err(BrokerError::Broken(format!("its data in {} can't be used: try --reset", data.display())));
    }
    Ok(Box::new(Embedded { tcp, ws, stop, task }))
}

fn configuration(data: &Path, tcp: SocketAddr) -> BrokerConfig {
    // Clients connect to the relay.
    let behind_relay = SocketAddr::from(([127, 0, 0, 1], 0));
    let storage = StorageConfig::new()
        .with_backend(StorageBackendType::File)
        .with_base_dir(data.to_owned())
        .with_max_queued_messages_per_client(MAX_QUEUED);
    BrokerConfig::new()
        .with_bind_address(tcp)
        .with_websocket(WebSocketConfig::new().with_bind_address(behind_relay).with_path(websocket::PATH))
        .with_max_clients(MAX_CLIENTS)
        .with_max_packet_size(MAX_PACKET_BYTES)
        .with_session_expiry(SESSION_EXPIRY)
        .with_max_outbound_inflight(MAX_INFLIGHT)
        .with_storage(storage)
}

impl Broker for Embedded {
    fn tcp_addr(&self) -> SocketAddr {
        self.tcp
    }

    fn ws_addr(&self) -> SocketAddr {
        self.ws
    }

    fn stop(self: Box<Self>) -> Stopped {
        Box::pin(async move {
            self.stop.shutdown();
            if tokio::time::timeout(STOP_TIMEOUT, self.task).await.is_err() {
                tracing::warn!("the embedded MQTT broker did not save its queues within {STOP_TIMEOUT:?}");
            }
        })
    }
}

/// The error of the `mqtt5` crate does not name the address.
async fn check_free(addr: SocketAddr, what: &'static str, option: &'static str) -> Result<(), BrokerError> {
    match tokio::net::TcpListener::bind(addr).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(BrokerError::Taken { what, addr, option }),
        Err(error) => Err(BrokerError::Broken(format!("{addr}: {error}"))),
    }
}

#[cfg(test)]
mod tests;
