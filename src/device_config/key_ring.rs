//! The keys of the secrets in configurations: the current one seals, the current and the previous one open. A
//! sealed text is bound to its device.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::ids::DeviceId;
use crate::secret_box::{CannotOpen, SecretBox};
use crate::settings::{EncryptionKey, EncryptionSettings};

/// First byte of a sealed text, and part of its associated data.
const FORMAT: u8 = 1;
/// Bytes that identify the key.
const FINGERPRINT: usize = 4;

/// Seals and opens. Cheap to clone; has no `Debug`, because it holds the keys.
#[derive(Clone)]
pub struct KeyRing(Arc<Keys>);

struct Keys {
    current: Key,
    previous: Option<Key>,
}

struct Key {
    fingerprint: [u8; FINGERPRINT],
    secret_box: SecretBox,
}

impl Key {
    fn new(key: &EncryptionKey) -> Self {
        let mut hash = Sha256::new_with_prefix("fingerprint of an encryption key");
        hash.update(key.reveal());
        let hash = hash.finalize();
        let mut fingerprint = [0; FINGERPRINT];
        fingerprint.copy_from_slice(&hash[..FINGERPRINT]);
        Self { fingerprint, secret_box: SecretBox::new(key.reveal()) }
    }
}

fn associated_data(device: DeviceId) -> [u8; 9] {
    let mut bytes = [FORMAT; 9];
    bytes[1..].copy_from_slice(&device.get().to_be_bytes());
    bytes
}

impl KeyRing {
    /// `None` without a key in the settings.
    pub fn new(settings: &EncryptionSettings) -> Option<Self> {
        let current = Key::new(settings.key.as_ref()?);
        Some(Self(Arc::new(Keys { current, previous: settings.previous.as_ref().map(Key::new) })))
    }

    /// `[1, fingerprint, nonce, ciphertext]`.
    pub(super) fn seal(&self, device: DeviceId, plain: Vec<u8>) -> Vec<u8> {
        let key = &self.0.current;
        let sealed = key.secret_box.seal(&associated_data(device), plain);
        [&[FORMAT], &key.fingerprint[..], &sealed].concat()
    }

    /// Opens a text that was sealed for this device with the current or the previous key.
    pub(super) fn open(&self, device: DeviceId, sealed: &[u8]) -> Result<Vec<u8>, CannotOpen> {
        let (format, rest) = sealed.split_first().ok_or(CannotOpen)?;
        let (fingerprint, rest) = rest.split_at_checked(FINGERPRINT).ok_or(CannotOpen)?;
        if *format != FORMAT {
            return Err(CannotOpen);
        }
        // Two keys may share a fingerprint of four bytes.
        let keys = [Some(&self.0.current), self.0.previous.as_ref()];
        let mut keys = keys.into_iter().flatten().filter(|key| key.fingerprint == fingerprint);
        keys.find_map(|key| key.secret_box.open(&associated_data(device), rest).ok()).ok_or(CannotOpen)
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn key_ring(current: u8, previous: Option<u8>) -> KeyRing {
        let settings = EncryptionSettings::read(&move |name: &str| {
            let byte = match name {
                "ENCRYPTION_KEY" => Some(current),
                "ENCRYPTION_KEY_PREVIOUS" => previous,
                _ => None,
            };
            byte.map(|byte| STANDARD.encode([byte; 32]))
        });
        KeyRing::new(&settings.unwrap()).unwrap()
    }

    const DEVICE: fn(i64) -> DeviceId = DeviceId::from_database;

    #[test]
    fn a_sealed_secret_opens_for_its_device_alone() {
        let key_ring = key_ring(1, None);
        let sealed = key_ring.seal(DEVICE(7), b"canary".to_vec());
        assert_eq!(sealed[0], 1);
        assert!(!sealed.windows(6).any(|window| window == b"canary"));
        assert_eq!(key_ring.open(DEVICE(7), &sealed).unwrap(), b"canary");
        assert_eq!(key_ring.open(DEVICE(8), &sealed), Err(CannotOpen));
        assert_ne!(sealed, key_ring.seal(DEVICE(7), b"canary".to_vec()), "each text has its own nonce");
    }

    #[test]
    fn a_changed_or_shortened_secret_does_not_open() {
        let key_ring = key_ring(1, None);
        let sealed = key_ring.seal(DEVICE(7), b"canary".to_vec());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(key_ring.open(DEVICE(7), &changed), Err(CannotOpen), "{at}");
            assert_eq!(key_ring.open(DEVICE(7), &sealed[..at]), Err(CannotOpen), "{at}");
        }
    }

    #[test]
    fn after_a_rotation_the_previous_key_still_opens() {
        let sealed = key_ring(1, None).seal(DEVICE(7), b"canary".to_vec());
        assert_eq!(key_ring(2, Some(1)).open(DEVICE(7), &sealed).unwrap(), b"canary");
        assert_eq!(key_ring(2, None).open(DEVICE(7), &sealed), Err(CannotOpen));
        let sealed = key_ring(2, Some(1)).seal(DEVICE(7), b"canary".to_vec());
        assert_eq!(key_ring(2, None).open(DEVICE(7), &sealed).unwrap(), b"canary", "the current key seals");
    }

    /// Sealed by another implementation of AES-GCM: stored rows must open after every change of this file.
    #[test]
    fn the_stored_format_does_not_change() {
        let stored = "01ce9311290102030405060708090a0b0c848726f82ea1559d5017462424f4290f366bfd2df69e";
        let stored: Vec<u8> =
            (0..stored.len()).step_by(2).map(|at| u8::from_str_radix(&stored[at..at + 2], 16).unwrap()).collect();
        assert_eq!(key_ring(1, None).open(DEVICE(7), &stored).unwrap(), b"canary");
    }
}
