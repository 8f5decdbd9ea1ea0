//! What the database last said of devices' connections, for the time when it does not answer: a broker
//! that hears no yes drops messages, and puts out whole fleets.
//!
//! A yes alone is remembered, up to the password's own end and for [`KEPT`] at most. What this server ends
//! is forgotten as it ends; what another one ends may count for that long, while the database is away.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use crate::devices::RegistryListener;
use crate::ids::{DeviceId, HomeId};
use crate::metrics::Metrics;

/// How long an answer counts after it was given.
const KEPT: Duration = Duration::from_secs(15 * 60);
/// Names in either half of the memory.
const MAX_NAMES: usize = 65_536;

/// A device whose connection may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::devices) struct LoginGrant {
    pub(in crate::devices) home: HomeId,
    pub(in crate::devices) device: DeviceId,
    /// When its password ends, if it does.
    pub(in crate::devices) expires_at: Option<DateTime<Utc>>,
}

/// One for whoever asks and whoever ends passwords. Cheap to clone.
#[derive(Clone, Default)]
pub struct CredentialCache {
    state: Arc<Mutex<State>>,
    metrics: Metrics,
}

#[derive(Default)]
struct State {
    /// Names that were lookup about lately.
    current: HashMap<Box<str>, CachedLogin>,
    /// Those before them; they go when the current ones are too many.
    previous: HashMap<Box<str>, CachedLogin>,
    /// Raised by each [`CredentialCache::forget`]: an answer that was under way then may be out of date.
    invalidations: u64,
    /// While the database does not answer: when to ask it again.
    away_until: Option<Instant>,
}

#[derive(Clone, Copy)]
struct CachedLogin {
    home: HomeId,
    device: DeviceId,
    until: DateTime<Utc>,
}

/// What it takes to tell what came of a question.
pub(super) struct Lookup {
    invalidations: u64,
}

impl CredentialCache {
    /// Knows nothing yet.
    pub fn new(metrics: Metrics) -> Self {
        Self { state: Arc::default(), metrics }
    }

    /// Begins a question that takes `patience` at most. None while the database is away and the name is
    /// known: then one question at a time finds out whether it is back, and the others don't wait for it.
    pub(super) fn begin(&self, name: &str, now: DateTime<Utc>, patience: Duration) -> Option<Lookup> {
        let mut state = self.lock();
        if let Some(away_until) = state.away_until
            && state.knows(name, now)
        {
            if Instant::now() < away_until {
                self.metrics.broker_auth_from_cache.inc();
                return None;
            }
            state.away_until = Some(Instant::now() + patience);
        }
        Some(Lookup { invalidations: state.invalidations })
    }

    /// The database has answered.
    pub(super) fn insert(&self, lookup: &Lookup, name: &str, grant: Option<LoginGrant>, now: DateTime<Utc>) {
        let mut state = self.lock();
        if state.away_until.take().is_some() {
            tracing::info!("the database answers brokers' questions again");
        }
        let Some(LoginGrant { home, device, expires_at }) = grant else {
            state.current.remove(name);
            state.previous.remove(name);
            return;
        };
        if lookup.invalidations != state.invalidations {
            return;
        }
        let kept = now + KEPT;
        let known = CachedLogin { home, device, until: expires_at.map_or(kept, |end| end.min(kept)) };
        if let Some(place) = state.current.get_mut(name) {
            *place = known;
            return;
        }
        state.previous.remove(name);
        if state.current.len() >= MAX_NAMES {
            let n_dropped = state.previous.len() as u64;
            self.metrics.broker_auth_cache_evictions.inc_by(n_dropped);
            state.previous = std::mem::take(&mut state.current);
        }
        state.current.insert(name.into(), known);
    }

    /// The database has not answered, and is left alone for `pause`. Whether its last answer was a yes that
    /// counts still.
    pub(super) fn get_stale(&self, name: &str, now: DateTime<Utc>, pause: Duration) -> bool {
        let mut state = self.lock();
        if state.away_until.replace(Instant::now() + pause).is_none() {
            tracing::warn!("the database does not answer brokers' questions: what it last said counts meanwhile");
        }
        let knows = state.knows(name, now);
        if knows {
            self.metrics.broker_auth_from_cache.inc();
        }
        knows
    }

    fn invalidate(&self, is_meant: impl Fn(&CachedLogin) -> bool) {
        let mut state = self.lock();
        state.invalidations += 1;
        state.current.retain(|_, known| !is_meant(known));
        state.previous.retain(|_, known| !is_meant(known));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("memory lock")
    }
}

impl State {
    fn knows(&self, name: &str, now: DateTime<Utc>) -> bool {
        self.current.get(name).or_else(|| self.previous.get(name)).is_some_and(|known| known.until > now)
    }
}

impl RegistryListener for CredentialCache {
    fn device_changed(&self, _: HomeId, device: DeviceId) {
        self.invalidate(|known| known.device == device);
    }

    fn home_changed(&self, home: HomeId) {
        self.invalidate(|known| known.home == home);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn grant(device: i64, expires_at: Option<DateTime<Utc>>) -> Option<LoginGrant> {
        Some(LoginGrant { home: HomeId::from_database(1), device: DeviceId::from_database(device), expires_at })
    }

    fn told(memory: &CredentialCache, name: &str, grant: Option<LoginGrant>, now: DateTime<Utc>) {
        memory.insert(&memory.begin(name, now, SECOND).unwrap(), name, grant, now);
    }

    #[test]
    fn a_yes_counts_for_its_time_and_no_longer() {
        let (memory, now) = (CredentialCache::default(), DateTime::UNIX_EPOCH);
        told(&memory, "a", grant(1, None), now);
        told(&memory, "b", grant(2, Some(now + SECOND)), now);
        told(&memory, "c", grant(3, None), now);
        told(&memory, "c", None, now);
        let recalls = |name, at| memory.get_stale(name, at, SECOND);
        assert!(recalls("a", now) && recalls("b", now));
        assert!(!recalls("c", now) && !recalls("d", now), "no for an answer, and none");
        assert!(!recalls("b", now + SECOND), "its password has ended");
        assert!(recalls("a", now + KEPT - SECOND) && !recalls("a", now + KEPT));
    }

    #[test]
    fn what_ends_here_is_forgotten_though_an_older_answer_comes_after() {
        let (memory, now) = (CredentialCache::default(), DateTime::UNIX_EPOCH);
        for (name, device) in [("a", 1), ("b", 2)] {
            told(&memory, name, grant(device, None), now);
        }
        let slow = memory.begin("a", now, SECOND).unwrap();
        memory.device_changed(HomeId::from_database(1), DeviceId::from_database(1));
        memory.insert(&slow, "a", grant(1, None), now);
        assert!(!memory.get_stale("a", now, SECOND) && memory.get_stale("b", now, SECOND));
        memory.home_changed(HomeId::from_database(1));
        assert!(!memory.get_stale("b", now, SECOND));
    }

    #[test]
    fn a_database_that_is_away_is_asked_by_one_at_a_time() {
        let (memory, now) = (CredentialCache::default(), DateTime::UNIX_EPOCH);
        let hour = 3_600 * SECOND;
        let asks = |name| memory.begin(name, now, hour).is_some();
        told(&memory, "a", grant(1, None), now);
        assert!(asks("a") && asks("a"), "it answers");
        memory.get_stale("a", now, hour);
        assert!(!asks("a") && asks("unknown"), "away: only who is known can do without");
        memory.get_stale("a", now, Duration::ZERO);
        assert!(asks("a") && !asks("a"), "one finds out");
        told(&memory, "unknown", None, now);
        assert!(asks("a") && asks("a"), "it is back");
    }

    #[test]
    fn more_names_than_it_holds_push_out_the_oldest() {
        let (memory, now) = (CredentialCache::new(Metrics::new()), DateTime::UNIX_EPOCH);
        for n in 0..=2 * MAX_NAMES {
            told(&memory, &n.to_string(), grant(1, None), now);
        }
        assert!(memory.get_stale(&MAX_NAMES.to_string(), now, SECOND) && !memory.get_stale("0", now, SECOND));
        assert_eq!(memory.metrics.broker_auth_cache_evictions.get(), MAX_NAMES as u64);
        let state = memory.lock();
        assert!(state.current.len() + state.previous.len() <= 2 * MAX_NAMES);
    }
}
