//! A cache of the most recently used values, bounded by their number and by the sum of their weights.

use std::hash::Hash;
use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;

pub(super) struct WeightedCache<K: Hash + Eq, V> {
    values: LruCache<K, (Arc<V>, usize)>,
    weight: usize,
    max_weight: usize,
}

impl<K: Hash + Eq, V> WeightedCache<K, V> {
    pub(super) fn new(max_values: NonZeroUsize, max_weight: usize) -> Self {
        Self { values: LruCache::new(max_values), weight: 0, max_weight }
    }

    pub(super) fn get(&mut self, key: &K) -> Option<Arc<V>> {
        self.values.get(key).map(|(value, _)| value.clone())
    }

    pub(super) fn insert(&mut self, key: K, value: Arc<V>, weight: usize) {
        self.weight += weight;
        if let Some((_, (_, removed))) = self.values.push(key, (value, weight)) {
            self.weight -= removed;
        }
        while self.weight > self.max_weight {
            let Some((_, (_, removed))) = self.values.pop_lru() else { return };
            self.weight -= removed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_by_values_and_by_weight() {
        let mut cache = WeightedCache::new(NonZeroUsize::new(3).unwrap(), 10);
        for key in 0..5 {
            cache.insert(key, Arc::new(key), 1);
        }
        assert_eq!((cache.values.len(), cache.weight), (3, 3));
        cache.insert(4, Arc::new(4), 2);
        assert_eq!((cache.values.len(), cache.weight), (3, 4));
        cache.insert(9, Arc::new(9), 8);
        assert_eq!((cache.get(&4).as_deref(), cache.get(&9).as_deref()), (Some(&4), Some(&9)));
        cache.insert(10, Arc::new(10), 11);
        assert_eq!((cache.values.len(), cache.weight), (0, 0));
    }
}
