//! What `/readyz` checks.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::timeout;

use super::Base;
use crate::db;
use crate::http::health::{Check, Readiness};

const DATABASE_TIMEOUT: Duration = Duration::from_secs(3);

impl Readiness for Base {
    fn check(&self) -> BoxFuture<'_, Vec<(&'static str, Check)>> {
        Box::pin(async {
            let (database, migrations) = match timeout(DATABASE_TIMEOUT, db::has_pending(&self.pool)).await {
                Ok(Ok(false)) => (Ok(()), Ok(())),
                Ok(Ok(true)) => (Ok(()), Err("migrations are pending: run `smarthome migrate`")),
                Ok(Err(_)) | Err(_) => (Err("the database does not answer"), Err("unknown while the database is away")),
            };
            let broker =
                if self.metrics.mqtt_connected.get() == 1 { Ok(()) } else { Err("no connection to the MQTT broker") };
            let revocations = match self.revocations.is_current() {
                true => Ok(()),
                false => Err("revocations of other servers can't be read: no access token is accepted"),
            };
            vec![("database", database), ("migrations", migrations), ("broker", broker), ("revocations", revocations)]
        })
    }
}
