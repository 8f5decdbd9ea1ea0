//! One connection of a long-lived task: kept while it works, made anew with back-off when it does not.

use std::time::Duration;

use diesel::result::Error as DieselError;
use diesel_async::AsyncPgConnection;
use tokio::time::sleep;

use super::connect;
use crate::error::Chain;
use crate::settings::DatabaseSettings;

const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// One connection, or the intention to have one.
pub struct Steady {
    settings: DatabaseSettings,
    /// Who uses it, for the log.
    name: &'static str,
    statement_timeout: Duration,
    open: Option<AsyncPgConnection>,
    backoff: Duration,
}

impl Steady {
    /// None yet. A statement that takes longer than `statement_timeout` is given up by the server.
    pub fn new(settings: DatabaseSettings, name: &'static str, statement_timeout: Duration) -> Self {
        Self { settings, name, statement_timeout, open: None, backoff: BACKOFF_FIRST }
    }

    /// Whether there is one at this moment.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The connection; waits for the database as long as it takes.
    pub async fn get(&mut self) -> &mut AsyncPgConnection {
        while self.open.is_none() {
            match connect(self.settings.url.reveal(), Some(self.statement_timeout)).await {
                Ok(conn) => self.open = Some(conn),
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "{} can't reach the database; trying again", self.name);
                    self.pause().await;
                }
            }
        }
        self.open.as_mut().expect("just opened")
    }

    /// It worked: the next failure starts with the shortest pause again.
    pub fn worked(&mut self) {
        self.backoff = BACKOFF_FIRST;
    }

    /// Drops the connection, and with it whatever transaction and lock was held.
    pub fn close(&mut self) {
        self.open = None;
    }

    /// It failed: the connection is dropped, and with it whatever transaction and lock was held.
    pub async fn failed(&mut self, error: &DieselError) {
        self.close();
        tracing::warn!(error = %Chain(error), "{} failed at the database; trying again", self.name);
        self.pause().await;
    }

    /// Waits a little, longer each time until something works.
    pub async fn pause(&mut self) {
        sleep(self.backoff.mul_f64(0.5 + fastrand::f64())).await;
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
    }
}
