//! Passwords on their way to the broker, encrypted while they wait in the database.
//!
//! The key is made of the broker administrator's password: who has that may set any device's password
//! anyway, and every server of the installation has it already.

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;

use crate::settings::Secret;

/// What the key is for: the same password elsewhere makes another key.
const PURPOSE: &[u8] = b"smarthome: device passwords on their way to the broker";
/// Bytes of the nonce in front of the sealed text.
const NONCE: usize = 12;

/// Encrypts and decrypts. Holds the key.
pub(super) struct Seal(RandomizedNonceKey);

impl Seal {
    pub(super) fn new(secret: &Secret) -> Self {
        let key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.reveal().as_bytes()), PURPOSE);
        Self(RandomizedNonceKey::new(&AES_256_GCM, key.as_ref()).expect("32 bytes are a key"))
    }

    /// Bound to the user name: a sealed password can't be put under another one.
    pub(super) fn close(&self, username: &str, password: &Secret) -> Vec<u8> {
        let mut text = password.reveal().as_bytes().to_vec();
        let nonce = self.0.seal_in_place_append_tag(Aad::from(username), &mut text).expect("a short text");
        [&nonce.as_ref()[..], &text].concat()
    }

    /// `None` where it was sealed with another key or for another name.
    pub(super) fn open(&self, username: &str, sealed: &[u8]) -> Option<Secret> {
        let (nonce, text) = sealed.split_at_checked(NONCE)?;
        let mut text = text.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let opened = self.0.open_in_place(nonce, Aad::from(username), &mut text).ok()?;
        Some(Secret::new(String::from_utf8(opened.to_vec()).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_and_name_open_it() {
        let (seal, password) = (Seal::new(&Secret::new("one")), Secret::new("of the lamp"));
        let sealed = seal.close("main/lamp", &password);
        assert_eq!(seal.open("main/lamp", &sealed).unwrap(), password);
        assert_ne!(sealed, seal.close("main/lamp", &password));
        assert!(seal.open("main/fan", &sealed).is_none() && seal.open("main/lamp", &sealed[1..]).is_none());
        assert!(seal.open("main/lamp", b"").is_none());
        assert!(Seal::new(&Secret::new("two")).open("main/lamp", &sealed).is_none());
    }
}
