//! What `/readyz` checks.

use std::borrow::Cow;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::timeout;

use super::Base;
use crate::db;
use crate::http::health::{Check, OK, Readiness};

const DATABASE_TIMEOUT: Duration = Duration::from_secs(3);

impl Readiness for Base {
    fn check(&self) -> BoxFuture<'_, Vec<(&'static str, Check)>> {
        Box::pin(async {
            let (database, migrations) = match timeout(DATABASE_TIMEOUT, db::has_pending(&self.pool)).await {
                Ok(Ok(false)) => (OK, OK),
                Ok(Ok(true)) => (OK, unready("migrations are pending: run `smarthome migrate`")),
                Ok(Err(_)) | Err(_) => {
                    (unready("the database does not answer"), unready("unknown while the database is away"))
                }
            };
            let broker = match (self.metrics.mqtt_connected.get(), self.metrics.ingest_standby.get()) {
                (1, _) => OK,
                // Ready, or a rolling update would wait for ever: the server before it stops after it.
                (_, 1) => Ok(Cow::Borrowed("standby: another server ingests")),
                _ => unready("no connection to the MQTT broker"),
            };
            let revocations = match self.revocations.is_current() {
                true => OK,
                false => unready("revocations of other servers can't be read: no access token is accepted"),
            };
            vec![
                ("database", database),
                ("migrations", migrations),
                ("broker", broker),
                ("ingest", ingest(self.ingest_progress.check())),
                ("revocations", revocations),
            ]
        })
    }
}

fn ingest(check: Result<Option<String>, String>) -> Check {
    check.map(|remark| remark.map_or(Cow::Borrowed("ok"), Cow::from)).map_err(Cow::from)
}

fn unready(reason: &'static str) -> Check {
    Err(Cow::Borrowed(reason))
}
