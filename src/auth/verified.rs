//! Tokens that were verified before. A client sends the same token with every request, and to verify one costs more
//! than everything else that HTTP does for a request.

use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard};

use lru::LruCache;
use sha2::{Digest, Sha256};

use super::Principal;

/// Tokens remembered at once, about 150 bytes each. The least recently used one is forgotten first.
const MAX_TOKENS: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");

/// The SHA-256 digest of a token: the cache holds no token.
pub(super) type TokenDigest = [u8; 32];

/// The principals of verified tokens. An entry says that the token is ours and complete. The caller still checks
/// whether it has expired, and whether it was revoked.
pub(super) struct VerifiedTokens(Mutex<LruCache<TokenDigest, Principal>>);

impl VerifiedTokens {
    pub(super) fn new() -> Self {
        Self(Mutex::new(LruCache::new(MAX_TOKENS)))
    }

    pub(super) fn digest(token: &str) -> TokenDigest {
        Sha256::digest(token).into()
    }

    pub(super) fn get(&self, digest: &TokenDigest) -> Option<Principal> {
        self.lock().get(digest).cloned()
    }

    pub(super) fn insert(&self, digest: TokenDigest, principal: Principal) {
        self.lock().push(digest, principal);
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<TokenDigest, Principal>> {
        self.0.lock().expect("verified tokens lock")
    }
}
