//! The devices' passwords, as the registry keeps them.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::clock::Clock;
use crate::db::Pool;
use crate::db::schema::{device_credentials, devices, homes};
use crate::error::Error;

/// Asks the database, each time: a password that was taken away is refused at once.
#[derive(Clone)]
pub struct Credentials {
    pool: Pool,
    clock: Clock,
}

impl Credentials {
    /// Over a pool of one's own: the broker is there before the server is.
    pub fn new(pool: Pool, clock: Clock) -> Self {
        Self { pool, clock }
    }

    /// Whether this is the SHA-256 of one of the device's valid passwords. No answer is a no.
    pub async fn accept(&self, home: &str, device: &str, hash: [u8; 32]) -> bool {
        let now = self.clock.now();
        match self.hashes(home, device, now).await {
            Ok(hashes) => hashes.iter().any(|known| known[..] == hash),
            Err(error) => {
                tracing::warn!(%error, "a device's password could not be checked");
                false
            }
        }
    }

    async fn hashes(&self, home: &str, device: &str, now: DateTime<Utc>) -> Result<Vec<Vec<u8>>, Error> {
        let mut conn = self.pool.get().await?;
        let valid = device_credentials::expires_at.is_null().or(device_credentials::expires_at.gt(now));
        let hashes = device_credentials::table
            .inner_join(devices::table.on(devices::id.eq(device_credentials::device_id)))
            .inner_join(homes::table.on(homes::id.eq(devices::home_id)))
            .filter(homes::key.eq(home).and(devices::key.eq(device)).and(valid))
            .select(device_credentials::secret_hash)
            .load(&mut conn)
            .await?;
        Ok(hashes)
    }
}
