//! The embedded migrations.

use std::time::Duration;

use diesel::migration::{MigrationSource, MigrationVersion};
use diesel::pg::Pg;
use diesel::{QueryDsl, QueryResult};
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
    /// The database has migrations that this build does not have.
    #[error("the database is of a newer version, which has to revert its migrations first: {}", .0.join(", "))]
    Newer(Vec<String>),
    #[error("no migration of this version is named {0:?}")]
    Unknown(String),
    #[error(transparent)]
    Failed(#[from] Error),
}

impl From<ConnectError> for MigrationError {
    fn from(error: ConnectError) -> Self {
        error.refused_setting().map_or_else(|| Self::Failed(Error::unavailable(error)), Self::Refused)
    }
}

/// What a database has after its migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// Names of the migrations that were pending.
    pub applied: Vec<String>,
    /// Versions of the migrations that the database has and this build does not have: a newer version has been here.
    pub newer: Vec<String>,
}

/// Runs pending migrations under an advisory lock.
pub async fn migrate(settings: &DatabaseSettings) -> Result<Migrated, MigrationError> {
    let mut conn = connect(settings.url.reveal(), None).await?;
    lock(&mut conn).await?;
    // The harness blocks its thread.
    tokio::task::spawn_blocking(move || {
        let mut harness = AsyncMigrationHarness::new(conn);
        let applied = versions(&harness.run_pending_migrations(MIGRATIONS).map_err(Error::Internal)?);
        let present = versions(&harness.applied_migrations().map_err(Error::Internal)?);
        let mut known = known()?;
        let newer = unknown(&known, &present);
        known.retain(|name| applied.contains(&version(name)));
        Ok(Migrated { applied: known, newer })
    })
    .await
    .map_err(Error::internal)?
}

fn versions(migrations: &[MigrationVersion<'_>]) -> Vec<String> {
    migrations.iter().map(ToString::to_string).collect()
}

/// Reverts all migrations after this one, newest first, and returns their names. It is for a return to an older version: no
/// server may run.
pub async fn revert_to(settings: &DatabaseSettings, last_kept: &str) -> Result<Vec<String>, MigrationError> {
    let known = known()?;
    let Some(kept) = known.iter().position(|name| name == last_kept) else {
        return Err(MigrationError::Unknown(last_kept.to_owned()));
    };
    let mut conn = connect(settings.url.reveal(), None).await?;
    lock(&mut conn).await?;
    let applied = applied(&mut conn).await.map_err(Error::from)?;
    let newer = unknown(&known, &applied);
    if !newer.is_empty() {
        return Err(MigrationError::Newer(newer));
    }
    let after = known[kept + 1..].iter().rev();
    let reverted: Vec<_> = after.filter(|name| applied.contains(&version(name))).cloned().collect();
    tokio::task::spawn_blocking(move || {
        let mut harness = AsyncMigrationHarness::new(conn);
        for _ in &reverted {
            harness.revert_last_migration(MIGRATIONS).map_err(Error::Internal)?;
        }
        Ok(reverted)
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
    let applied = applied(conn).await?;
    let mut names = known()?;
    names.retain(|name| !applied.contains(&version(name)));
    Ok(names)
}

/// The versions of the migrations that the database has and this build does not have: a newer version has been here.
pub async fn newer(conn: &mut Connection) -> Result<Vec<String>, Error> {
    Ok(unknown(&known()?, &applied(conn).await?))
}

/// The names of this build's migrations, oldest first.
fn known() -> Result<Vec<String>, Error> {
    let known = MigrationSource::<Pg>::migrations(&MIGRATIONS).map_err(Error::Internal)?;
    let mut names: Vec<_> = known.iter().map(|migration| migration.name().to_string()).collect();
    names.sort();
    Ok(names)
}

async fn applied(conn: &mut Connection) -> QueryResult<Vec<String>> {
    diesel::table! { __diesel_schema_migrations (version) { version -> Text, } }

    let versions = __diesel_schema_migrations::table.select(__diesel_schema_migrations::version);
    versions.order(__diesel_schema_migrations::version).load(conn).await
}

fn unknown(known: &[String], applied: &[String]) -> Vec<String> {
    let known: Vec<_> = known.iter().map(|name| version(name)).collect();
    applied.iter().filter(|version| !known.contains(version)).cloned().collect()
}

/// The version as Diesel stores it: of `2026-11-24-000001_users` it is `20261124000001`.
fn version(name: &str) -> String {
    name.split('_').next().unwrap_or_default().replace('-', "")
}
