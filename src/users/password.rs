//! The rules for new passwords, and the normal form in which all are compared.

use unicode_normalization::UnicodeNormalization;

use super::blocklist;
use crate::error::Error;

/// Fewest characters of a password.
pub(super) const MIN_CHARS: usize = 12;
/// Most characters of a password: bounds the work of hashing.
pub(super) const MAX_CHARS: usize = 128;

/// A password that satisfies the rules, normalised.
#[derive(Clone)]
pub(super) struct NewPassword(String);

impl NewPassword {
    /// Checks the rules. `field` is the name of the input field in the API.
    pub(super) fn parse(field: &'static str, text: &str, email: &str) -> Result<Self, Error> {
        let password = normalise(text).ok_or_else(|| too_long(field))?;
        let chars = password.chars().count();
        if chars < MIN_CHARS {
            return Err(Error::bad_input(field, format!("{field} must have at least {MIN_CHARS} characters")));
        }
        if chars > MAX_CHARS {
            return Err(too_long(field));
        }
        if let Some(reason) = blocklist::rejection(&password, email) {
            return Err(Error::bad_input(field, format!("{field} is too easy to guess: {reason}")));
        }
        Ok(Self(password))
    }

    /// The normalised text.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Normalises to NFKC, so that different keyboards produce the same password. `None` if the text is far too long.
pub(super) fn normalise(text: &str) -> Option<String> {
    // A character has at most 4 bytes, and NFKC may fold several into one.
    (text.len() <= MAX_CHARS * 16).then(|| text.nfkc().collect())
}

fn too_long(field: &'static str) -> Error {
    Error::bad_input(field, format!("{field} must have at most {MAX_CHARS} characters"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<NewPassword, Error> {
        NewPassword::parse("password", text, "ann.lee@example.com")
    }

    #[test]
    fn length_counts_characters_after_normalisation() {
        assert!(parse("zwölf Äpfel!").is_ok());
        assert!(parse("kurz").is_err());
        assert!(parse(&"x7 q".repeat(33)).is_err());
        assert!(parse(&"🍳".repeat(100_000)).is_err());
        // U+212B (Angstrom sign) and U+00C5 are one character after NFKC.
        assert_eq!(parse("\u{212b}ngstrom unit").unwrap().0, parse("\u{c5}ngstrom unit").unwrap().0);
    }
}
