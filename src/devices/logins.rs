//! Whether a device may enter the broker: lookup by brokers that keep no accounts of their own.

mod cache;

use std::time::Duration;

use tokio::time::timeout;

pub use cache::CredentialCache;
pub(super) use cache::LoginGrant;

use super::credentials::{MqttUser, password_digest};
use super::credentials_store as store;
use crate::clock::Clock;
use crate::db::Pool;
use crate::error::Error;

/// Longest wait for the database where its last answer may do.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a database that did not answer is left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// Asks the database, each time: a password that was taken away is refused at once. Cheap to clone.
#[derive(Clone)]
pub struct Logins {
    pool: Pool,
    clock: Clock,
    cache: CredentialCache,
}

impl Logins {
    /// Over a pool, which may be one of its own: a broker is there before the server is. What the memory
    /// is to forget, whoever ends passwords tells it.
    pub fn new(pool: Pool, clock: Clock, cache: CredentialCache) -> Self {
        Self { pool, clock, cache }
    }

    /// Whether this is a valid password of that user. If so, the user's connection is by this password
    /// from now on: the broker puts out the one before, which has the same client id. Never without the
    /// database: of a password nothing is remembered.
    pub async fn authenticate(&self, user: MqttUser<'_>, password: &str) -> Result<bool, Error> {
        let given = password_digest(password);
        let mut conn = self.pool.get().await?;
        Ok(store::authenticate(&mut conn, user, &given, self.clock.now()).await?)
    }

    /// Whether there is such a device and the password its connection came in by still holds; while the
    /// database does not answer, whether it did when it last answered.
    pub async fn is_still_authorized(&self, user: MqttUser<'_>) -> Result<bool, Error> {
        let (name, now) = (user.to_string(), self.clock.now());
        let Some(lookup) = self.cache.begin(&name, now, PATIENCE) else { return Ok(true) };
        let grant = async {
            let mut conn = self.pool.get().await?;
            Ok(store::grant(&mut conn, user, now).await?)
        };
        let answer = timeout(PATIENCE, grant).await;
        match answer.unwrap_or_else(|_| Err(Error::unavailable("no answer of the database in time"))) {
            Ok(grant) => {
                self.cache.insert(&lookup, &name, grant, now);
                Ok(grant.is_some())
            }
            Err(_) if self.cache.get_stale(&name, self.clock.now(), PAUSE) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Those of these [`password_digest`]s that still open a door.
    pub async fn still_valid(&self, digests: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, Error> {
        let mut conn = self.pool.get().await?;
        Ok(store::still_valid(&mut conn, digests, self.clock.now()).await?)
    }
}
