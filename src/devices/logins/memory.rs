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
pub(in crate::devices) struct Standing {
    pub(in crate::devices) home: HomeId,
    pub(in crate::devices) device: DeviceId,
    /// When its password ends, if it does.
    pub(in crate::devices) expires_at: Option<DateTime<Utc>>,
}

/// One for whoever asks and whoever ends passwords. Cheap to clone.
#[derive(Clone, Default)]
pub struct LoginMemory {
    state: Arc<Mutex<State>>,
    metrics: Metrics,
}

#[derive(Default)]
struct State {
    /// Names that were asked about lately.
    young: HashMap<Box<str>, Known>,
    /// Those before them; they go when the young ones are too many.
    old: HashMap<Box<str>, Known>,
    /// Raised by each [`LoginMemory::forget`]: an answer that was under way then may be out of date.
    n_forgotten: u64,
    /// While the database does not answer: when to ask it again.
    away_until: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Known {
    home: HomeId,
    device: DeviceId,
    until: DateTime<Utc>,
}

/// What it takes to tell what came of a question.
pub(super) struct Asked {
    n_forgotten: u64,
}

impl LoginMemory {
    /// Knows nothing yet.
    pub fn new(metrics: Metrics) -> Self {
        Self { state: Arc::default(), metrics }
    }

    /// Begins a question that takes `patience` at most. None while the database is away and the name is
    /// known: then one question at a time finds out whether it is back, and the others don't wait for it.
    pub(super) fn ask(&self, name: &str, now: DateTime<Utc>, patience: Duration) -> Option<Asked> {
        let mut state = self.lock();
        if let Some(away_until) = state.away_until
            && state.knows(name, now)
        {
            if Instant::now() < away_until {
                self.metrics.broker_answers_remembered.inc();
                return None;
            }
            state.away_until = Some(Instant::now() + patience);
        }
        Some(Asked { n_forgotten: state.n_forgotten })
    }

    /// The database has answered.
    pub(super) fn learn(&self, asked: &Asked, name: &str, standing: Option<Standing>, now: DateTime<Utc>) {
        let mut state = self.lock();
        if state.away_until.take().is_some() {
            tracing::info!("the database answers brokers' questions again");
        }
        let Some(Standing { home, device, expires_at }) = standing else {
            state.young.remove(name);
            state.old.remove(name);
            return;
        };
        if asked.n_forgotten != state.n_forgotten {
            return;
        }
        let kept = now + KEPT;
        let known = Known { home, device, until: expires_at.map_or(kept, |end| end.min(kept)) };
        if let Some(place) = state.young.get_mut(name) {
            *place = known;
            return;
        }
        state.old.remove(name);
        if state.young.len() >= MAX_NAMES {
            let n_dropped = state.old.len() as u64;
            self.metrics.broker_answers_dropped.inc_by(n_dropped);
            state.old = std::mem::take(&mut state.young);
        }
        state.young.insert(name.into(), known);
    }

    /// The database has not answered, and is left alone for `pause`. Whether its last answer was a yes that
    /// counts still.
    pub(super) fn recall(&self, name: &str, now: DateTime<Utc>, pause: Duration) -> bool {
        let mut state = self.lock();
        if state.away_until.replace(Instant::now() + pause).is_none() {
            tracing::warn!("the database does not answer brokers' questions: what it last said counts meanwhile");
        }
        let knows = state.knows(name, now);
        if knows {
            self.metrics.broker_answers_remembered.inc();
        }
        knows
    }

    fn forget(&self, is_meant: impl Fn(&Known) -> bool) {
        let mut state = self.lock();
        state.n_forgotten += 1;
        state.young.retain(|_, known| !is_meant(known));
        state.old.retain(|_, known| !is_meant(known));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("memory lock")
    }
}

impl State {
    fn knows(&self, name: &str, now: DateTime<Utc>) -> bool {
        self.young.get(name).or_else(|| self.old.get(name)).is_some_and(|known| known.until > now)
    }
}

impl RegistryListener for LoginMemory {
    fn device_changed(&self, _: HomeId, device: DeviceId) {
        self.forget(|known| known.device == device);
    }

    fn home_changed(&self, home: HomeId) {
        self.forget(|known| known.home == home);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn standing(device: i64, expires_at: Option<DateTime<Utc>>) -> Option<Standing> {
        Some(Standing { home: HomeId::from_database(1), device: DeviceId::from_database(device), expires_at })
    }

    fn told(memory: &LoginMemory, name: &str, standing: Option<Standing>, now: DateTime<Utc>) {
        memory.learn(&memory.ask(name, now, SECOND).unwrap(), name, standing, now);
    }

    #[test]
    fn a_yes_counts_for_its_time_and_no_longer() {
        let (memory, now) = (LoginMemory::default(), DateTime::UNIX_EPOCH);
        told(&memory, "a", standing(1, None), now);
        told(&memory, "b", standing(2, Some(now + SECOND)), now);
        told(&memory, "c", standing(3, None), now);
        told(&memory, "c", None, now);
        let recalls = |name, at| memory.recall(name, at, SECOND);
        assert!(recalls("a", now) && recalls("b", now));
        assert!(!recalls("c", now) && !recalls("d", now), "no for an answer, and none");
        assert!(!recalls("b", now + SECOND), "its password has ended");
        assert!(recalls("a", now + KEPT - SECOND) && !recalls("a", now + KEPT));
    }

    #[test]
    fn what_ends_here_is_forgotten_though_an_older_answer_comes_after() {
        let (memory, now) = (LoginMemory::default(), DateTime::UNIX_EPOCH);
        for (name, device) in [("a", 1), ("b", 2)] {
            told(&memory, name, standing(device, None), now);
        }
        let slow = memory.ask("a", now, SECOND).unwrap();
        memory.device_changed(HomeId::from_database(1), DeviceId::from_database(1));
        memory.learn(&slow, "a", standing(1, None), now);
        assert!(!memory.recall("a", now, SECOND) && memory.recall("b", now, SECOND));
        memory.home_changed(HomeId::from_database(1));
        assert!(!memory.recall("b", now, SECOND));
    }

    #[test]
    fn a_database_that_is_away_is_asked_by_one_at_a_time() {
        let (memory, now) = (LoginMemory::default(), DateTime::UNIX_EPOCH);
        let hour = 3_600 * SECOND;
        let asks = |name| memory.ask(name, now, hour).is_some();
        told(&memory, "a", standing(1, None), now);
        assert!(asks("a") && asks("a"), "it answers");
        memory.recall("a", now, hour);
        assert!(!asks("a") && asks("unknown"), "away: only who is known can do without");
        memory.recall("a", now, Duration::ZERO);
        assert!(asks("a") && !asks("a"), "one finds out");
        told(&memory, "unknown", None, now);
        assert!(asks("a") && asks("a"), "it is back");
    }

    #[test]
    fn more_names_than_it_holds_push_out_the_oldest() {
        let (memory, now) = (LoginMemory::new(Metrics::new()), DateTime::UNIX_EPOCH);
        for n in 0..=2 * MAX_NAMES {
            told(&memory, &n.to_string(), standing(1, None), now);
        }
        assert!(memory.recall(&MAX_NAMES.to_string(), now, SECOND) && !memory.recall("0", now, SECOND));
        assert_eq!(memory.metrics.broker_answers_dropped.get(), MAX_NAMES as u64);
        let state = memory.lock();
        assert!(state.young.len() + state.old.len() <= 2 * MAX_NAMES);
    }
}
