//! The writer's connection. It holds an advisory lock, so that one server at a time stores for a broker session.

use std::time::Duration;

use diesel::result::Error as DieselError;

use super::progress::Progress;
use crate::db::{self, ReconnectingConnection, locks};
use crate::settings::DatabaseSettings;

/// A statement of the writer that takes longer is cancelled, and its batch is tried again.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection that holds the lock of the client id.
pub(super) struct WriterConnection {
    db: ReconnectingConnection,
    client_id: String,
    is_locked: bool,
    progress: Progress,
}

impl WriterConnection {
    pub(super) fn new(settings: DatabaseSettings, client_id: &str, progress: Progress) -> Self {
        let db = ReconnectingConnection::new(settings, "ingest", STATEMENT_TIMEOUT);
        Self { db, client_id: client_id.to_owned(), is_locked: false, progress }
    }

    /// The connection. Waits for the database as long as it takes, and until no other server stores for the same
    /// broker session: two servers would store the broker's redeliveries twice.
    pub(super) async fn get(&mut self) -> &mut db::Connection {
        while !(self.is_locked && self.db.is_open()) {
            match locks::try_lock(self.db.get().await, locks::WRITER, Some(&self.client_id)).await {
                Ok(is_locked) => {
                    self.is_locked = is_locked;
                    if !is_locked {
                        let client_id = &self.client_id;
                        tracing::warn!(client_id, "another server uses this MQTT_CLIENT_ID; waiting until it stops");
                        self.progress.other_server();
                        self.db.close();
                        self.db.wait_backoff().await;
                    }
                }
                Err(error) => self.on_error(&error).await,
            }
        }
        self.db.get().await
    }

    /// Call after a success: the next failure starts with the shortest pause again.
    pub(super) fn reset_backoff(&mut self) {
        self.db.reset_backoff();
    }

    /// Drops the connection, and with it an open transaction.
    pub(super) fn close(&mut self) {
        self.is_locked = false;
        self.db.close();
    }

    /// Drops the connection, and with it an open transaction, and waits before the next attempt.
    pub(super) async fn on_error(&mut self, error: &DieselError) {
        self.is_locked = false;
        self.progress.failed(error);
        self.db.on_error(error).await;
    }
}
