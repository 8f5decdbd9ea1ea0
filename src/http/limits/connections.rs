//! The limits on open TCP connections: one for all, and one for each network peer, so that no peer can take
//! all of them. A peer is an IPv4 address or an IPv6 /64 network, because one subscriber usually owns a whole /64.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::keyed_semaphore::{KeyedSemaphore, Permit};
use crate::throttle::network;

/// Open connections, in all and of each peer.
#[derive(Debug)]
pub(in crate::http) struct ConnectionLimiter {
    all: Arc<Semaphore>,
    peers: KeyedSemaphore<IpAddr>,
}

/// One connection among all, not yet charged to a peer.
pub(in crate::http) type ConnectionPermit = OwnedSemaphorePermit;

/// An open connection's share of both limits. A WebSocket holds it longer than its HTTP exchange.
#[derive(Debug)]
pub(in crate::http) struct ConnectionSlot {
    _peer: Permit<IpAddr>,
    _all: ConnectionPermit,
}

impl ConnectionLimiter {
    pub(in crate::http) fn new(connections: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(connections)), peers: KeyedSemaphore::default() }
    }

    /// `None` when all connections are in use.
    pub(in crate::http) fn try_permit(&self) -> Option<ConnectionPermit> {
        self.all.clone().try_acquire_owned().ok()
    }

    /// Waits until a connection is free.
    pub(in crate::http) async fn permit(&self) -> ConnectionPermit {
        self.all.clone().acquire_owned().await.expect("never closed")
    }

    /// Charges a permitted connection to its peer, or `None` when `limit` connections of that peer are open.
    pub(in crate::http) fn acquire(
        &self,
        addr: IpAddr,
        limit: usize,
        permit: ConnectionPermit,
    ) -> Option<ConnectionSlot> {
        let peer = self.peers.try_acquire(network(addr), limit)?;
        Some(ConnectionSlot { _peer: peer, _all: permit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peer_can_not_take_the_connections_of_others() {
        let limiter = ConnectionLimiter::new(10);
        let open = |addr: &str| limiter.acquire(addr.parse().unwrap(), 2, limiter.try_permit().unwrap());
        let first = open("2001:db8::1").unwrap();
        let _second = open("2001:db8::2").unwrap();
        assert!(open("2001:db8::3").is_none());
        let others = ["2001:db8:0:1::1", "192.0.2.1", "192.0.2.2"].map(|addr| open(addr).unwrap());
        assert_eq!(limiter.all.available_permits(), 5);
        drop(first);
        assert!(open("2001:db8::3").is_some());
        drop(others);
        assert_eq!(limiter.peers.n_keys(), 1);
    }
}
