//! Places among the open connections: so many in all, and so many for one network peer, so that no
//! single peer can take all. A peer is an IPv4 address, or the 64-bit network of an IPv6 one: whoever
//! has one address of that has all of them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use tokio::sync::OwnedSemaphorePermit;

use crate::throttle::network;

/// How many connections each peer has. Only peers that have any are in it.
#[derive(Debug, Clone, Default)]
pub(super) struct Peers(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One connection's place, free again when the last that holds it is gone.
#[derive(Debug)]
pub(super) struct Place {
    peer: IpAddr,
    peers: Peers,
    _permit: OwnedSemaphorePermit,
}

impl Peers {
    /// A place for a connection of this peer, or `None` where it has `most` already.
    pub(super) fn place(&self, addr: IpAddr, most: usize, permit: OwnedSemaphorePermit) -> Option<Place> {
        let peer = network(addr);
        {
            let mut counts = self.0.lock().expect("peers lock");
            let count = counts.entry(peer).or_default();
            if *count >= most {
                return None;
            }
            *count += 1;
        }
        Some(Place { peer, peers: self.clone(), _permit: permit })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.peers.0.lock().expect("peers lock");
        if let Entry::Occupied(mut count) = counts.entry(self.peer) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    #[test]
    fn a_peer_has_its_places_and_leaves_those_of_others() {
        let (peers, permits) = (Peers::default(), Arc::new(Semaphore::new(10)));
        let place = |addr: &str| {
            let permit = permits.clone().try_acquire_owned().unwrap();
            peers.place(addr.parse().unwrap(), 2, permit)
        };
        let first = place("2001:db8::1").unwrap();
        let _second = place("2001:db8::2").unwrap();
        assert!(place("2001:db8::3").is_none());
        let others = ["2001:db8:0:1::1", "192.0.2.1", "192.0.2.2"].map(|addr| place(addr).unwrap());
        assert_eq!(permits.available_permits(), 5);
        drop(first);
        assert!(place("2001:db8::3").is_some());
        drop(others);
        assert_eq!(peers.0.lock().unwrap().len(), 1);
    }
}
