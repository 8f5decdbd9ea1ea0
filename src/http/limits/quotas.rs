//! Quotas on open WebSockets and running subscriptions: of one user and of one client address, over all
//! connections and transports. Each server counts for itself. An address is an IPv4 address or an IPv6 /64 network.

use std::net::IpAddr;
use std::sync::Arc;

use prometheus_client::metrics::gauge::Gauge;

use super::Limits;
use super::keyed_semaphore::{KeyedSemaphore, Permit};
use crate::graphql::engine::Caller;
use crate::ids::UserId;
use crate::metrics::Metrics;
use crate::throttle::network;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    User(UserId),
    Address(IpAddr),
}

/// What a quota is of, and how much.
#[derive(Clone, Copy)]
struct Quota {
    limit: usize,
    /// The `reason` of `smarthome_quota_exceeded`.
    name: &'static str,
}

const SOCKETS_PER_USER: &str = "SOCKETS_PER_USER";
const SOCKETS_PER_ADDRESS: &str = "SOCKETS_PER_ADDRESS";
const STREAMS_PER_USER: &str = "STREAMS_PER_USER";
const STREAMS_PER_ADDRESS: &str = "STREAMS_PER_ADDRESS";

/// The names of all quotas.
pub(in crate::http) const QUOTAS: [&str; 4] =
    [SOCKETS_PER_USER, SOCKETS_PER_ADDRESS, STREAMS_PER_USER, STREAMS_PER_ADDRESS];

/// Hands out quotas. Cheap to clone; all clones count together.
#[derive(Clone)]
pub struct Quotas(Arc<Tables>);

struct Tables {
    sockets: KeyedSemaphore<Key>,
    subscriptions: KeyedSemaphore<Key>,
    sockets_per_user: Quota,
    sockets_per_address: Quota,
    subscriptions_per_user: Quota,
    subscriptions_per_address: Quota,
    metrics: Metrics,
}

/// The user or the address has as many open as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) struct QuotaExceeded;

/// An open socket's quota, released on drop.
#[derive(Default)]
pub(in crate::http) struct SocketQuota {
    _address: Option<Permit<Key>>,
    user: Option<(UserId, Permit<Key>)>,
}

/// A running subscription's quota, released on drop.
pub(in crate::http) struct SubscriptionQuota {
    _address: Option<Permit<Key>>,
    _user: Option<Permit<Key>>,
    running: Gauge,
}

impl Quotas {
    pub fn new(limits: &Limits, metrics: Metrics) -> Self {
        let quota = |limit, name| Quota { limit, name };
        Self(Arc::new(Tables {
            sockets: KeyedSemaphore::default(),
            subscriptions: KeyedSemaphore::default(),
            sockets_per_user: quota(limits.sockets_per_user, SOCKETS_PER_USER),
            sockets_per_address: quota(limits.sockets_per_address, SOCKETS_PER_ADDRESS),
            subscriptions_per_user: quota(limits.subscriptions_per_user, STREAMS_PER_USER),
            subscriptions_per_address: quota(limits.subscriptions_per_address, STREAMS_PER_ADDRESS),
            metrics,
        }))
    }

    /// For a socket of this caller, who may not be signed in yet.
    pub(in crate::http) fn socket(&self, caller: &Caller) -> Result<SocketQuota, QuotaExceeded> {
        let tables = &self.0;
        let address = self.acquire_for_address(&tables.sockets, caller, tables.sockets_per_address)?;
        let mut quota = SocketQuota { _address: address, user: None };
        if let Some(principal) = &caller.viewer.0 {
            self.sign_in(&mut quota, principal.user)?;
        }
        Ok(quota)
    }

    /// Charges the socket to this user from now on.
    pub(in crate::http) fn sign_in(&self, quota: &mut SocketQuota, user: UserId) -> Result<(), QuotaExceeded> {
        if quota.user.as_ref().is_none_or(|(present, _)| *present != user) {
            let permit = self.acquire(&self.0.sockets, Key::User(user), self.0.sockets_per_user)?;
            quota.user = Some((user, permit));
        }
        Ok(())
    }

    /// For a subscription of this caller.
    pub(in crate::http) fn subscription(&self, caller: &Caller) -> Result<SubscriptionQuota, QuotaExceeded> {
        let tables = &self.0;
        let address = self.acquire_for_address(&tables.subscriptions, caller, tables.subscriptions_per_address)?;
        let user = caller.viewer.0.as_ref().map(|principal| Key::User(principal.user));
        let user = user.map(|user| self.acquire(&tables.subscriptions, user, tables.subscriptions_per_user));
        let user = user.transpose()?;
        let running = tables.metrics.http_subscriptions.clone();
        running.inc();
        Ok(SubscriptionQuota { _address: address, _user: user, running })
    }

    fn acquire_for_address(
        &self,
        semaphore: &KeyedSemaphore<Key>,
        caller: &Caller,
        quota: Quota,
    ) -> Result<Option<Permit<Key>>, QuotaExceeded> {
        let address = caller.peer.0.map(|address| Key::Address(network(address)));
        address.map(|address| self.acquire(semaphore, address, quota)).transpose()
    }

    fn acquire(&self, semaphore: &KeyedSemaphore<Key>, key: Key, quota: Quota) -> Result<Permit<Key>, QuotaExceeded> {
        semaphore.try_acquire(key, quota.limit).ok_or_else(|| {
            self.0.metrics.count_quota_exceeded(quota.name);
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
    fn a_network_counts_as_one_address_and_a_dropped_quota_is_free_again() {
        let limits = Limits { subscriptions_per_address: 2, sockets_per_address: 1, ..Limits::default() };
        let (metrics, anonymous) = (Metrics::new(), Viewer(None));
        let quotas = Quotas::new(&limits, metrics.clone());
        let at = |addr: &str| Caller { viewer: anonymous.clone(), peer: Peer(Some(addr.parse().unwrap())) };
        let first = quotas.subscription(&at("2001:db8::1")).unwrap();
        let _second = quotas.subscription(&at("2001:db8::2")).unwrap();
        assert_eq!(quotas.subscription(&at("2001:db8::3")).err(), Some(QuotaExceeded));
        let _neighbour = quotas.subscription(&at("2001:db8:0:1::3")).unwrap();
        assert_eq!(metrics.http_subscriptions.get(), 3);
        drop(first);
        let _again = quotas.subscription(&at("2001:db8::3")).unwrap();

        let mut socket = quotas.socket(&at("192.0.2.1")).unwrap();
        assert!(quotas.socket(&at("::ffff:192.0.2.1")).is_err(), "the same address");
        for user in [7, 7, 8] {
            quotas.sign_in(&mut socket, UserId::from_database(user)).unwrap();
        }
        assert_eq!(quotas.0.sockets.n_keys(), 2, "the previous user's permit is released");
        drop(socket);
        assert_eq!(quotas.0.sockets.n_keys(), 0);
    }
}
