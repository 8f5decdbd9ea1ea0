//! A semaphore for each key, without waiting: a permit is there or is refused.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::{Arc, Mutex};

/// Permits in use for each key. Keys without permits take no memory.
#[derive(Debug)]
pub(super) struct KeyedSemaphore<K: Eq + Hash + Clone>(Arc<Mutex<HashMap<K, usize>>>);

/// Released on drop.
#[derive(Debug)]
pub(super) struct Permit<K: Eq + Hash + Clone> {
    key: K,
    semaphore: KeyedSemaphore<K>,
}

impl<K: Eq + Hash + Clone> Default for KeyedSemaphore<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Eq + Hash + Clone> KeyedSemaphore<K> {
    /// A permit for this key, or `None` when `limit` of its permits are in use.
    pub(super) fn try_acquire(&self, key: K, limit: usize) -> Option<Permit<K>> {
        {
            let mut counts = self.0.lock().expect("keyed semaphore lock");
            let count = counts.get(&key).copied().unwrap_or_default();
            if count >= limit {
                return None;
            }
            counts.insert(key.clone(), count + 1);
        }
        Some(Permit { key, semaphore: Self(self.0.clone()) })
    }

    #[cfg(test)]
    pub(super) fn n_keys(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl<K: Eq + Hash + Clone> Drop for Permit<K> {
    fn drop(&mut self) {
        let mut counts = self.semaphore.0.lock().expect("keyed semaphore lock");
        if let Entry::Occupied(mut count) = counts.entry(self.key.clone()) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}
