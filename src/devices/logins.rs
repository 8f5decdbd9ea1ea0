//! Logins of devices, for brokers that ask the server: may a device connect, and may its connection go on?

mod cache;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::time::timeout;

pub use cache::CredentialCache;

use super::credentials::{MqttUser, password_digest};
use super::credentials_store::Login;
use super::{cleanups_store, credentials_store as store};
use crate::clock::Clock;
use crate::db::Pool;
use crate::error::Error;

/// Longest wait for the database where a cached grant can answer.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(2);
/// After a failure, how long the cache answers before the database is asked again.
const DATABASE_RETRY: Duration = Duration::from_secs(1);
/// Shortest time between two log lines about refused logins: anybody can cause them.
const LOG_EVERY_MS: i64 = 1_000;

/// Asks the database at each question, so a deleted password is refused at once. Cheap to clone.
#[derive(Clone)]
pub struct Logins {
    pool: Pool,
    clock: Clock,
    cache: CredentialCache,
    /// When a refused login was last logged, in milliseconds since 1970.
    last_logged: Arc<AtomicI64>,
}

impl Logins {
    /// The pool may be a separate one. `cache` must also be a registry listener: deletions and rotations invalidate it.
    pub fn new(pool: Pool, clock: Clock, cache: CredentialCache) -> Self {
        Self { pool, clock, cache, last_logged: Arc::default() }
    }

    /// Whether this is a valid password of the user, and the client id the device's own, where the broker names it. If
    /// so, it is recorded as the password of the device's connection: the broker closes an earlier connection, which
    /// has the same client id. Passwords are never cached.
    pub async fn authenticate(
        &self,
        user: MqttUser<'_>,
        client_id: Option<&str>,
        password: &str,
    ) -> Result<bool, Error> {
        let digest = password_digest(password);
        let mut conn = self.pool.get().await?;
        let login = store::authenticate(&mut conn, user, client_id, &digest, self.clock.now()).await?;
        self.log_refused(login, user, client_id);
        Ok(login == Login::Accepted)
    }

    /// A broker tells a device only that it was refused.
    fn log_refused(&self, login: Login, user: MqttUser<'_>, client_id: Option<&str>) {
        let reason = match login {
            Login::Accepted => return,
            Login::NoSuchPassword => "no device with this user name has this password",
            Login::OtherClientId => "the password is right, but the client id is not the clientId of its credentials",
        };
        let now = self.clock.now().timestamp_millis();
        let last = self.last_logged.load(Ordering::Relaxed);
        // A clock that was set back logs at once.
        if (0..LOG_EVERY_MS).contains(&(now - last)) {
            return;
        }
        self.last_logged.store(now, Ordering::Relaxed);
        let (username, client_id) = (user.to_string(), client_id.unwrap_or_default().escape_debug());
        tracing::warn!(%username, %client_id, "refused a device: {reason}");
    }

    /// Whether the device exists and the password of its connection is valid. While the database does not answer, its
    /// last answer counts.
    pub async fn is_still_authorized(&self, user: MqttUser<'_>) -> Result<bool, Error> {
        let (name, now) = (user.to_string(), self.clock.now());
        let Some(lookup) = self.cache.begin(&name, now, DATABASE_TIMEOUT) else { return Ok(true) };
        let grant = async {
            let mut conn = self.pool.get().await?;
            Ok(store::login_grant(&mut conn, user, now).await?)
        };
        let answer = timeout(DATABASE_TIMEOUT, grant).await;
        match answer.unwrap_or_else(|_| Err(Error::unavailable("the database did not answer in time"))) {
            Ok(grant) => {
                self.cache.insert(&lookup, &name, grant, now);
                Ok(grant.is_some())
            }
            Err(_) if self.cache.get_stale(&name, self.clock.now(), DATABASE_RETRY) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Whether a device with these names in topics was deleted, and the broker may keep something for it.
    pub async fn is_being_cleaned_up(&self, home: &str, device: &str) -> Result<bool, Error> {
        let mut conn = self.pool.get().await?;
        Ok(cleanups_store::is_being_cleaned_up(&mut conn, home, device).await?)
    }

    /// Those of these [`password_digest`]s whose passwords are valid.
    pub async fn still_valid(&self, digests: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, Error> {
        let mut conn = self.pool.get().await?;
        Ok(store::still_valid(&mut conn, digests, self.clock.now()).await?)
    }
}
