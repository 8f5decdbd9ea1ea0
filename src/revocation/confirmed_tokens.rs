//! Integration tokens that the database confirmed. A revocation removes the entry, so nothing needs to be kept of a
//! revoked token: the next use asks the database.

use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;
use tokio::time::Instant;

use crate::ids::SessionId;

/// Most tokens kept. The least recently used one is dropped first: its next use asks the database again.
const MAX_TOKENS: NonZeroUsize = NonZeroUsize::new(10_000).expect("positive");

/// A check of a token in the database that has begun.
#[derive(Debug, Clone, Copy)]
pub struct Confirmation {
    pub(super) token: SessionId,
    /// Identifies the entry that existed when the check began.
    generation: u64,
    began_at: Instant,
}

struct Entry {
    generation: u64,
    /// When the last successful check began.
    confirmed_at: Option<Instant>,
}

pub(super) struct ConfirmedTokens {
    entries: LruCache<SessionId, Entry>,
    n_generations: u64,
}

impl Default for ConfirmedTokens {
    fn default() -> Self {
        Self { entries: LruCache::new(MAX_TOKENS), n_generations: 0 }
    }
}

impl ConfirmedTokens {
    /// Whether the token was confirmed within `max_age` and not revoked since.
    pub(super) fn is_confirmed(&mut self, token: SessionId, max_age: Duration) -> bool {
        let confirmed_at = self.entries.get(&token).and_then(|entry| entry.confirmed_at);
        confirmed_at.is_some_and(|at| at.elapsed() < max_age)
    }

    /// Whether the token was confirmed and not revoked since.
    pub(super) fn contains(&self, token: SessionId) -> bool {
        self.entries.peek(&token).is_some_and(|entry| entry.confirmed_at.is_some())
    }

    /// To be called before the check in the database: a revocation in between removes the entry made here.
    pub(super) fn begin(&mut self, token: SessionId) -> Confirmation {
        let began_at = Instant::now();
        let n_generations = &mut self.n_generations;
        let entry = self.entries.get_or_insert(token, || {
            *n_generations += 1;
            Entry { generation: *n_generations, confirmed_at: None }
        });
        Confirmation { token, generation: entry.generation, began_at }
    }

    /// Records that the database found the token valid, unless it was revoked since the check began.
    pub(super) fn complete(&mut self, check: Confirmation) {
        if let Some(entry) = self.entries.peek_mut(&check.token).filter(|entry| entry.generation == check.generation) {
            entry.confirmed_at = entry.confirmed_at.max(Some(check.began_at));
        }
    }

    /// Forgets a token: it was revoked, or found invalid.
    pub(super) fn remove(&mut self, token: SessionId) {
        self.entries.pop(&token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGE: Duration = Duration::from_secs(60);

    fn token() -> SessionId {
        SessionId::from_database(uuid::Uuid::new_v4())
    }

    #[test]
    fn a_token_is_confirmed_until_it_is_revoked() {
        let (mut tokens, token) = (ConfirmedTokens::default(), token());
        let check = tokens.begin(token);
        assert!(!tokens.is_confirmed(token, AGE) && !tokens.contains(token));
        tokens.complete(check);
        assert!(tokens.is_confirmed(token, AGE) && tokens.contains(token));
        assert!(!tokens.is_confirmed(token, Duration::ZERO) && tokens.contains(token));
        tokens.remove(token);
        assert!(!tokens.is_confirmed(token, AGE) && !tokens.contains(token));
    }

    #[test]
    fn a_token_that_is_revoked_during_its_check_is_not_confirmed() {
        let (mut tokens, token) = (ConfirmedTokens::default(), token());
        let early = tokens.begin(token);
        tokens.remove(token);
        // Another check of the revoked token is still running.
        let late = tokens.begin(token);
        tokens.complete(early);
        assert!(!tokens.contains(token));
        tokens.complete(late);
        assert!(tokens.contains(token));
    }

    #[test]
    fn the_number_of_tokens_is_bounded() {
        let mut tokens = ConfirmedTokens::default();
        for _ in 0..=MAX_TOKENS.get() {
            let check = tokens.begin(token());
            tokens.complete(check);
        }
        assert_eq!(tokens.entries.len(), MAX_TOKENS.get());
    }
}
