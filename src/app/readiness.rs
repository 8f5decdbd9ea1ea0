//! What `/readyz` checks.

use std::borrow::Cow;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::timeout;

use super::Base;
use crate::db;
use crate::http::health::{Check, OK, Readiness};
use crate::standby::{Reason, Standby};

const DATABASE_TIMEOUT: Duration = Duration::from_secs(3);

/// What the checks ask.
pub(super) struct Dependencies {
    pub(super) base: Base,
    pub(super) standby: Standby,
}

impl Readiness for Dependencies {
    fn check(&self) -> BoxFuture<'_, Vec<(&'static str, Check)>> {
        Box::pin(async {
            let Self { base, standby } = self;
            let (database, migrations) = match timeout(DATABASE_TIMEOUT, db::has_pending(&base.pool)).await {
                Ok(Ok(false)) => (OK, OK),
                Ok(Ok(true)) => (OK, unready("migrations are pending: run `smarthome migrate`")),
                Ok(Err(_)) | Err(_) => {
                    (unready("the database does not answer"), unready("unknown while the database is away"))
                }
            };
            let broker = match base.metrics.mqtt_connected.get() {
                1 => OK,
                _ => without_link(standby.reason()),
            };
            let revocations = match base.revocations.is_current() {
                true => OK,
                false => unready("revocations of other servers can't be read: no access token is accepted"),
            };
            vec![
                ("database", database),
                ("migrations", migrations),
                ("broker", broker),
                ("ingest", ingest(base.ingest_progress.check())),
                ("revocations", revocations),
            ]
        })
    }
}

fn without_link(reason: Option<Reason>) -> Check {
    match reason {
        None => unready("no connection to the MQTT broker"),
        // Ready, or a rolling update would wait for ever: the server before it stops after it.
        Some(Reason::Ready) => Ok(Cow::Borrowed("standby: another server ingests")),
        Some(Reason::NotProbed) => unready("standby, but it has not connected to the MQTT broker yet"),
        Some(Reason::NoBroker) => unready("standby, but it can't connect to the MQTT broker; the log has the error"),
        Some(Reason::Asking) => unready("about to ask whether another server ingests"),
        Some(Reason::SameClientId) => {
            unready("another server uses the client id of this one's session; waiting until it stops")
        }
    }
}

fn ingest(check: Result<Option<String>, String>) -> Check {
    check.map(|remark| remark.map_or(Cow::Borrowed("ok"), Cow::from)).map_err(Cow::from)
}

fn unready(reason: &'static str) -> Check {
    Err(Cow::Borrowed(reason))
}
