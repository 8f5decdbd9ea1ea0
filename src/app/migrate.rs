//! The schema before anything else, also where the database is away at first.

use std::time::Duration;

use anyhow::Context;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::db;
use crate::error::{Chain, Error};
use crate::settings::DatabaseSettings;

/// Pause between attempts to migrate a database that is away.
const MIGRATION_RETRY: Duration = Duration::from_millis(500);

/// Migrates now, or in the background once a database that is away answers: the server is live
/// meanwhile, says in `/readyz` what it waits for, and takes nothing from the broker that it could
/// not store. The token tells when the schema is there.
pub(super) async fn migrate(
    settings: &DatabaseSettings,
    skip: bool,
    ended: &CancellationToken,
) -> anyhow::Result<CancellationToken> {
    let migrated = CancellationToken::new();
    if skip {
        migrated.cancel();
        return Ok(migrated);
    }
    match db::migrate(settings).await {
        Ok(applied) => {
            log_applied(&applied);
            migrated.cancel();
        }
        Err(error @ Error::Unavailable(_)) => {
            tracing::warn!(error = %Chain(&error), "the database is away; waiting for it");
            let (settings, migrated, ended) = (settings.clone(), migrated.clone(), ended.clone());
            tokio::spawn(ended.clone().run_until_cancelled_owned(async move {
                loop {
                    sleep(MIGRATION_RETRY).await;
                    match db::migrate(&settings).await {
                        Ok(applied) => {
                            log_applied(&applied);
                            return migrated.cancel();
                        }
                        Err(Error::Unavailable(_)) => {}
                        Err(error) => {
                            tracing::error!(error = %Chain(&error), "the database can't be migrated");
                            return ended.cancel();
                        }
                    }
                }
            }));
        }
        Err(error) => return Err(error).context("migrate the database"),
    }
    Ok(migrated)
}

fn log_applied(applied: &[String]) {
    if !applied.is_empty() {
        tracing::info!(n = applied.len(), "applied migrations");
    }
}
