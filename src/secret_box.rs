//! Authenticated encryption of short secrets: AES-256-GCM with a random nonce for each text. The associated
//! data binds a sealed text to its owner, so it does not open for another one.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;

/// Seals and opens with one key. Has no `Debug`, because it holds the key.
pub struct SecretBox(RandomizedNonceKey);

/// The text was sealed with another key or for another owner, or was changed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sealed with a key that is not set, or changed since")]
pub struct CannotOpen;

impl SecretBox {
    pub fn new(key: &[u8; KEY_BYTES]) -> Self {
        Self(RandomizedNonceKey::new(&AES_256_GCM, key).expect("AES-256 takes every 32 bytes"))
    }

    /// A box whose key is derived from a secret of any length. Another `purpose` makes another key of the same
    /// secret.
    pub fn derived(secret: &[u8], purpose: &[u8]) -> Self {
        let key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), purpose);
        Self(RandomizedNonceKey::new(&AES_256_GCM, key.as_ref()).expect("HMAC-SHA-256 makes 32 bytes"))
    }

    /// The nonce, then the ciphertext with its tag.
    pub fn seal(&self, associated: &[u8], mut plain: Vec<u8>) -> Vec<u8> {
        let nonce = self.0.seal_in_place_append_tag(Aad::from(associated), &mut plain);
        let nonce = nonce.expect("far below AES-GCM's limit of 64 GiB");
        [&nonce.as_ref()[..], &plain].concat()
    }

    /// The text that [`seal`](Self::seal) got with the same associated data.
    pub fn open(&self, associated: &[u8], sealed: &[u8]) -> Result<Vec<u8>, CannotOpen> {
        let (nonce, ciphertext) = sealed.split_at_checked(NONCE_LEN).ok_or(CannotOpen)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| CannotOpen)?;
        let mut text = ciphertext.to_vec();
        let plain = self.0.open_in_place(nonce, Aad::from(associated), &mut text).map_err(|_| CannotOpen)?;
        let n_bytes = plain.len();
        text.truncate(n_bytes);
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_and_associated_data_open_it() {
        let secret_box = SecretBox::derived(b"one", b"test");
        let sealed = secret_box.seal(b"main/lamp", b"canary".to_vec());
        assert!(!sealed.windows(6).any(|window| window == b"canary"));
        assert_eq!(secret_box.open(b"main/lamp", &sealed).unwrap(), b"canary");
        assert_ne!(sealed, secret_box.seal(b"main/lamp", b"canary".to_vec()), "each text has its own nonce");
        assert_eq!(secret_box.open(b"main/fan", &sealed), Err(CannotOpen));
        for other in [SecretBox::derived(b"two", b"test"), SecretBox::derived(b"one", b"other")] {
            assert_eq!(other.open(b"main/lamp", &sealed), Err(CannotOpen));
        }
    }

    #[test]
    fn a_changed_or_shortened_text_does_not_open() {
        let secret_box = SecretBox::new(&[1; KEY_BYTES]);
        let sealed = secret_box.seal(b"7", b"canary".to_vec());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(secret_box.open(b"7", &changed), Err(CannotOpen), "{at}");
            assert_eq!(secret_box.open(b"7", &sealed[..at]), Err(CannotOpen), "{at}");
        }
    }
}
