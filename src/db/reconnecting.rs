//! The one connection of a long-lived task: kept while it works, replaced after a failure with back-off.

use std::time::Duration;

use diesel::result::Error as DieselError;

use super::{Connection, connect};
use crate::backoff::Backoff;
use crate::error::Chain;
use crate::settings::DatabaseSettings;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// A connection that is opened when it is needed and again after each failure.
pub struct ReconnectingConnection {
    settings: DatabaseSettings,
    /// The task that uses it, for the log.
    name: &'static str,
    statement_timeout: Duration,
    open: Option<Connection>,
    backoff: Backoff,
}

impl ReconnectingConnection {
    /// Opens nothing yet. The database cancels statements that take longer than `statement_timeout`.
    pub fn new(settings: DatabaseSettings, name: &'static str, statement_timeout: Duration) -> Self {
        Self { settings, name, statement_timeout, open: None, backoff: Backoff::new(FIRST_PAUSE, MAX_PAUSE) }
    }

    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The connection. Waits for the database as long as it takes.
    pub async fn get(&mut self) -> &mut Connection {
        while self.open.is_none() {
            match connect(self.settings.url.reveal(), Some(self.statement_timeout)).await {
                Ok(conn) => self.open = Some(conn),
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "{} can't reach the database; trying again", self.name);
                    self.wait_backoff().await;
                }
            }
        }
        self.open.as_mut().expect("just opened")
    }

    /// Call after a success: the next failure starts with the shortest pause.
    pub fn reset_backoff(&mut self) {
        self.backoff.reset();
    }

    /// Drops the connection; the database then rolls back its transaction and releases its locks.
    pub fn close(&mut self) {
        self.open = None;
    }

    /// Closes the connection after a failure and waits for the next pause.
    pub async fn on_error(&mut self, error: &DieselError) {
        self.close();
        tracing::warn!(error = %Chain(error), "{} failed at the database; trying again", self.name);
        self.wait_backoff().await;
    }

    /// Waits for the next pause. Pauses grow until [`ReconnectingConnection::reset_backoff`].
    pub async fn wait_backoff(&mut self) {
        self.backoff.wait().await;
    }
}
