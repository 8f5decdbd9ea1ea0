//! What one person and one client's address may have open at once, over all their connections: sockets,
//! and subscriptions over whatever carries them. Permit by this server alone. An address is an IPv4 one,
//! or the 64-bit network of an IPv6 one.

use std::net::IpAddr;
use std::sync::Arc;

use prometheus_client::metrics::gauge::Gauge;

use super::Limits;
use super::keyed_semaphore::{KeyedSemaphore, Permit};
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

/// Hands out quotas. Cheap to clone; all clones count together.
#[derive(Clone)]
pub struct Quotas(Arc<Tables>);

struct Tables {
    sockets: KeyedSemaphore<Holder>,
    streams: KeyedSemaphore<Holder>,
    sockets_per_user: usize,
    sockets_per_address: usize,
    subscriptions_per_user: usize,
    subscriptions_per_address: usize,
    metrics: Metrics,
}

/// They have all they may have open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) struct QuotaExceeded;

/// An open socket's; free again when dropped.
#[derive(Default)]
pub(in crate::http) struct SocketQuota {
    _address: Option<Permit<Holder>>,
    user: Option<(UserId, Permit<Holder>)>,
}

/// A running subscription's; free again when dropped.
pub(in crate::http) struct SubscriptionQuota {
    _address: Option<Permit<Holder>>,
    _user: Option<Permit<Holder>>,
    running: Gauge,
}

impl Quotas {
    /// With these bounds.
    pub fn new(limits: &Limits, metrics: Metrics) -> Self {
        Self(Arc::new(Tables {
            sockets: KeyedSemaphore::default(),
            streams: KeyedSemaphore::default(),
            sockets_per_user: limits.sockets_per_user,
            sockets_per_address: limits.sockets_per_address,
            subscriptions_per_user: limits.subscriptions_per_user,
            subscriptions_per_address: limits.subscriptions_per_address,
            metrics,
        }))
    }

    /// For a socket of this caller, who may still be nobody.
    pub(in crate::http) fn socket(&self, caller: &Caller) -> Result<SocketQuota, QuotaExceeded> {
        let tables = &self.0;
        let address = self.of_address(&tables.sockets, caller, tables.sockets_per_address, "SOCKETS_PER_ADDRESS")?;
        let mut share = SocketQuota { _address: address, user: None };
        if let Some(principal) = &caller.viewer.0 {
            self.sign_in(&mut share, principal.user)?;
        }
        Ok(share)
    }

    /// The socket is this person's from now on.
    pub(in crate::http) fn sign_in(&self, share: &mut SocketQuota, user: UserId) -> Result<(), QuotaExceeded> {
        if share.user.as_ref().is_none_or(|(present, _)| *present != user) {
            let most = self.0.sockets_per_user;
            let counted = self.take(&self.0.sockets, Holder::User(user), most, "SOCKETS_PER_USER")?;
            share.user = Some((user, counted));
        }
        Ok(())
    }

    /// For a subscription of this caller.
    pub(in crate::http) fn stream(&self, caller: &Caller) -> Result<SubscriptionQuota, QuotaExceeded> {
        let tables = &self.0;
        let address =
            self.of_address(&tables.streams, caller, tables.subscriptions_per_address, "STREAMS_PER_ADDRESS")?;
        let user = caller.viewer.0.as_ref().map(|principal| Holder::User(principal.user));
        let most = tables.subscriptions_per_user;
        let user = user.map(|user| self.take(&tables.streams, user, most, "STREAMS_PER_USER")).transpose()?;
        let running = tables.metrics.http_subscriptions.clone();
        running.inc();
        Ok(SubscriptionQuota { _address: address, _user: user, running })
    }

    fn of_address(
        &self,
        counts: &KeyedSemaphore<Holder>,
        caller: &Caller,
        most: usize,
        name: &'static str,
    ) -> Result<Option<Permit<Holder>>, QuotaExceeded> {
        let address = caller.peer.0.map(|address| Holder::Address(network(address)));
        address.map(|address| self.take(counts, address, most, name)).transpose()
    }

    fn take(
        &self,
        counts: &KeyedSemaphore<Holder>,
        holder: Holder,
        most: usize,
        name: &'static str,
    ) -> Result<Permit<Holder>, QuotaExceeded> {
        counts.take(holder, most).ok_or_else(|| {
            self.0.metrics.count_quota_exceeded(name);
            QuotaExceeded
        })
    }
}

impl Drop for SubscriptionQuota {
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
        let limits = Limits { subscriptions_per_address: 2, sockets_per_address: 1, ..Limits::default() };
        let (metrics, nobody) = (Metrics::new(), Viewer(None));
        let quotas = Quotas::new(&limits, metrics.clone());
        let at = |addr: &str| Caller { viewer: nobody.clone(), peer: Peer(Some(addr.parse().unwrap())) };
        let first = quotas.stream(&at("2001:db8::1")).unwrap();
        let _second = quotas.stream(&at("2001:db8::2")).unwrap();
        assert_eq!(quotas.stream(&at("2001:db8::3")).err(), Some(QuotaExceeded));
        let _neighbour = quotas.stream(&at("2001:db8:0:1::3")).unwrap();
        assert_eq!(metrics.http_subscriptions.get(), 3);
        drop(first);
        let _again = quotas.stream(&at("2001:db8::3")).unwrap();

        let mut socket = quotas.socket(&at("192.0.2.1")).unwrap();
        assert!(quotas.socket(&at("::ffff:192.0.2.1")).is_err(), "the same address");
        for user in [7, 7, 8] {
            quotas.sign_in(&mut socket, UserId::from_database(user)).unwrap();
        }
        assert_eq!(quotas.0.sockets.n_holders(), 2, "whom it was before has nothing");
        drop(socket);
        assert_eq!(quotas.0.sockets.n_holders(), 0);
    }
}
