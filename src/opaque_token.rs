//! Opaque secrets: 256 random bits that mean nothing by themselves, shown once, kept as a digest. So
//! many bits need no slow hash.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// Bytes of a digest.
pub const DIGEST_BYTES: usize = 32;
/// Longest text that is looked at: what is longer is no secret of ours.
const MAX_CHARS: usize = 64;

/// A fresh one in base64url, after a prefix that tells its kind to whoever finds it.
pub fn generate(prefix: &str) -> String {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the system's random source");
    format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// What is kept of one, and what one that comes in is looked up by; `None` for what can't be one.
pub fn digest(secret: &str) -> Option<[u8; DIGEST_BYTES]> {
    (secret.len() <= MAX_CHARS).then(|| Sha256::digest(secret).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_comes_twice_and_has_one_digest() {
        let (one, two) = (generate("inv_"), generate("inv_"));
        assert_eq!(one.len(), 47);
        assert!(one.starts_with("inv_") && one != two);
        assert_eq!(digest(&one), digest(&one));
        assert_ne!(digest(&one), digest(&two));
        assert_eq!(digest(&"x".repeat(65)), None);
    }
}
