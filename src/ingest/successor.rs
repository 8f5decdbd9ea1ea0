//! Whether a server on standby can take over: it reaches the broker. It holds an advisory lock while it does, so that the server
//! that ingests can ask.

use std::convert::Infallible;
use std::time::Duration;

use diesel::QueryResult;
use tokio::time::sleep;

use crate::db::{self, ReconnectingConnection, locks, with_timeout};
use crate::error::Chain;
use crate::mqtt;
use crate::settings::{DatabaseSettings, MqttSettings};
use crate::standby::Standby;

/// Pause after a probe of the broker that succeeded, and after one that failed.
const PROBE_INTERVAL: Duration = Duration::from_secs(30);
const PROBE_AGAIN: Duration = Duration::from_secs(5);
/// Longest wait for the database.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Connects to the broker now and then while this server is on standby, and holds the lock while that succeeds.
pub(super) async fn stand_by(database: &DatabaseSettings, mqtt: &MqttSettings, standby: &Standby) -> Infallible {
    let mut db = ReconnectingConnection::new(database.clone(), "standby", TIMEOUT);
    loop {
        standby.until_on_standby().await;
        let probe = mqtt::probe(mqtt).await;
        let is_new = standby.probed(probe.is_ok());
        match probe {
            Ok(()) => {
                let locked = hold(db.get().await, &mqtt.prefix);
                match with_timeout(TIMEOUT, locked).await {
                    Ok(_) => sleep(PROBE_INTERVAL).await,
                    Err(error) => db.on_error(&error).await,
                }
            }
            Err(error) => {
                db.close();
                if is_new {
                    tracing::warn!(
                        %error,
                        "this server is on standby and can't take over: no connection to the MQTT broker"
                    );
                }
                sleep(PROBE_AGAIN).await;
            }
        }
    }
}

/// Fails to lock only at the moment at which the server that ingests asks.
async fn hold(conn: &mut db::Connection, prefix: &str) -> QueryResult<bool> {
    locks::try_lock_prefix(conn, locks::INGEST_SUCCESSOR, prefix, true).await
}

/// What the server that ingests asks.
#[derive(Clone)]
pub struct Successor {
    database: DatabaseSettings,
    prefix: String,
}

impl Successor {
    pub(super) fn new(database: DatabaseSettings, prefix: String) -> Self {
        Self { database, prefix }
    }

    /// Whether a server on standby can take over. No, if the database does not answer.
    pub async fn exists(&self) -> bool {
        let mut db = ReconnectingConnection::new(self.database.clone(), "ingest", TIMEOUT);
        let locked = async { locks::is_prefix_locked(db.get().await, locks::INGEST_SUCCESSOR, &self.prefix).await };
        with_timeout(TIMEOUT, locked).await.unwrap_or_else(|error| {
            tracing::warn!(error = %Chain(&error), "can't ask whether another server can take over");
            false
        })
    }
}
