//! The writer's own connection: kept while it works, made anew with back-off when it does not.

use std::time::Duration;

use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel_async::AsyncPgConnection;
use tokio::time::sleep;

use super::store;
use crate::db;
use crate::error::{Chain, Error};
use crate::settings::DatabaseSettings;

const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A statement of the writer that takes longer is given up and made again.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// One connection, or the intention to have one.
pub(super) struct Connection {
    settings: DatabaseSettings,
    client_id: String,
    open: Option<AsyncPgConnection>,
    backoff: Duration,
}

impl Connection {
    pub(super) fn new(settings: DatabaseSettings, client_id: &str) -> Self {
        Self { settings, client_id: client_id.to_owned(), open: None, backoff: BACKOFF_FIRST }
    }

    /// The connection; waits for the database as long as it takes, and for another server that stores
    /// for the same broker session to be gone: two would store what the broker sends again twice.
    pub(super) async fn get(&mut self) -> &mut AsyncPgConnection {
        while self.open.is_none() {
            match db::connect(self.settings.url.reveal(), Some(STATEMENT_TIMEOUT)).await {
                Ok(mut conn) => match store::lease(&mut conn, &self.client_id).await {
                    Ok(true) => self.open = Some(conn),
                    Ok(false) => {
                        let client_id = &self.client_id;
                        tracing::warn!(client_id, "another server has this MQTT_CLIENT_ID; waiting for its end");
                        self.pause().await;
                    }
                    Err(error) => self.failed(&error).await,
                },
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "ingest can't reach the database; messages wait in the broker");
                    self.pause().await;
                }
            }
        }
        self.open.as_mut().expect("just opened")
    }

    /// It worked: the next failure starts with the shortest pause again.
    pub(super) fn worked(&mut self) {
        self.backoff = BACKOFF_FIRST;
    }

    /// Drops the connection, and with it whatever transaction was open.
    pub(super) fn close(&mut self) {
        self.open = None;
    }

    /// It failed: the connection is dropped, and with it whatever transaction was open.
    pub(super) async fn failed(&mut self, error: &DieselError) {
        self.open = None;
        tracing::warn!(error = %Chain(error), "storing failed; trying again");
        self.pause().await;
    }

    async fn pause(&mut self) {
        sleep(self.backoff.mul_f64(0.5 + fastrand::f64())).await;
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
    }
}

/// The error for a database that did not answer in time.
pub(super) fn no_answer() -> DieselError {
    DieselError::DatabaseError(DatabaseErrorKind::ClosedConnection, Box::new("no answer in time".to_owned()))
}

/// Whether an error can be the fault of what was to be stored, rather than of the database.
pub(super) fn may_be_poison(error: &DieselError) -> bool {
    match error {
        DieselError::DatabaseError(DatabaseErrorKind::Unknown, info) => {
            // Partitions, serialisation and the like are not told apart by kind; known trouble is.
            let copy = DieselError::DatabaseError(DatabaseErrorKind::Unknown, Box::new(info.message().to_owned()));
            !matches!(Error::from(copy), Error::Unavailable(_))
        }
        DieselError::DatabaseError(kind, _) => !matches!(
            kind,
            DatabaseErrorKind::ClosedConnection
                | DatabaseErrorKind::UnableToSendCommand
                | DatabaseErrorKind::SerializationFailure
                | DatabaseErrorKind::ReadOnlyTransaction
        ),
        DieselError::SerializationError(_) => true,
        _ => false,
    }
}
