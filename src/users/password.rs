//! Passwords: long rather than odd, never a well-known one, stored as Argon2id. Hashing costs 30 ms and
//! 19 MiB each, so it runs off the async threads and only a bounded number at a time.

use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use tokio::sync::Semaphore;
use unicode_normalization::UnicodeNormalization;

use super::blocklist;
use crate::error::Error;

/// Fewest characters of a password.
pub(super) const MIN_CHARS: usize = 12;
/// Most characters of a password: bounds the work, not the people.
pub(super) const MAX_CHARS: usize = 128;

/// Hashes computed at once: 2 x 19 MiB and two cores at most.
const MAX_HASHING: usize = 2;
/// Requests that may wait for a turn (about a second); the rest is told to come back.
const MAX_WAITING: usize = 64;

/// What an unknown e-mail's password is compared with, so that it takes as long as a known one's.
/// Hash of a random password nobody kept.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c21hcnRob21lLW5vYm9keQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// A password that may be set: normalised, long enough, not well known.
#[derive(Clone)]
pub(super) struct NewPassword(String);

impl NewPassword {
    /// Checks a password somebody chose. `field` is the input field, as the client spells it.
    pub(super) fn parse(field: &'static str, text: &str, email: &str) -> Result<Self, Error> {
        let password = normalise(text).ok_or_else(|| too_long(field))?;
        let chars = password.chars().count();
        if chars < MIN_CHARS {
            return Err(Error::bad_input(field, format!("{field} must have at least {MIN_CHARS} characters")));
        }
        if chars > MAX_CHARS {
            return Err(too_long(field));
        }
        if let Some(reason) = blocklist::refuse(&password, email) {
            return Err(Error::bad_input(field, format!("{field} is too easy to guess: {reason}")));
        }
        Ok(Self(password))
    }
}

/// NFKC, so that one password typed on two keyboards is one; `None` if it is too long to look at.
fn normalise(text: &str) -> Option<String> {
    // A character has at most 4 bytes, and NFKC may fold several into one.
    (text.len() <= MAX_CHARS * 16).then(|| text.nfkc().collect())
}

fn too_long(field: &'static str) -> Error {
    Error::bad_input(field, format!("{field} must have at most {MAX_CHARS} characters"))
}

/// Hashes and verifies. Cheap to clone; all clones share the bounds.
#[derive(Clone)]
pub(super) struct Hasher {
    turns: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Default for Hasher {
    fn default() -> Self {
        Self {
            turns: Arc::new(Semaphore::new(MAX_HASHING)),
            waiting: Arc::new(Semaphore::new(MAX_HASHING + MAX_WAITING)),
        }
    }
}

impl Hasher {
    /// The PHC string to store.
    pub(super) async fn hash(&self, password: NewPassword) -> Result<String, Error> {
        self.run(move || {
            argon2()
                .hash_password(password.0.as_bytes())
                .map(|hash| hash.to_string())
                .map_err(|error| Error::internal(error.to_string()))
        })
        .await?
    }

    /// Whether `text` is the password behind `stored`; with `None` it never is, and takes as long to say.
    pub(super) async fn verify(&self, text: &str, stored: Option<String>) -> Result<bool, Error> {
        let Some(password) = normalise(text) else { return Ok(false) };
        self.run(move || {
            let known = stored.is_some();
            let stored = stored.as_deref().unwrap_or(NOBODY);
            let hash = PasswordHash::new(stored).map_err(|error| Error::internal(error.to_string()))?;
            Ok(argon2().verify_password(password.as_bytes(), &hash).is_ok() && known)
        })
        .await?
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        let _place =
            self.waiting.try_acquire().map_err(|_| Error::RateLimited("too many sign-ins at once, try again"))?;
        let turn = self.turns.clone().acquire_owned().await.map_err(Error::internal)?;
        tokio::task::spawn_blocking(move || {
            let done = work();
            drop(turn);
            done
        })
        .await
        .map_err(Error::internal)
    }
}

/// OWASP's minimum for Argon2id: 19 MiB, two passes, one lane.
fn argon2() -> Argon2<'static> {
    let params = Params::new(19 * 1024, 2, 1, None).expect("constant parameters in range");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
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

    #[tokio::test]
    async fn a_stored_hash_verifies_its_password_alone() {
        let hasher = Hasher::default();
        let stored = hasher.hash(parse("correct horse battery").unwrap()).await.unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert!(hasher.verify("correct horse battery", Some(stored.clone())).await.unwrap());
        assert!(!hasher.verify("correct horse batterz", Some(stored)).await.unwrap());
        assert!(!hasher.verify("correct horse battery", None).await.unwrap());
    }

    #[test]
    fn nobody_costs_as_much_as_somebody() {
        let hash = PasswordHash::new(NOBODY).unwrap();
        let params = Params::try_from(&hash.params).unwrap();
        assert_eq!((params.m_cost(), params.t_cost(), params.p_cost()), (19 * 1024, 2, 1));
    }

    #[tokio::test]
    async fn a_full_waiting_room_is_told_to_come_back() {
        let hasher = Hasher::default();
        let _taken = hasher.waiting.clone().acquire_many_owned(66).await.unwrap();
        assert!(matches!(hasher.verify("x", None).await, Err(Error::RateLimited(_))));
    }
}
