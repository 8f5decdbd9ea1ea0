//! Migrates the schema before anything else, also when the database is away at first.

use std::time::Duration;

use anyhow::Context;
use tokio::time::sleep;

use super::tasks::Tasks;
use crate::db::{self, Migrated, MigrationError};
use crate::error::{Chain, Error};
use crate::latch::Latch;
use crate::settings::DatabaseSettings;

/// Pause between attempts to migrate a database that is away.
const RETRY_EVERY: Duration = Duration::from_millis(500);

/// Migrates now, or in the background once a database that is away answers. Meanwhile the server is live, reports
/// in `/readyz` what it waits for, and takes no message from the broker. The returned latch is set when the schema
/// is up to date.
pub(super) async fn migrate(settings: &DatabaseSettings, skip: bool, tasks: &Tasks) -> anyhow::Result<Latch> {
    let migrated = Latch::default();
    if skip {
        check_account(settings).await?;
        migrated.set();
        return Ok(migrated);
    }
    match db::migrate(settings).await {
        Ok(migration) => {
            log(&migration);
            migrated.set();
        }
        Err(MigrationError::Refused(setting)) => return Err(setting.into()),
        Err(MigrationError::Failed(error @ Error::Unavailable(_))) => {
            let first = Chain(&error).to_string();
            tracing::warn!(error = first, "the database is away; waiting for it");
            let retried = migrate_later(settings.clone(), migrated.clone(), tasks.ended.clone(), first);
            tasks.spawn(tasks.stop.clone().run_until_cancelled_owned(retried));
        }
        Err(error) => return Err(error).context("migrate the database"),
    }
    Ok(migrated)
}

/// Fails where the database refuses the account. A database that is away may come later.
async fn check_account(settings: &DatabaseSettings) -> anyhow::Result<()> {
    let refused = db::connect(settings.url.reveal(), None).await.err().and_then(|error| error.refused_setting());
    refused.map_or(Ok(()), |refused| Err(refused.into()))
}

/// Ends the server where the migration itself fails, or the database refuses the account once it answers. Logs each
/// new reason of the outage; `last` is the one that is logged already.
async fn migrate_later(settings: DatabaseSettings, migrated: Latch, ended: Latch, mut last: String) {
    loop {
        sleep(RETRY_EVERY).await;
        match db::migrate(&settings).await {
            Ok(migration) => {
                log(&migration);
                return migrated.set();
            }
            Err(MigrationError::Refused(setting)) => {
                tracing::error!("{setting}");
                return ended.set();
            }
            Err(MigrationError::Failed(error @ Error::Unavailable(_))) => {
                let error = Chain(&error).to_string();
                if error != last {
                    tracing::warn!(error, "the database is still away; waiting for it");
                    last = error;
                }
            }
            Err(error) => {
                tracing::error!(error = %Chain(&error), "the database can't be migrated");
                return ended.set();
            }
        }
    }
}

fn log(migration: &Migrated) {
    if !migration.applied.is_empty() {
        tracing::info!(n = migration.applied.len(), "applied migrations");
    }
    // This version works as far as the newer one's migrations allow.
    if !migration.newer.is_empty() {
        tracing::warn!(
            migrations = migration.newer.join(", "),
            "the database is of a newer version: start that one, or let it revert its migrations (`smarthome migrate --revert-to`)"
        );
    }
}
