//! The database of a command.

use crate::db::{self, Frozen, Pool, PoolMetrics};
use crate::error::Error;
use crate::settings::DatabaseSettings;

/// A pool. Fails at once, with the cause, where the database does not accept a connection.
pub(super) async fn open(settings: &DatabaseSettings) -> anyhow::Result<Pool> {
    if let Err(error) = db::connect(settings.url.reveal(), None).await {
        return Err(match error.refused_setting() {
            Some(refused) => refused.into(),
            None => anyhow::Error::from(Error::unavailable(error)).context("connect to the database"),
        });
    }
    Ok(db::pool(settings, Frozen::default(), PoolMetrics::default()))
}
