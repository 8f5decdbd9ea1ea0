//! A rate limit for each key, in a bounded table.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use crate::rate::Gcra;

/// Keys with a limit of their own; while the table is full, all keys share the one of `overflow`.
const MAX_KEYS: usize = 20_000;
/// Uses between two removals of keys whose whole burst is available again.
const SWEEP_EVERY: u32 = 1_024;

pub(super) struct KeyedLimiter<K> {
    gcra: Gcra,
    overflow: K,
    /// The origin of all times, which are in microseconds.
    started_at: Instant,
    table: Mutex<Table<K>>,
}

struct Table<K> {
    theoretical_arrival_times: HashMap<K, i64>,
    n_uses: u32,
}

impl<K: Clone + Eq + Hash> KeyedLimiter<K> {
    pub(super) fn new(gcra: Gcra, overflow: K) -> Self {
        let table = Table { theoretical_arrival_times: HashMap::new(), n_uses: 0 };
        Self { gcra, overflow, started_at: Instant::now(), table: Mutex::new(table) }
    }

    /// Admits one use of a key, or fails with the time to wait.
    pub(super) fn check(&self, key: &K) -> Result<(), Duration> {
        let now = i64::try_from(self.started_at.elapsed().as_micros()).unwrap_or(i64::MAX);
        let mut table = self.lock();
        table.n_uses = table.n_uses.wrapping_add(1);
        if table.n_uses.is_multiple_of(SWEEP_EVERY) {
            table.theoretical_arrival_times.retain(|_, at| *at > now);
        }
        let is_full = table.theoretical_arrival_times.len() >= MAX_KEYS;
        let key = if is_full { &self.overflow } else { key };
        let at = table.theoretical_arrival_times.entry(key.clone()).or_insert(now);
        if self.gcra.admit(at, now) {
            return Ok(());
        }
        let wait = self.gcra.wait(*at, now);
        Err(Duration::from_micros(u64::try_from(wait).unwrap_or_default()))
    }

    fn lock(&self) -> MutexGuard<'_, Table<K>> {
        self.table.lock().expect("rate limits lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_own_limit_and_the_table_is_bounded() {
        let limiter = KeyedLimiter::new(Gcra::per_minute(60), 0);
        let n_admitted = |key| (0..100).filter(|_| limiter.check(&key).is_ok()).count();
        assert!((60..=61).contains(&n_admitted(1)));
        assert!((60..=61).contains(&n_admitted(2)));
        assert!(limiter.check(&1).unwrap_err() <= Duration::from_secs(1));
        for key in 0..3 * MAX_KEYS {
            let _ = limiter.check(&key);
        }
        assert!(limiter.lock().theoretical_arrival_times.len() <= MAX_KEYS + 1);
    }
}
