//! Encryption of passwords that wait in the database for the broker.
//!
//! The key is derived from the broker administrator's password: its holder may set any device's password anyway,
//! and every server of the installation has it already.

use crate::secret_box::SecretBox;
use crate::settings::Secret;

const PURPOSE: &[u8] = b"smarthome: device passwords on their way to the broker";

/// Holds the key.
pub(super) struct PasswordBox(SecretBox);

impl PasswordBox {
    pub(super) fn new(administrator: &Secret) -> Self {
        Self(SecretBox::derived(administrator.reveal().as_bytes(), PURPOSE))
    }

    /// Bound to the user name: a sealed password does not open under another one.
    pub(super) fn seal(&self, username: &str, password: &Secret) -> Vec<u8> {
        self.0.seal(username.as_bytes(), password.reveal().as_bytes().to_vec())
    }

    /// `None` for a password that was sealed with another key or for another user name.
    pub(super) fn open(&self, username: &str, sealed: &[u8]) -> Option<Secret> {
        let password = self.0.open(username.as_bytes(), sealed).ok()?;
        Some(Secret::new(String::from_utf8(password).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_and_name_open_it() {
        let (password_box, password) = (PasswordBox::new(&Secret::new("one")), Secret::new("of the lamp"));
        let sealed = password_box.seal("main/lamp", &password);
        assert_eq!(password_box.open("main/lamp", &sealed).unwrap(), password);
        assert!(password_box.open("main/fan", &sealed).is_none());
        assert!(PasswordBox::new(&Secret::new("two")).open("main/lamp", &sealed).is_none());
    }

    /// Sealed by another implementation of AES-GCM: stored rows must open after every change of this file.
    #[test]
    fn the_stored_format_does_not_change() {
        let stored = "0102030405060708090a0b0c2ba2f516a51fd9edf2c669f9afa82ee7e86d3e29b7392e4061b341";
        let stored: Vec<u8> =
            (0..stored.len()).step_by(2).map(|at| u8::from_str_radix(&stored[at..at + 2], 16).unwrap()).collect();
        let password_box = PasswordBox::new(&Secret::new("one"));
        assert_eq!(password_box.open("main/lamp", &stored).unwrap(), Secret::new("of the lamp"));
    }
}
