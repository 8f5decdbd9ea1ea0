//! Hashing of passwords with Argon2id. One hash costs 30 ms and 19 MiB, so hashing runs on the blocking threads, a bounded
//! number at a time, in memory that following hashes use again.

use std::sync::{Arc, Mutex};

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{ARGON2ID_IDENT, Algorithm, Argon2, Block, Params, Version};

use super::hashing_turns::{Lane, MAX_CONCURRENT, Turns};
use super::password::{NewPassword, normalise};
use crate::error::Error;

/// Memory of one hash, in blocks of 1 KiB: 19 MiB, OWASP's minimum for Argon2id with two passes and one lane.
const MEMORY_BLOCKS: u32 = 19 * 1024;
/// Passes over the memory.
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Bytes of a new hash.
const HASH_BYTES: usize = 32;

/// The hash that passwords for unknown e-mails are compared with, so that the answer takes as long. Its password is
/// unknown.
const DUMMY_HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c21hcnRob21lLW5vYm9keQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Hashes and verifies passwords. Cheap to clone; all clones share the limits and the memory.
#[derive(Clone, Default)]
pub(super) struct Hasher {
    turns: Turns,
    memory: Arc<Mutex<Vec<Memory>>>,
}

/// The memory of one hash.
type Memory = Vec<Block>;

impl Hasher {
    /// Whether a further password has to wait for its turn.
    pub(super) fn is_busy(&self) -> bool {
        self.turns.is_busy()
    }

    /// The PHC string of a password.
    pub(super) async fn hash(&self, password: NewPassword, lane: Lane) -> Result<String, Error> {
        self.run(lane, move |memory| hash(password.as_str(), memory)).await?
    }

    /// Whether `text` matches the stored hash. Always `false` for `None`, in the same time.
    pub(super) async fn verify(&self, text: &str, stored: Option<String>, lane: Lane) -> Result<bool, Error> {
        let Some(password) = normalise(text) else { return Ok(false) };
        self.run(lane, move |memory| {
            let known = stored.is_some();
            Ok(matches(&password, stored.as_deref().unwrap_or(DUMMY_HASH), memory)? && known)
        })
        .await?
    }

    async fn run<T: Send + 'static>(
        &self,
        lane: Lane,
        work: impl FnOnce(&mut Memory) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let turn = self.turns.wait(lane).await?;
        let hasher = self.clone();
        tokio::task::spawn_blocking(move || {
            let mut memory = hasher.memory.lock().expect("hash memory lock").pop().unwrap_or_default();
            let done = work(&mut memory);
            hasher.keep_for_next(memory);
            drop(turn);
            done
        })
        .await
        .map_err(Error::internal)
    }

    /// Keeps the memory while requests wait for their turn, so that a burst of sign-ins allocates it
    /// [`MAX_CONCURRENT`] times and not once for each. An idle server holds none. The caller's turn goes on meanwhile.
    fn keep_for_next(&self, memory: Memory) {
        let mut kept = self.memory.lock().expect("hash memory lock");
        if self.turns.n_in_progress() > MAX_CONCURRENT {
            kept.push(memory);
        } else {
            kept.clear();
        }
    }
}

/// The PHC string of a password, with a new salt.
fn hash(password: &str, memory: &mut Memory) -> Result<String, Error> {
    let params = Params::new(MEMORY_BLOCKS, PASSES, LANES, Some(HASH_BYTES)).map_err(internal)?;
    let (salt, version) = (Salt::generate(), Version::V0x13);
    let hash = PasswordHash {
        algorithm: ARGON2ID_IDENT,
        version: Some(version.into()),
        params: ParamsString::try_from(&params).map_err(internal)?,
        hash: Some(output(password, &salt, &Argon2::new(Algorithm::Argon2id, version, params), memory)?),
        salt: Some(salt),
    };
    Ok(hash.to_string())
}

/// Whether a password has this PHC string.
fn matches(password: &str, stored: &str, memory: &mut Memory) -> Result<bool, Error> {
    let stored = PasswordHash::new(stored).map_err(internal)?;
    let algorithm = Algorithm::try_from(stored.algorithm.as_str()).map_err(internal)?;
    let version = stored.version.map(Version::try_from).transpose().map_err(internal)?.unwrap_or_default();
    let params = Params::try_from(&stored).map_err(internal)?;
    let (Some(salt), Some(expected)) = (&stored.salt, &stored.hash) else { return Ok(false) };
    // Compares in constant time.
    Ok(output(password, salt, &Argon2::new(algorithm, version, params), memory)? == *expected)
}

fn output(password: &str, salt: &Salt, argon2: &Argon2<'_>, memory: &mut Memory) -> Result<Output, Error> {
    let n_blocks = argon2.params().block_count();
    if memory.len() < n_blocks {
        memory.resize(n_blocks, Block::new());
    }
    let mut bytes = [0; Output::MAX_LENGTH];
    let bytes = &mut bytes[..argon2.params().output_len().unwrap_or(HASH_BYTES)];
    argon2.hash_password_into_with_memory(password.as_bytes(), salt, bytes, memory).map_err(internal)?;
    Output::new(bytes).map_err(internal)
}

fn internal(error: impl std::fmt::Display) -> Error {
    Error::internal(error.to_string())
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
        let stored = hasher.hash(new_password(), Lane::Unknown).await.unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert!(hasher.verify("correct horse battery", Some(stored.clone()), Lane::Known).await.unwrap());
        assert!(!hasher.verify("correct horse batterz", Some(stored), Lane::Known).await.unwrap());
        assert!(!hasher.verify("correct horse battery", None, Lane::Unknown).await.unwrap());
    }

    #[test]
    fn the_dummy_hash_costs_as_much_as_a_real_one() {
        let hash = PasswordHash::new(DUMMY_HASH).unwrap();
        let params = Params::try_from(&hash.params).unwrap();
        assert_eq!((params.m_cost(), params.t_cost(), params.p_cost()), (19 * 1024, 2, 1));
    }

    #[tokio::test]
    async fn memory_is_used_again_while_requests_wait_and_is_freed_afterwards() {
        let hasher = Hasher::default();
        let addresses = Arc::new(Mutex::new(Vec::new()));
        let note = |memory: &mut Memory, addresses: &Mutex<Vec<usize>>| {
            memory.resize(1, Block::new());
            addresses.lock().unwrap().push(memory.as_ptr() as usize);
        };
        let one = || {
            let addresses = addresses.clone();
            hasher.run(Lane::Unknown, move |memory| note(memory, &addresses))
        };
        // No hash starts before all wait.
        let turns = [hasher.turns.wait(Lane::Known).await.unwrap(), hasher.turns.wait(Lane::Known).await.unwrap()];
        let all = futures_util::future::try_join_all((0..40).map(|_| one()));
        futures_util::future::join(all, async { drop(turns) }).await.0.unwrap();
        let mut used = addresses.lock().unwrap().clone();
        assert_eq!(used.len(), 40);
        used.sort_unstable();
        used.dedup();
        // When only two are left, the one that ends may free what the last one would have used.
        assert!(used.len() <= MAX_CONCURRENT + 1, "{used:?}");
        assert!(hasher.memory.lock().unwrap().is_empty());
    }
}
