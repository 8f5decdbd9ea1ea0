//! What one person and one client's address may have open at once, over all their connections: sockets,
//! and subscriptions over whatever carries them. Counted by this server alone. An address is an IPv4 one,
//! or the 64-bit network of an IPv6 one.

use std::net::IpAddr;
use std::sync::Arc;

use prometheus_client::metrics::gauge::Gauge;

use super::counts::{Counted, Counts};
use super::limits::Limits;
use crate::graphql::engine::Caller;
use crate::ids::UserId;
use crate::metrics::Metrics;
use crate::throttle::network;

/// Who has something open.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Holder {
    User(UserId),
    Address(IpAddr),
}

/// Hands out shares. Cheap to clone; all clones count together.
#[derive(Clone)]
pub struct Shares(Arc<Tables>);

struct Tables {
    sockets: Counts<Holder>,
    streams: Counts<Holder>,
    sockets_per_user: usize,
    sockets_per_address: usize,
    streams_per_user: usize,
    streams_per_address: usize,
    metrics: Metrics,
}

/// They have all they may have open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// An open socket's; free again when dropped.
#[derive(Default)]
pub(super) struct SocketShare {
    _address: Option<Counted<Holder>>,
    user: Option<(UserId, Counted<Holder>)>,
}

/// A running subscription's; free again when dropped.
pub(super) struct StreamShare {
    _address: Option<Counted<Holder>>,
    _user: Option<Counted<Holder>>,
    running: Gauge,
}

impl Shares {
    /// With these bounds.
    pub fn new(limits: &Limits, metrics: Metrics) -> Self {
        Self(Arc::new(Tables {
            sockets: Counts::default(),
            streams: Counts::default(),
            sockets_per_user: limits.sockets_per_user,
            sockets_per_address: limits.sockets_per_address,
            streams_per_user: limits.streams_per_user,
            streams_per_address: limits.streams_per_address,
            metrics,
        }))
    }

    /// For a socket of this caller, who may still be nobody.
    pub(super) fn socket(&self, caller: &Caller) -> Result<SocketShare, Full> {
        let tables = &self.0;
        let address = self.of_address(&tables.sockets, caller, tables.sockets_per_address, "SOCKETS_PER_ADDRESS")?;
        let mut share = SocketShare { _address: address, user: None };
        if let Some(principal) = &caller.viewer.0 {
            self.sign_in(&mut share, principal.user)?;
        }
        Ok(share)
    }

    /// The socket is this person's from now on.
    pub(super) fn sign_in(&self, share: &mut SocketShare, user: UserId) -> Result<(), Full> {
        if share.user.as_ref().is_none_or(|(present, _)| *present != user) {
            let most = self.0.sockets_per_user;
            let counted = self.take(&self.0.sockets, Holder::User(user), most, "SOCKETS_PER_USER")?;
            share.user = Some((user, counted));
        }
        Ok(())
    }

    /// For a subscription of this caller.
    pub(super) fn stream(&self, caller: &Caller) -> Result<StreamShare, Full> {
        let tables = &self.0;
        let address = self.of_address(&tables.streams, caller, tables.streams_per_address, "STREAMS_PER_ADDRESS")?;
        let user = caller.viewer.0.as_ref().map(|principal| Holder::User(principal.user));
        let most = tables.streams_per_user;
        let user = user.map(|user| self.take(&tables.streams, user, most, "STREAMS_PER_USER")).transpose()?;
        let running = tables.metrics.http_streams.clone();
        running.inc();
        Ok(StreamShare { _address: address, _user: user, running })
    }

    fn of_address(
        &self,
        counts: &Counts<Holder>,
        caller: &Caller,
        most: usize,
        name: &'static str,
    ) -> Result<Option<Counted<Holder>>, Full> {
        let address = caller.peer.0.map(|address| Holder::Address(network(address)));
        address.map(|address| self.take(counts, address, most, name)).transpose()
    }

    fn take(
        &self,
        counts: &Counts<Holder>,
        holder: Holder,
        most: usize,
        name: &'static str,
    ) -> Result<Counted<Holder>, Full> {
        counts.take(holder, most).ok_or_else(|| {
            self.0.metrics.fill_share(name);
            Full
        })
    }
}

impl Drop for StreamShare {
    fn drop(&mut self) {
        self.running.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graphql::{Peer, Viewer};

    #[test]
    fn a_network_is_one_holder_and_what_is_dropped_is_free() {
        let limits = Limits { streams_per_address: 2, sockets_per_address: 1, ..Limits::default() };
        let (metrics, nobody) = (Metrics::new(), Viewer(None));
        let shares = Shares::new(&limits, metrics.clone());
        let at = |addr: &str| Caller { viewer: nobody.clone(), peer: Peer(Some(addr.parse().unwrap())) };
        let first = shares.stream(&at("2001:db8::1")).unwrap();
        let _second = shares.stream(&at("2001:db8::2")).unwrap();
        assert_eq!(shares.stream(&at("2001:db8::3")).err(), Some(Full));
        let _neighbour = shares.stream(&at("2001:db8:0:1::3")).unwrap();
        assert_eq!(metrics.http_streams.get(), 3);
        drop(first);
        let _again = shares.stream(&at("2001:db8::3")).unwrap();

        let mut socket = shares.socket(&at("192.0.2.1")).unwrap();
        assert!(shares.socket(&at("::ffff:192.0.2.1")).is_err(), "the same address");
        for user in [7, 7, 8] {
            shares.sign_in(&mut socket, UserId::from_database(user)).unwrap();
        }
        assert_eq!(shares.0.sockets.n_holders(), 2, "whom it was before has nothing");
        drop(socket);
        assert_eq!(shares.0.sockets.n_holders(), 0);
    }
}
