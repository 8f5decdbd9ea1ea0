//! Times before which a statement that was executed before need not look, as far as this server has seen.

use std::hash::Hash;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard};

use chrono::{DateTime, Utc};
use lru::LruCache;

/// Remembered times: some 2 MB.
const MAX_BOUNDS: NonZeroUsize = NonZeroUsize::new(20_000).expect("not zero");

/// A time for each key; those used least recently are forgotten. Clones share one memory.
pub(super) struct RecentBounds<K: Hash + Eq>(Arc<Mutex<LruCache<K, DateTime<Utc>>>>);

impl<K: Hash + Eq> Clone for RecentBounds<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Hash + Eq> Default for RecentBounds<K> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(LruCache::new(MAX_BOUNDS))))
    }
}

impl<K: Hash + Eq> RecentBounds<K> {
    pub(super) fn get(&self, key: &K) -> Option<DateTime<Utc>> {
        self.lock().get(key).copied()
    }

    /// Remembers the time, or forgets the one before.
    pub(super) fn set(&self, key: K, bound: Option<DateTime<Utc>>) {
        match bound {
            Some(bound) => drop(self.lock().put(key, bound)),
            None => drop(self.lock().pop(&key)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<K, DateTime<Utc>>> {
        self.0.lock().expect("recent bounds lock")
    }
}
