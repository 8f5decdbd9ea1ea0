//! Whether a device may enter the broker: asked by brokers that keep no accounts of their own.

use super::credentials::{MqttUser, password_digest};
use super::credentials_store as store;
use crate::clock::Clock;
use crate::db::Pool;
use crate::error::Error;

/// Asks the database, each time: a password that was taken away is refused at once. Cheap to clone.
#[derive(Clone)]
pub struct Logins {
    pool: Pool,
    clock: Clock,
}

impl Logins {
    /// Over a pool, which may be one of its own: a broker is there before the server is.
    pub fn new(pool: Pool, clock: Clock) -> Self {
        Self { pool, clock }
    }

    /// Whether this is a valid password of that user.
    pub async fn accept(&self, user: MqttUser<'_>, password: &str) -> Result<bool, Error> {
        let given = password_digest(password);
        let mut conn = self.pool.get().await?;
        // Digests of a random secret: their comparison's time tells nothing of use.
        Ok(store::hashes(&mut conn, user, self.clock.now()).await?.contains(&given))
    }

    /// Whether there is such a device with a password that still holds.
    pub async fn is_known(&self, user: MqttUser<'_>) -> Result<bool, Error> {
        let mut conn = self.pool.get().await?;
        Ok(!store::hashes(&mut conn, user, self.clock.now()).await?.is_empty())
    }

    /// Those of these [`password_digest`]s that still open a door.
    pub async fn still_valid(&self, digests: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, Error> {
        let mut conn = self.pool.get().await?;
        Ok(store::still_valid(&mut conn, digests, self.clock.now()).await?)
    }
}
