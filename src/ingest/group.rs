//! The servers that share a subscription, and the end of this one's part in it.

use std::time::Duration;

use super::session_store;
use crate::db::{ReconnectingConnection, with_timeout};
use crate::error::Chain;
use crate::settings::DatabaseSettings;

/// Longest wait for the database's answer. The link ends meanwhile.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The part of a session in the group that receives the messages of a prefix.
#[derive(Clone)]
pub struct Group {
    database: DatabaseSettings,
    client_id: String,
    prefix: String,
}

impl Group {
    pub(super) fn new(database: DatabaseSettings, client_id: String, prefix: String) -> Self {
        Self { database, client_id, prefix }
    }

    /// Whether the session may end its shared subscription, because that of another running server remains. Otherwise nobody
    /// would receive the messages, and the broker would drop them: in a session they wait for the next start.
    pub async fn leave(&self) -> bool {
        let Self { database, client_id, prefix } = self;
        let mut db = ReconnectingConnection::new(database.clone(), "ingest", TIMEOUT);
        let left = async { session_store::leave_group(db.get().await, client_id, prefix).await };
        match with_timeout(TIMEOUT, left).await {
            Ok(true) => true,
            Ok(false) => {
                tracing::info!(
                    client_id,
                    "no other server receives the messages: they wait in this session at the broker"
                );
                false
            }
            Err(error) => {
                let error = Chain(&error);
                tracing::warn!(%error, client_id, "can't ask whether another server receives the messages: this session stays subscribed");
                false
            }
        }
    }
}
