//! Opaque tokens: 256 random bits, shown once and stored as a SHA-256 digest. With so much entropy no slow password
//! hash is needed.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// Bytes of a digest.
pub const DIGEST_BYTES: usize = 32;
/// Longest text that can be a token.
const MAX_CHARS: usize = 64;

/// A new token in base64url. The prefix tells its kind to people and secret scanners that find it.
pub fn generate(prefix: &str) -> String {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the system's random source");
    format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// The digest that is stored and looked up; `None` for a text that can't be a token.
pub fn digest(secret: &str) -> Option<[u8; DIGEST_BYTES]> {
    (secret.len() <= MAX_CHARS).then(|| Sha256::digest(secret).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_unique_and_have_one_digest() {
        let (one, two) = (generate("inv_"), generate("inv_"));
        assert_eq!(one.len(), 47);
        assert!(one.starts_with("inv_") && one != two);
        assert_eq!(digest(&one), digest(&one));
        assert_ne!(digest(&one), digest(&two));
        assert_eq!(digest(&"x".repeat(65)), None);
    }
}
