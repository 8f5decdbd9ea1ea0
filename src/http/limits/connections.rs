//! Places among the open connections: so many in all, and so many for one network peer, so that no
//! single peer can take all. A peer is an IPv4 address, or the 64-bit network of an IPv6 one: whoever
//! has one address of that has all of them.

use std::net::IpAddr;

use tokio::sync::OwnedSemaphorePermit;

use super::keyed_semaphore::{KeyedSemaphore, Permit};
use crate::throttle::network;

/// How many connections each peer has.
#[derive(Debug, Default)]
pub(in crate::http) struct ConnectionLimiter(KeyedSemaphore<IpAddr>);

/// One connection's place, free again when the last that holds it is gone.
#[derive(Debug)]
pub(in crate::http) struct ConnectionSlot {
    _counted: Permit<IpAddr>,
    _permit: OwnedSemaphorePermit,
}

impl ConnectionLimiter {
    /// A place for a connection of this peer, or `None` where it has `most` already.
    pub(in crate::http) fn acquire(
        &self,
        addr: IpAddr,
        most: usize,
        permit: OwnedSemaphorePermit,
    ) -> Option<ConnectionSlot> {
        let counted = self.0.take(network(addr), most)?;
        Some(ConnectionSlot { _counted: counted, _permit: permit })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;

    #[test]
    fn a_peer_has_its_places_and_leaves_those_of_others() {
        let (peers, permits) = (ConnectionLimiter::default(), Arc::new(Semaphore::new(10)));
        let place = |addr: &str| {
            let permit = permits.clone().try_acquire_owned().unwrap();
            peers.acquire(addr.parse().unwrap(), 2, permit)
        };
        let first = place("2001:db8::1").unwrap();
        let _second = place("2001:db8::2").unwrap();
        assert!(place("2001:db8::3").is_none());
        let others = ["2001:db8:0:1::1", "192.0.2.1", "192.0.2.2"].map(|addr| place(addr).unwrap());
        assert_eq!(permits.available_permits(), 5);
        drop(first);
        assert!(place("2001:db8::3").is_some());
        drop(others);
        assert_eq!(peers.0.n_holders(), 1);
    }
}
