//! Validation of names and keys. Names are for display: trimmed, printable, bounded. Keys are topic segments that
//! can't be mistaken for an id or a MAC address.

use crate::error::Error;

/// Most characters of a name.
pub const MAX_NAME_CHARS: usize = 100;
/// Most bytes of a key.
pub const MAX_KEY_BYTES: usize = 64;

/// Refuses control characters. PostgreSQL can't store NUL, and the others can't be displayed.
pub fn printable(field: &'static str, text: &str) -> Result<(), Error> {
    match text.chars().find(|c| c.is_control()) {
        Some(found) => Err(Error::bad_input(field, format!("{field} contains the control character {found:?}"))),
        None => Ok(()),
    }
}

/// A trimmed name of 1 to [`MAX_NAME_CHARS`] printable characters.
pub fn name(field: &'static str, text: &str) -> Result<String, Error> {
    let name = text.trim();
    printable(field, name)?;
    if !(1..=MAX_NAME_CHARS).contains(&name.chars().count()) {
        return Err(Error::bad_input(field, format!("{field} must have 1 to {MAX_NAME_CHARS} characters")));
    }
    Ok(name.to_owned())
}

/// A key: `[A-Za-z0-9][A-Za-z0-9_.-]{0,63}`, not all digits (that would be an id) and not a MAC address.
pub fn key(field: &'static str, text: &str) -> Result<String, Error> {
    let bytes = text.as_bytes();
    let has_valid_form = (1..=MAX_KEY_BYTES).contains(&bytes.len())
        && bytes[0].is_ascii_alphanumeric()
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(b));
    if !has_valid_form {
        let expected = "1 to 64 letters, digits, '_', '.' or '-', starting with a letter or digit";
        return Err(Error::bad_input(field, format!("{field} must be {expected}")));
    }
    if bytes.iter().all(u8::is_ascii_digit) {
        return Err(Error::bad_input(field, format!("{field} must not be a number: that would be an id")));
    }
    let digits = bytes.iter().filter(|b| b.is_ascii_hexdigit()).count();
    let is_mac = digits == 12 && bytes.iter().all(|b| b.is_ascii_hexdigit() || b"-.".contains(b));
    if is_mac {
        return Err(Error::bad_input(
            field,
            format!("{field} must not look like a MAC address: give it as macAddress"),
        ));
    }
    Ok(text.to_owned())
}

/// Whether a configuration or payload key names a secret: it ends in password, secret or token, in any case
/// (`wifiPassword`, `api_token`, `SECRET`).
pub fn is_secret_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["password", "secret", "token"].iter().any(|end| key.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_trimmed_printable_and_of_bounded_length() {
        assert_eq!(name("name", "  Küche 🍳 ").unwrap(), "Küche 🍳");
        assert_eq!(name("name", &"ü".repeat(100)).unwrap().chars().count(), 100);
        for wrong in ["", "   ", "a\0b", "a\nb", "\u{7f}", &"x".repeat(101)] {
            assert!(matches!(name("name", wrong), Err(Error::BadInput { field: "name", .. })), "{wrong:?}");
        }
    }

    #[test]
    fn a_key_is_one_topic_segment_and_never_an_id_or_a_mac() {
        for good in ["ESP32_001", "a", "7a", "kitchen.lamp-2", "deadbeef", &"x".repeat(64)] {
            assert_eq!(key("key", good).unwrap(), good);
        }
        for wrong in [
            "",
            "42",
            "007",
            "-a",
            "_a",
            "a/b",
            "a+b",
            "a#",
            "a b",
            "ä",
            "a\0",
            "$SYS",
            "246F28AABBCC",
            "24-6f-28-aa-bb-cc",
            "246f.28aa.bbcc",
            &"x".repeat(65),
        ] {
            assert!(matches!(key("key", wrong), Err(Error::BadInput { field: "key", .. })), "{wrong:?}");
        }
    }

    #[test]
    fn a_key_that_ends_in_password_secret_or_token_names_a_secret() {
        for key in ["password", "wifiPassword", "client_SECRET", "apiToken"] {
            assert!(is_secret_key(key), "{key}");
        }
        for key in ["tokens", "passwordless", "ssid", ""] {
            assert!(!is_secret_key(key), "{key}");
        }
    }
}
