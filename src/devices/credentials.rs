//! A device's MQTT credentials: random, shown once, stored as digests. 192 random bits need no slow hash.

use std::fmt;
use std::num::NonZeroU32;

use aws_lc_rs::pbkdf2;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use crate::settings::Secret;

/// Mosquitto's own number of PBKDF2 rounds. It is enough, because the secret is random.
const BROKER_ROUNDS: NonZeroU32 = NonZeroU32::new(101).expect("not zero");
/// Bytes of Mosquitto's salt and of its hash.
const BROKER_SALT: usize = 12;
const BROKER_HASH: usize = 64;
/// The suffix of a device's second user name.
const SECOND: &str = "~1";
/// Random bytes of a client id.
const CLIENT_ID_RANDOM: usize = 9;

/// What a device needs to connect. Shown once.
#[derive(Debug, Clone)]
pub struct MqttCredentials {
    /// `{home key}/{device key}`: the broker's ACL is a pattern over it.
    pub username: String,
    pub password: Secret,
    /// Of this device alone, also after it is deleted.
    pub client_id: String,
    pub broker_url: String,
}

/// One of the two MQTT user names of a device. No key contains a `~`, so a second user name is never the first one of
/// another device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MqttUser<'a> {
    pub home: &'a str,
    pub device: &'a str,
    /// 0 for `{home}/{device}`, 1 for the same with `~1` appended.
    pub slot: i16,
}

impl<'a> MqttUser<'a> {
    /// `None` for a user name that no device can have.
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

/// The characters of keys: enough to tell a device's user name from other accounts.
fn is_key(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

/// The MQTT client id of a new device: `{device key}@{home key}~` and 72 random bits. Keys can be used again, and a
/// broker gives the session of a client id, with its queued messages, to any client that connects with it. So no
/// client id is ever given twice, not even after the database was restored from a backup. Neither can it be guessed,
/// because some brokers let every account use every client id. No key contains an `@` or a `~`; brokers that name
/// session files after client ids accept no `/`.
pub(super) fn new_client_id(home_key: &str, device_key: &str) -> String {
    let random = URL_SAFE_NO_PAD.encode(random::<CLIENT_ID_RANDOM>());
    format!("{}~{random}", former_client_id(home_key, device_key))
}

/// The MQTT client id of a device that was registered before client ids were stored.
pub fn former_client_id(home_key: &str, device_key: &str) -> String {
    format!("{device_key}@{home_key}")
}

pub(super) fn new_password() -> Secret {
    Secret::new(URL_SAFE_NO_PAD.encode(random::<24>()))
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system's random source");
    bytes
}

/// The digest that is stored of a password and compared at a login.
pub fn password_digest(password: &str) -> Vec<u8> {
    Sha256::digest(password).to_vec()
}

/// The hash that is stored for Mosquitto's files, in the form of `mosquitto_passwd`: `$7$rounds$salt$hash`.
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
    fn a_password_has_192_random_bits() {
        let (one, two) = (new_password(), new_password());
        assert_eq!(one.reveal().len(), 32);
        assert_ne!(one, two);
        assert_eq!(password_digest(one.reveal()).len(), 32);
        assert_ne!(broker_hash(one.reveal()), broker_hash(one.reveal()));
    }

    #[test]
    fn a_client_id_is_given_once() {
        let (one, two) = (new_client_id("main", "lamp"), new_client_id("main", "lamp"));
        assert_ne!(one, two);
        assert_eq!(one.len(), "lamp@main~".len() + 12);
        assert!(one.starts_with("lamp@main~") && !one.contains('/'));
    }

    #[test]
    fn a_user_name_parses_to_what_was_formatted() {
        for (text, slot) in [("main/lamp", 0), ("main/lamp~1", 1)] {
            let user = MqttUser::parse(text).unwrap();
            assert_eq!((user.home, user.device, user.slot, user.to_string().as_str()), ("main", "lamp", slot, text));
        }
        for wrong in ["", "main", "/lamp", "main/", "main/~1", "main/lamp~2", "main/lamp/x", "ma+in/lamp", "main/#"] {
            assert_eq!(MqttUser::parse(wrong), None, "{wrong}");
        }
    }
}
