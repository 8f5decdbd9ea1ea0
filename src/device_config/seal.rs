//! Secrets on their way into the database and out of it: AES-256-GCM, a random nonce each, bound to the
//! device, so that a sealed text moved to another one does not open there.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use sha2::{Digest, Sha256};

use crate::ids::DeviceId;
use crate::settings::{EncryptionKey, EncryptionSettings};

/// First byte of what is sealed, and part of what it is bound to.
const FORMAT: u8 = 1;
/// Bytes that tell which key sealed.
const FINGERPRINT: usize = 4;

/// Seals and opens. Cheap to clone; shows nothing of its keys.
#[derive(Clone)]
pub struct Sealer(Arc<Keys>);

struct Keys {
    present: Key,
    previous: Option<Key>,
}

struct Key {
    fingerprint: [u8; FINGERPRINT],
    key: RandomizedNonceKey,
}

/// It does not open: another key, another device, or not what was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sealed with a key that is not set, or changed since")]
pub(super) struct CannotOpen;

impl Key {
    fn new(key: &EncryptionKey) -> Self {
        let mut hash = Sha256::new_with_prefix("fingerprint of an encryption key");
        hash.update(key.reveal());
        let hash = hash.finalize();
        let mut fingerprint = [0; FINGERPRINT];
        fingerprint.copy_from_slice(&hash[..FINGERPRINT]);
        let key = RandomizedNonceKey::new(&AES_256_GCM, key.reveal()).expect("AES-256 takes every 32 bytes");
        Self { fingerprint, key }
    }
}

/// What a sealed text is bound to.
fn bound_to(device: DeviceId) -> Aad<[u8; 9]> {
    let mut bytes = [FORMAT; 9];
    bytes[1..].copy_from_slice(&device.get().to_be_bytes());
    Aad::from(bytes)
}

impl Sealer {
    /// Over the keys that are set, if one is.
    pub fn new(settings: &EncryptionSettings) -> Option<Self> {
        let present = Key::new(settings.key.as_ref()?);
        Some(Self(Arc::new(Keys { present, previous: settings.previous.as_ref().map(Key::new) })))
    }

    /// `[1, fingerprint, nonce, ciphertext]`.
    pub(super) fn seal(&self, device: DeviceId, mut plain: Vec<u8>) -> Vec<u8> {
        let key = &self.0.present;
        let nonce = key.key.seal_in_place_append_tag(bound_to(device), &mut plain);
        let nonce = nonce.expect("a text of a few KiB is not too long");
        let mut sealed = Vec::with_capacity(1 + FINGERPRINT + NONCE_LEN + plain.len());
        sealed.push(FORMAT);
        sealed.extend_from_slice(&key.fingerprint);
        sealed.extend_from_slice(nonce.as_ref());
        sealed.extend_from_slice(&plain);
        sealed
    }

    /// What was sealed for this device, with the present key or the one before.
    pub(super) fn open(&self, device: DeviceId, sealed: &[u8]) -> Result<Vec<u8>, CannotOpen> {
        let (format, rest) = sealed.split_first().ok_or(CannotOpen)?;
        let (fingerprint, rest) = rest.split_at_checked(FINGERPRINT).ok_or(CannotOpen)?;
        let (nonce, ciphertext) = rest.split_at_checked(NONCE_LEN).ok_or(CannotOpen)?;
        if *format != FORMAT {
            return Err(CannotOpen);
        }
        let keys = [Some(&self.0.present), self.0.previous.as_ref()];
        for key in keys.into_iter().flatten().filter(|key| key.fingerprint == fingerprint) {
            let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| CannotOpen)?;
            let mut text = ciphertext.to_vec();
            if let Ok(plain) = key.key.open_in_place(nonce, bound_to(device), &mut text) {
                return Ok(plain.to_vec());
            }
        }
        Err(CannotOpen)
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn sealer(present: u8, previous: Option<u8>) -> Sealer {
        let settings = EncryptionSettings::read(&move |name: &str| {
            let byte = match name {
                "ENCRYPTION_KEY" => Some(present),
                "ENCRYPTION_KEY_PREVIOUS" => previous,
                _ => None,
            };
            byte.map(|byte| STANDARD.encode([byte; 32]))
        });
        Sealer::new(&settings.unwrap()).unwrap()
    }

    const DEVICE: fn(i64) -> DeviceId = DeviceId::from_database;

    #[test]
    fn what_was_sealed_opens_for_its_device_alone() {
        let sealer = sealer(1, None);
        let sealed = sealer.seal(DEVICE(7), b"canary".to_vec());
        assert_eq!(sealed[0], 1);
        assert!(!sealed.windows(6).any(|window| window == b"canary"));
        assert_eq!(sealer.open(DEVICE(7), &sealed).unwrap(), b"canary");
        assert_eq!(sealer.open(DEVICE(8), &sealed), Err(CannotOpen));
        assert_ne!(sealed, sealer.seal(DEVICE(7), b"canary".to_vec()), "a nonce each");
    }

    #[test]
    fn whatever_byte_is_changed_or_missing_it_does_not_open() {
        let sealer = sealer(1, None);
        let sealed = sealer.seal(DEVICE(7), b"canary".to_vec());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(sealer.open(DEVICE(7), &changed), Err(CannotOpen), "{at}");
            assert_eq!(sealer.open(DEVICE(7), &sealed[..at]), Err(CannotOpen), "{at}");
        }
    }

    #[test]
    fn after_a_rotation_the_key_before_still_opens() {
        let sealed = sealer(1, None).seal(DEVICE(7), b"canary".to_vec());
        assert_eq!(sealer(2, Some(1)).open(DEVICE(7), &sealed).unwrap(), b"canary");
        assert_eq!(sealer(2, None).open(DEVICE(7), &sealed), Err(CannotOpen));
        let sealed = sealer(2, Some(1)).seal(DEVICE(7), b"canary".to_vec());
        assert_eq!(sealer(2, None).open(DEVICE(7), &sealed).unwrap(), b"canary", "the new one seals");
    }
}
