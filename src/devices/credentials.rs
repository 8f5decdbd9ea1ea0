//! A device's MQTT credentials: random, shown once, kept as a digest. 192 random bits need no slow hash.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::settings::Secret;

/// What a device needs to connect, shown once.
#[derive(Debug, Clone)]
pub struct MqttCredentials {
    /// `{home key}/{device key}`: the broker's ACL is a pattern over it.
    pub username: String,
    /// The password.
    pub password: Secret,
    /// The MQTT client id, see [`mqtt_client_id`].
    pub client_id: String,
    /// Where to connect.
    pub broker_url: String,
}

/// A device's MQTT client id: one per device, or two of them would throw each other out. No key has an
/// `@` in it, and brokers that keep a session in a file of that name take no `/`.
pub fn mqtt_client_id(home_key: &str, device_key: &str) -> String {
    format!("{device_key}@{home_key}")
}

/// A fresh password.
pub(super) fn new_password() -> Secret {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes).expect("the system's random source");
    Secret::new(URL_SAFE_NO_PAD.encode(bytes))
}

/// What is kept of a password, and what a password that comes in is compared with.
pub fn password_digest(password: &str) -> Vec<u8> {
    Sha256::digest(password).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_has_192_bits_and_never_comes_twice() {
        let (one, two) = (new_password(), new_password());
        assert_eq!(one.reveal().len(), 32);
        assert_ne!(one, two);
        assert_eq!(password_digest(one.reveal()).len(), 32);
    }
}
