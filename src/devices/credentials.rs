//! A device's MQTT credentials: random, shown once, kept as digests. 192 random bits need no slow hash.

use std::fmt;
use std::num::NonZeroU32;

use aws_lc_rs::pbkdf2;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use crate::settings::Secret;

/// Rounds of Mosquitto's PBKDF2. It is its own number: what makes it enough is the random secret.
const BROKER_ROUNDS: NonZeroU32 = NonZeroU32::new(101).expect("not zero");
/// Bytes of Mosquitto's salt and of its hash.
const BROKER_SALT: usize = 12;
const BROKER_HASH: usize = 64;
/// What follows a device's user name while another password has the plain one.
const SECOND: &str = "~1";

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

/// One of the at most two MQTT user names of a device. No key has a `~` in it, so no device's second
/// name is the first one of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MqttUser<'a> {
    /// The home's key.
    pub home: &'a str,
    /// The device's key.
    pub device: &'a str,
    /// 0 for the plain name, 1 for the one with `~1` behind it.
    pub slot: i16,
}

impl<'a> MqttUser<'a> {
    /// Reads a user name; `None` for one that no device can have.
    pub fn parse(username: &'a str) -> Option<Self> {
        let (home, device) = username.split_once('/')?;
        let (device, slot) = match device.strip_suffix(SECOND) {
            Some(device) => (device, 1),
            None => (device, 0),
        };
        (is_key(home) && is_key(device)).then_some(Self { home, device, slot })
    }
}

impl fmt::Display for MqttUser<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.home, self.device, if self.slot == 0 { "" } else { SECOND })
    }
}

/// Letters of which keys consist; enough to tell a device's name from an account of somebody else.
fn is_key(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

/// A device's MQTT client id: one per device, or two of them would throw each other out. No key has an
/// `@` in it, and brokers that keep a session in a file of that name take no `/`.
pub fn mqtt_client_id(home_key: &str, device_key: &str) -> String {
    format!("{device_key}@{home_key}")
}

/// A fresh password.
pub(super) fn new_password() -> Secret {
    Secret::new(URL_SAFE_NO_PAD.encode(random::<24>()))
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system's random source");
    bytes
}

/// What is kept of a password, and what a password that comes in is compared with.
pub fn password_digest(password: &str) -> Vec<u8> {
    Sha256::digest(password).to_vec()
}

/// What is kept of a password for Mosquitto's files, as `mosquitto_passwd` writes it:
/// `$7$rounds$salt$hash`.
pub fn broker_hash(password: &str) -> String {
    let salt = random::<BROKER_SALT>();
    let mut hash = [0; BROKER_HASH];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, BROKER_ROUNDS, &salt, password.as_bytes(), &mut hash);
    format!("$7${BROKER_ROUNDS}${}${}", STANDARD.encode(salt), STANDARD.encode(hash))
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
        assert_ne!(broker_hash(one.reveal()), broker_hash(one.reveal()));
    }

    #[test]
    fn a_user_name_is_read_as_it_is_written() {
        for (text, slot) in [("main/lamp", 0), ("main/lamp~1", 1)] {
            let user = MqttUser::parse(text).unwrap();
            assert_eq!((user.home, user.device, user.slot, user.to_string().as_str()), ("main", "lamp", slot, text));
        }
        for wrong in ["", "main", "/lamp", "main/", "main/~1", "main/lamp~2", "main/lamp/x", "ma+in/lamp", "main/#"] {
            assert_eq!(MqttUser::parse(wrong), None, "{wrong}");
        }
    }
}
