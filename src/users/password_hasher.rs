//! Hashing of passwords with Argon2id. One hash costs 30 ms and 19 MiB, so hashing runs on the blocking threads, a bounded
//! number at a time.

use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use tokio::sync::Semaphore;

use super::password::{NewPassword, normalise};
use crate::error::Error;

/// Hashes computed at once: at most 2 x 19 MiB and two cores.
const MAX_CONCURRENT: usize = 2;
/// Requests that may wait for a permit (about a second); others receive `RATE_LIMITED`.
const MAX_WAITING: usize = 64;

/// The hash that passwords for unknown e-mails are compared with, so that the answer takes as long. Its password is
/// unknown.
const DUMMY_HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c21hcnRob21lLW5vYm9keQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Hashes and verifies passwords. Cheap to clone; all clones share the limits.
#[derive(Clone)]
pub(super) struct Hasher {
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Default for Hasher {
    fn default() -> Self {
        Self {
            running: Arc::new(Semaphore::new(MAX_CONCURRENT)),
            waiting: Arc::new(Semaphore::new(MAX_CONCURRENT + MAX_WAITING)),
        }
    }
}

impl Hasher {
    /// The PHC string of a password.
    pub(super) async fn hash(&self, password: NewPassword) -> Result<String, Error> {
        self.run(move || {
            argon2()
                .hash_password(password.as_str().as_bytes())
                .map(|hash| hash.to_string())
                .map_err(|error| Error::internal(error.to_string()))
        })
        .await?
    }

    /// Whether `text` matches the stored hash. Always `false` for `None`, in the same time.
    pub(super) async fn verify(&self, text: &str, stored: Option<String>) -> Result<bool, Error> {
        let Some(password) = normalise(text) else { return Ok(false) };
        self.run(move || {
            let known = stored.is_some();
            let stored = stored.as_deref().unwrap_or(DUMMY_HASH);
            let hash = PasswordHash::new(stored).map_err(|error| Error::internal(error.to_string()))?;
            Ok(argon2().verify_password(password.as_bytes(), &hash).is_ok() && known)
        })
        .await?
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        let _slot =
            self.waiting.try_acquire().map_err(|_| Error::RateLimited("too many sign-ins at once, try again"))?;
        let permit = self.running.clone().acquire_owned().await.map_err(Error::internal)?;
        tokio::task::spawn_blocking(move || {
            let done = work();
            drop(permit);
            done
        })
        .await
        .map_err(Error::internal)
    }
}

/// OWASP's minimum parameters for Argon2id: 19 MiB, two passes, one lane.
fn argon2() -> Argon2<'static> {
    let params = Params::new(19 * 1024, 2, 1, None).expect("constant parameters in range");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new_password() -> NewPassword {
        NewPassword::parse("password", "correct horse battery", "ann.lee@example.com").unwrap()
    }

    #[tokio::test]
    async fn a_stored_hash_verifies_only_its_password() {
        let hasher = Hasher::default();
        let stored = hasher.hash(new_password()).await.unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert!(hasher.verify("correct horse battery", Some(stored.clone())).await.unwrap());
        assert!(!hasher.verify("correct horse batterz", Some(stored)).await.unwrap());
        assert!(!hasher.verify("correct horse battery", None).await.unwrap());
    }

    #[test]
    fn the_dummy_hash_costs_as_much_as_a_real_one() {
        let hash = PasswordHash::new(DUMMY_HASH).unwrap();
        let params = Params::try_from(&hash.params).unwrap();
        assert_eq!((params.m_cost(), params.t_cost(), params.p_cost()), (19 * 1024, 2, 1));
    }

    #[tokio::test]
    async fn too_many_waiting_requests_are_rate_limited() {
        let hasher = Hasher::default();
        let _permits = hasher.waiting.clone().acquire_many_owned(66).await.unwrap();
        assert!(matches!(hasher.verify("x", None).await, Err(Error::RateLimited(_))));
    }
}
