//! The last grants of devices' logins, for the time when the database does not answer: a broker that gets no answer
//! drops messages and disconnects whole fleets.
//!
//! Only positive answers are cached, until the password expires and for [`MAX_AGE`] at most. A deletion or rotation on
//! this server invalidates its entries at once, and also the answer of a lookup that is in progress. One on another
//! server may count for up to [`MAX_AGE`] while the database does not answer.
//!
//! A cache crate would replace the two maps only: the rules above and the single probe of an absent database stay.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use crate::devices::RegistryListener;
use crate::devices::credentials_store::LoginGrant;
use crate::ids::{DeviceId, HomeId};
use crate::metrics::Metrics;

const MAX_AGE: Duration = Duration::from_secs(15 * 60);
/// User names in each of the two generations.
const MAX_NAMES: usize = 65_536;

/// Shared by the logins and the registry. Cheap to clone.
#[derive(Clone, Default)]
pub struct CredentialCache {
    state: Arc<Mutex<State>>,
    metrics: Metrics,
}

/// A cache of two generations: when the current one is full it becomes the previous one, whose entries are dropped.
/// An entry that is inserted again moves to the current one.
#[derive(Default)]
struct State {
    current: HashMap<Box<str>, CachedLogin>,
    previous: HashMap<Box<str>, CachedLogin>,
    /// Raised by each invalidation: the answer of a lookup that began before may be out of date.
    invalidations: u64,
    /// While the database does not answer: when to ask it again.
    retry_database_at: Option<Instant>,
}

#[derive(Clone, Copy)]
struct CachedLogin {
    home: HomeId,
    device: DeviceId,
    expires_at: DateTime<Utc>,
}

/// A lookup in the database, begun by [`CredentialCache::begin`].
pub(super) struct Lookup {
    invalidations: u64,
}

impl CredentialCache {
    pub fn new(metrics: Metrics) -> Self {
        Self { state: Arc::default(), metrics }
    }

    /// Begins a lookup that takes `max_duration` at most. `None` means that the user is authorized by the cache: the
    /// database does not answer, and another lookup is already probing it.
    pub(super) fn begin(&self, name: &str, now: DateTime<Utc>, max_duration: Duration) -> Option<Lookup> {
        let mut state = self.lock();
        if let Some(retry_at) = state.retry_database_at
            && state.is_cached(name, now)
        {
            if Instant::now() < retry_at {
                self.metrics.broker_auth_from_cache.inc();
                return None;
            }
            state.retry_database_at = Some(Instant::now() + max_duration);
        }
        Some(Lookup { invalidations: state.invalidations })
    }

    /// The database has answered.
    pub(super) fn insert(&self, lookup: &Lookup, name: &str, grant: Option<LoginGrant>, now: DateTime<Utc>) {
        let mut state = self.lock();
        if state.retry_database_at.take().is_some() {
            tracing::info!("the database answers brokers' questions again");
        }
        let Some(grant) = grant else {
            state.remove(name);
            return;
        };
        if lookup.invalidations != state.invalidations {
            return;
        }
        let max_end = now + MAX_AGE;
        let expires_at = grant.expires_at.map_or(max_end, |end| end.min(max_end));
        let n_dropped = state.insert(name, CachedLogin { home: grant.home, device: grant.device, expires_at });
        self.metrics.broker_auth_cache_evictions.inc_by(n_dropped as u64);
    }

    /// The database has not answered; the next lookup of a cached user waits for `pause`. Whether the user is
    /// authorized by the cache.
    pub(super) fn get_stale(&self, name: &str, now: DateTime<Utc>, pause: Duration) -> bool {
        let mut state = self.lock();
        if state.retry_database_at.replace(Instant::now() + pause).is_none() {
            tracing::warn!("the database does not answer brokers' questions: using cached answers");
        }
        let is_cached = state.is_cached(name, now);
        if is_cached {
            self.metrics.broker_auth_from_cache.inc();
        }
        is_cached
    }

    fn invalidate(&self, matches: impl Fn(&CachedLogin) -> bool) {
        let mut state = self.lock();
        state.invalidations += 1;
        state.current.retain(|_, login| !matches(login));
        state.previous.retain(|_, login| !matches(login));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("credential cache lock")
    }
}

impl State {
    fn is_cached(&self, name: &str, now: DateTime<Utc>) -> bool {
        self.current.get(name).or_else(|| self.previous.get(name)).is_some_and(|login| login.expires_at > now)
    }

    fn remove(&mut self, name: &str) {
        self.current.remove(name);
        self.previous.remove(name);
    }

    /// Returns how many entries were dropped.
    fn insert(&mut self, name: &str, login: CachedLogin) -> usize {
        if let Some(present) = self.current.get_mut(name) {
            *present = login;
            return 0;
        }
        self.previous.remove(name);
        let mut n_dropped = 0;
        if self.current.len() >= MAX_NAMES {
            n_dropped = self.previous.len();
            self.previous = std::mem::take(&mut self.current);
        }
        self.current.insert(name.into(), login);
        n_dropped
    }
}

impl RegistryListener for CredentialCache {
    fn device_changed(&self, _: HomeId, device: DeviceId) {
        self.invalidate(|login| login.device == device);
    }

    fn home_changed(&self, home: HomeId) {
        self.invalidate(|login| login.home == home);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn grant(device: i64, expires_at: Option<DateTime<Utc>>) -> Option<LoginGrant> {
        Some(LoginGrant { home: HomeId::from_database(1), device: DeviceId::from_database(device), expires_at })
    }

    fn look_up(cache: &CredentialCache, name: &str, grant: Option<LoginGrant>, now: DateTime<Utc>) {
        cache.insert(&cache.begin(name, now, SECOND).unwrap(), name, grant, now);
    }

    #[test]
    fn a_grant_counts_until_it_expires() {
        let (cache, now) = (CredentialCache::default(), DateTime::UNIX_EPOCH);
        look_up(&cache, "a", grant(1, None), now);
        look_up(&cache, "b", grant(2, Some(now + SECOND)), now);
        look_up(&cache, "c", grant(3, None), now);
        look_up(&cache, "c", None, now);
        let is_cached = |name, at| cache.get_stale(name, at, SECOND);
        assert!(is_cached("a", now) && is_cached("b", now));
        assert!(!is_cached("c", now) && !is_cached("d", now), "refused, and never asked");
        assert!(!is_cached("b", now + SECOND), "its password has expired");
        assert!(is_cached("a", now + MAX_AGE - SECOND) && !is_cached("a", now + MAX_AGE));
    }

    #[test]
    fn an_invalidated_grant_is_not_stored_by_a_lookup_in_progress() {
        let (cache, now) = (CredentialCache::default(), DateTime::UNIX_EPOCH);
        for (name, device) in [("a", 1), ("b", 2)] {
            look_up(&cache, name, grant(device, None), now);
        }
        let slow = cache.begin("a", now, SECOND).unwrap();
        cache.device_changed(HomeId::from_database(1), DeviceId::from_database(1));
        cache.insert(&slow, "a", grant(1, None), now);
        assert!(!cache.get_stale("a", now, SECOND) && cache.get_stale("b", now, SECOND));
        cache.home_changed(HomeId::from_database(1));
        assert!(!cache.get_stale("b", now, SECOND));
    }

    #[test]
    fn one_lookup_at_a_time_probes_an_absent_database() {
        let (cache, now) = (CredentialCache::default(), DateTime::UNIX_EPOCH);
        let hour = 3_600 * SECOND;
        let looks_up = |name| cache.begin(name, now, hour).is_some();
        look_up(&cache, "a", grant(1, None), now);
        assert!(looks_up("a") && looks_up("a"), "the database answers");
        cache.get_stale("a", now, hour);
        assert!(!looks_up("a") && looks_up("unknown"), "absent: only a cached user needs no lookup");
        cache.get_stale("a", now, Duration::ZERO);
        assert!(looks_up("a") && !looks_up("a"), "one lookup probes");
        look_up(&cache, "unknown", None, now);
        assert!(looks_up("a") && looks_up("a"), "the database is back");
    }

    #[test]
    fn the_oldest_names_are_dropped_when_the_cache_is_full() {
        let (cache, now) = (CredentialCache::new(Metrics::new()), DateTime::UNIX_EPOCH);
        for n in 0..=2 * MAX_NAMES {
            look_up(&cache, &n.to_string(), grant(1, None), now);
        }
        assert!(cache.get_stale(&MAX_NAMES.to_string(), now, SECOND) && !cache.get_stale("0", now, SECOND));
        assert_eq!(cache.metrics.broker_auth_cache_evictions.get(), MAX_NAMES as u64);
        let state = cache.lock();
        assert!(state.current.len() + state.previous.len() <= 2 * MAX_NAMES);
    }
}
