//! The writer's own connection: at most one server stores for a broker session at a time.

use std::time::Duration;

use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel_async::AsyncPgConnection;

use super::store;
use crate::db::ReconnectingConnection;
use crate::error::Error;
use crate::settings::DatabaseSettings;

/// A statement of the writer that takes longer is given up and made again.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection that holds the lease of the client id.
pub(super) struct Connection {
    db: ReconnectingConnection,
    client_id: String,
    is_leased: bool,
}

impl Connection {
    pub(super) fn new(settings: DatabaseSettings, client_id: &str) -> Self {
        let db = ReconnectingConnection::new(settings, "ingest", STATEMENT_TIMEOUT);
        Self { db, client_id: client_id.to_owned(), is_leased: false }
    }

    /// The connection; waits for the database as long as it takes, and for another server that stores
    /// for the same broker session to be gone: two would store what the broker sends again twice.
    pub(super) async fn get(&mut self) -> &mut AsyncPgConnection {
        while !(self.is_leased && self.db.is_open()) {
            match store::lease(self.db.get().await, &self.client_id).await {
                Ok(leased) => {
                    self.is_leased = leased;
                    if !leased {
                        let client_id = &self.client_id;
                        tracing::warn!(client_id, "another server has this MQTT_CLIENT_ID; waiting for its end");
                        self.db.close();
                        self.db.wait_backoff().await;
                    }
                }
                Err(error) => self.on_error(&error).await,
            }
        }
        self.db.get().await
    }

    /// It worked: the next failure starts with the shortest pause again.
    pub(super) fn reset_backoff(&mut self) {
        self.db.reset_backoff();
    }

    /// Drops the connection, and with it whatever transaction was open.
    pub(super) fn close(&mut self) {
        self.is_leased = false;
        self.db.close();
    }

    /// It failed: the connection is dropped, and with it whatever transaction was open.
    pub(super) async fn on_error(&mut self, error: &DieselError) {
        self.is_leased = false;
        self.db.on_error(error).await;
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
