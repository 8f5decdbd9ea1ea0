//! How many of something each holder has, and no more than it may have.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::{Arc, Mutex};

/// One table. Only holders that have any are in it.
#[derive(Debug)]
pub(super) struct KeyedSemaphore<K: Eq + Hash + Clone>(Arc<Mutex<HashMap<K, usize>>>);

/// One of a holder's, given back when dropped.
#[derive(Debug)]
pub(super) struct Permit<K: Eq + Hash + Clone> {
    holder: K,
    counts: KeyedSemaphore<K>,
}

impl<K: Eq + Hash + Clone> Default for KeyedSemaphore<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Eq + Hash + Clone> KeyedSemaphore<K> {
    /// One more for this holder, or `None` where it has `most` already.
    pub(super) fn take(&self, holder: K, most: usize) -> Option<Permit<K>> {
        {
            let mut counts = self.0.lock().expect("counts lock");
            let count = counts.get(&holder).copied().unwrap_or_default();
            if count >= most {
                return None;
            }
            counts.insert(holder.clone(), count + 1);
        }
        Some(Permit { holder, counts: Self(self.0.clone()) })
    }

    #[cfg(test)]
    pub(super) fn n_holders(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl<K: Eq + Hash + Clone> Drop for Permit<K> {
    fn drop(&mut self) {
        let mut counts = self.counts.0.lock().expect("counts lock");
        if let Entry::Occupied(mut count) = counts.entry(self.holder.clone()) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}
