//! The database of a command.

use crate::db::{self, Frozen, Pool, PoolMetrics};
use crate::error::Error;
use crate::settings::DatabaseSettings;

/// A pool. Fails at once, with the cause, where the database does not accept a connection.
pub(super) async fn open(settings: &DatabaseSettings) -> anyhow::Result<Pool> {
    let first = db::connect(settings.url.reveal(), None).await;
    first.map_err(|error| named(Error::unavailable(error), "connect to the database"))?;
    Ok(db::pool(settings, Frozen::default(), PoolMetrics::default()))
}

/// The wrong setting, where the database refuses one; any other error in its context.
pub(super) fn named(error: Error, context: &'static str) -> anyhow::Error {
    match db::refused_setting(&error) {
        Some(refused) => refused.into(),
        None => anyhow::Error::from(error).context(context),
    }
}
