//! The embedded migrations.

use diesel::QueryDsl;
use diesel::migration::MigrationSource;
use diesel::pg::Pg;
use diesel_async::{AsyncMigrationHarness, RunQueryDsl, SimpleAsyncConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::{Pool, connect, locks};
use crate::error::Error;
use crate::settings::DatabaseSettings;

/// Every migration, compiled in.
pub const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

/// Runs pending migrations under an advisory lock and returns their names.
pub async fn migrate(settings: &DatabaseSettings) -> Result<Vec<String>, Error> {
    let mut conn = connect(settings.url.reveal(), None).await.map_err(Error::unavailable)?;
    // The lock is released with the connection.
    conn.batch_execute(&format!("select pg_advisory_lock({})", locks::MIGRATION)).await?;
    // The harness blocks its thread.
    tokio::task::spawn_blocking(move || {
        let mut harness = AsyncMigrationHarness::new(conn);
        let applied = harness.run_pending_migrations(MIGRATIONS).map_err(Error::Internal)?;
        Ok(applied.iter().map(ToString::to_string).collect())
    })
    .await
    .map_err(Error::internal)?
}

/// Whether this build has a migration that the database does not have.
pub async fn has_pending(pool: &Pool) -> Result<bool, Error> {
    diesel::table! { __diesel_schema_migrations (version) { version -> Text, } }

    let mut conn = pool.get().await?;
    let applied: Vec<String> =
        __diesel_schema_migrations::table.select(__diesel_schema_migrations::version).load(&mut conn).await?;
    let known = MigrationSource::<Pg>::migrations(&MIGRATIONS).map_err(Error::Internal)?;
    Ok(known.iter().any(|migration| !applied.contains(&migration.name().version().to_string())))
}
