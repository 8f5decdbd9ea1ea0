//! The embedded migrations.

use std::time::Duration;

use diesel::QueryDsl;
use diesel::migration::MigrationSource;
use diesel::pg::Pg;
use diesel_async::{AsyncMigrationHarness, RunQueryDsl, SimpleAsyncConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::{ConnectError, Connection, Pool, connect, locks};
use crate::error::Error;
use crate::settings::{DatabaseSettings, SettingsError};

/// Every migration, compiled in.
pub const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

/// When a migration that waits for another one is logged for the first time, and how often after that.
const FIRST_REMINDER: Duration = Duration::from_secs(1);
const REMIND_EVERY: Duration = Duration::from_secs(60);

/// Why the schema is not up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// PostgreSQL refuses the connection because of this setting.
    #[error(transparent)]
    Refused(SettingsError),
    #[error(transparent)]
    Failed(#[from] Error),
}

impl From<ConnectError> for MigrationError {
    fn from(error: ConnectError) -> Self {
        error.refused_setting().map_or_else(|| Self::Failed(Error::unavailable(error)), Self::Refused)
    }
}

/// Runs pending migrations under an advisory lock and returns their names.
pub async fn migrate(settings: &DatabaseSettings) -> Result<Vec<String>, MigrationError> {
    let mut conn = connect(settings.url.reveal(), None).await?;
    lock(&mut conn).await?;
    // The harness blocks its thread.
    tokio::task::spawn_blocking(move || {
        let mut harness = AsyncMigrationHarness::new(conn);
        let applied = harness.run_pending_migrations(MIGRATIONS).map_err(Error::Internal)?;
        Ok(applied.iter().map(ToString::to_string).collect())
    })
    .await
    .map_err(Error::internal)?
}

/// Waits until no other process migrates. The lock is released with the connection.
async fn lock(conn: &mut Connection) -> Result<(), Error> {
    let statement = format!("select pg_advisory_lock({})", locks::MIGRATION);
    let mut locking = std::pin::pin!(conn.batch_execute(&statement));
    let mut pause = FIRST_REMINDER;
    loop {
        match tokio::time::timeout(pause, &mut locking).await {
            Ok(locked) => return Ok(locked?),
            Err(_) => tracing::info!("another process migrates the database; waiting until it has ended"),
        }
        pause = REMIND_EVERY;
    }
}

/// Whether this build has a migration that the database does not have.
pub async fn has_pending(pool: &Pool) -> Result<bool, Error> {
    Ok(!pending(&mut *pool.get().await?).await?.is_empty())
}

/// The names of the migrations that this build has and the database does not have.
pub async fn pending(conn: &mut Connection) -> Result<Vec<String>, Error> {
    diesel::table! { __diesel_schema_migrations (version) { version -> Text, } }

    let applied: Vec<String> =
        __diesel_schema_migrations::table.select(__diesel_schema_migrations::version).load(conn).await?;
    let mut known = MigrationSource::<Pg>::migrations(&MIGRATIONS).map_err(Error::Internal)?;
    known.retain(|migration| !applied.contains(&migration.name().version().to_string()));
    let mut names: Vec<_> = known.iter().map(|migration| migration.name().to_string()).collect();
    names.sort();
    Ok(names)
}
