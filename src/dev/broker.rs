//! The MQTT broker of `dev`, in our own process, on the loopback only.
//!
//! It writes behind by 250 ms, so what it acknowledged within that time of a crash may be lost, and it
//! dies with us: `dev` promises nothing about crashes that a real broker under `serve` must keep.
//! Everything else in `dev` sees the [`Broker`] trait alone, so that another one can take over.

mod access;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use mqtt5::broker::config::WebSocketConfig;
use mqtt5::broker::{BrokerConfig, BrokerShutdownHandle, MqttBroker, StorageBackendType, StorageConfig};
use tokio::task::JoinHandle;

pub use access::{Access, Closed, Guests, SERVER_USER};

/// Below our client's own limit, so that no packet the broker takes can break the server's link.
const MAX_PACKET_BYTES: usize = 1 << 20;
/// Messages kept for one client that is away. Each is a file: more would make a slow start.
const MAX_QUEUED: usize = 20_000;
const SESSION_EXPIRY: Duration = Duration::from_secs(24 * 3600);
/// Unacknowledged messages towards one client; the server acknowledges after its commit.
const MAX_INFLIGHT: u16 = 1_000;
const MAX_CLIENTS: usize = 1_000;
/// A stop with a long queue may take this long to write it down.
const STOP_TIME: Duration = Duration::from_secs(5);

/// What a stop ends in.
type Stopped = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A broker that lives in our process.
pub trait Broker: Send {
    /// Where it takes plain MQTT.
    fn tcp_addr(&self) -> SocketAddr;
    /// Where it takes MQTT over WebSocket, at `/mqtt`.
    fn ws_addr(&self) -> SocketAddr;
    /// Saves what it holds and closes every connection.
    fn stop(self: Box<Self>) -> Stopped;
}

/// Why the broker can't start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// Somebody else listens there.
    #[error("{what} {addr} is taken: stop what listens there, or choose another one with {option}")]
    Taken {
        /// Which surface.
        what: &'static str,
        /// The address.
        addr: SocketAddr,
        /// The option that changes it.
        option: &'static str,
    },
    /// The broker of `dev` serves this machine only.
    #[error("{0} is not a loopback address: the broker of `dev` is for this machine alone, see `serve`")]
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

/// Says which address can't be had, before anything else is started.
pub async fn check(tcp: SocketAddr, ws: Option<SocketAddr>) -> Result<(), BrokerError> {
    for addr in [Some(tcp), ws].into_iter().flatten() {
        if !addr.ip().is_loopback() {
            return Err(BrokerError::NotLoopback(addr));
        }
    }
    check_free(tcp, "the MQTT address", "--mqtt-addr").await?;
    match ws {
        Some(ws) => check_free(ws, "the MQTT WebSocket address", "--mqtt-ws-addr").await,
        None => Ok(()),
    }
}

/// Starts the embedded broker. `ws` of `None` is 9001 as in the guide, or any port if that is taken.
pub async fn start(
    data: &Path,
    tcp: SocketAddr,
    ws: Option<SocketAddr>,
    access: Access,
) -> Result<Box<dyn Broker>, BrokerError> {
    check(tcp, ws).await?;
    let ws = match ws {
        Some(ws) => ws,
        None => {
            let usual = SocketAddr::from(([127, 0, 0, 1], 9001));
            let is_free = check_free(usual, "", "").await.is_ok();
            if is_free { usual } else { SocketAddr::from(([127, 0, 0, 1], 0)) }
        }
    };
    let storage = StorageConfig::new()
        .with_backend(StorageBackendType::File)
        .with_base_dir(data.to_owned())
        .with_max_queued_messages_per_client(MAX_QUEUED);
    let config = BrokerConfig::new()
        .with_bind_address(tcp)
        .with_websocket(WebSocketConfig::new().with_bind_address(ws).with_path("/mqtt"))
        .with_max_clients(MAX_CLIENTS)
        .with_max_packet_size(MAX_PACKET_BYTES)
        .with_session_expiry(SESSION_EXPIRY)
        .with_max_outbound_inflight(MAX_INFLIGHT)
        .with_storage(storage);
    let guests = match &access {
        Access::Open => None,
        Access::Closed(closed) => Some((closed.guests.clone(), closed.logins.clone())),
    };
    let broken = |error: mqtt5::MqttError| BrokerError::Broken(error.to_string());
    let mut broker = MqttBroker::with_config(config).await.map_err(broken)?.with_auth_provider(Arc::new(access));
    let nowhere = || BrokerError::Broken("it is bound to no address".to_owned());
    let tcp = broker.local_addr().ok_or_else(nowhere)?;
    let ws = broker.ws_local_addr().ok_or_else(nowhere)?;
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
            match guests {
                Some((guests, logins)) => guests.watch(logins, router).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = run => {}
            () = watch => {}
        }
    });
    if ready.wait_for(|ready| *ready).await.is_err() {
        return Err(BrokerError::Broken(format!("its data in {} can't be used: try --reset", data.display())));
    }
    Ok(Box::new(Embedded { tcp, ws, stop, task }))
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
            if tokio::time::timeout(STOP_TIME, self.task).await.is_err() {
                tracing::warn!("the embedded MQTT broker did not save its queues within {STOP_TIME:?}");
            }
        })
    }
}

/// The broker's own error does not say which address it is about.
async fn check_free(addr: SocketAddr, what: &'static str, option: &'static str) -> Result<(), BrokerError> {
    match tokio::net::TcpListener::bind(addr).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(BrokerError::Taken { what, addr, option }),
        Err(error) => Err(BrokerError::Broken(format!("{addr}: {error}"))),
    }
}

#[cfg(test)]
mod tests;
