//! Passwords that were refused unverified because of a delay. Their owner types the right one again, a guesser types
//! another one. So a password that comes again and again is verified during the delay: somebody who takes every turn
//! that the delay leaves does not lock out the owner on the same network, and gains little.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::Mutex;

use lru::LruCache;

/// The attempt with the same password that is verified during a delay; those before it are refused.
const VERIFIED_ATTEMPT: u8 = 3;
/// Accounts and networks in the table. Only pairs enter it where the account has signed in from the network.
const MAX_PAIRS: NonZeroUsize = NonZeroUsize::new(2_000).expect("not zero");
/// Passwords of one account and network: what a network may try in a minute. The oldest is dropped first.
const MAX_PASSWORDS: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");

/// The refused attempts of each password, by a hash with a random key. A collision verifies a guess too early.
type Passwords = LruCache<u64, u8>;

pub(super) struct RepeatedPasswords {
    hasher: RandomState,
    pairs: Mutex<LruCache<(String, Option<IpAddr>), Passwords>>,
}

impl Default for RepeatedPasswords {
    fn default() -> Self {
        Self { hasher: RandomState::new(), pairs: Mutex::new(LruCache::new(MAX_PAIRS)) }
    }
}

impl RepeatedPasswords {
    /// Counts an attempt that a delay refuses. Whether it is to be verified nevertheless; then counting starts anew.
    pub(super) fn is_to_be_verified(&self, account: &str, network: Option<IpAddr>, password: &str) -> bool {
        let digest = self.hasher.hash_one(password);
        let mut pairs = self.pairs.lock().expect("repeated passwords lock");
        let passwords = pairs.get_or_insert_mut((account.to_owned(), network), || Passwords::new(MAX_PASSWORDS));
        let n_attempts = passwords.get(&digest).copied().unwrap_or_default() + 1;
        if n_attempts < VERIFIED_ATTEMPT {
            passwords.put(digest, n_attempts);
            return false;
        }
        passwords.pop(&digest);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_third_attempt_with_the_same_password_is_verified() {
        let (passwords, network) = (RepeatedPasswords::default(), Some(IpAddr::from([192, 0, 2, 1])));
        let verified = |account: &str, password: &str| passwords.is_to_be_verified(account, network, password);
        for n in 0..20 {
            assert!(!verified("ann", &format!("guess {n}")));
            assert_eq!(verified("ann", "right"), n % 3 == 2);
        }
        assert!(!verified("bob", "right") && !verified("bob", "right"));
        assert!(!passwords.is_to_be_verified("bob", None, "right"));
    }

    #[test]
    fn the_tables_are_bounded() {
        let passwords = RepeatedPasswords::default();
        for n in 0..=MAX_PASSWORDS.get() {
            assert!(!passwords.is_to_be_verified("ann", None, &format!("guess {n}")));
        }
        for n in 0..MAX_PAIRS.get() {
            assert!(!passwords.is_to_be_verified(&format!("account {n}"), None, "x"));
        }
        let mut pairs = passwords.pairs.lock().unwrap();
        assert!(pairs.len() == MAX_PAIRS.get() && pairs.get(&("ann".to_owned(), None)).is_none());
    }
}
