//! Migrates the schema before anything else, also when the database is away at first.

use std::time::Duration;

use anyhow::Context;
use tokio::time::sleep;

use super::tasks::Tasks;
use crate::db;
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
        migrated.set();
        return Ok(migrated);
    }
    match db::migrate(settings).await {
        Ok(applied) => {
            log_applied(&applied);
            migrated.set();
        }
        Err(error @ Error::Unavailable(_)) => {
            tracing::warn!(error = %Chain(&error), "the database is away; waiting for it");
            let retried = migrate_later(settings.clone(), migrated.clone(), tasks.ended.clone());
            tasks.spawn(tasks.stop.clone().run_until_cancelled_owned(retried));
        }
        Err(error) => return Err(error).context("migrate the database"),
    }
    Ok(migrated)
}

/// Ends the server where the migration itself fails.
async fn migrate_later(settings: DatabaseSettings, migrated: Latch, ended: Latch) {
    loop {
        sleep(RETRY_EVERY).await;
        match db::migrate(&settings).await {
            Ok(applied) => {
                log_applied(&applied);
                return migrated.set();
            }
            Err(Error::Unavailable(_)) => {}
            Err(error) => {
                tracing::error!(error = %Chain(&error), "the database can't be migrated");
                return ended.set();
            }
        }
    }
}

fn log_applied(applied: &[String]) {
    if !applied.is_empty() {
        tracing::info!(n = applied.len(), "applied migrations");
    }
}
