//! Messages that named a home and could not be used: written by ingest, read here by its admins.

use chrono::{DateTime, Utc};

use super::{Access, Homes, Permission, rejected_store};
use crate::error::Error;
use crate::ids::RejectedMessageId;

/// One rejected message.
#[derive(Debug, Clone, PartialEq)]
pub struct RejectedMessage {
    /// Its id; later ones are greater.
    pub id: RejectedMessageId,
    /// Where it was published.
    pub topic: String,
    /// Why it could not be used, a stable upper-case word.
    pub reason: String,
    /// Its first 512 bytes.
    pub payload_preview: String,
    /// When it came.
    pub received_at: DateTime<Utc>,
}

impl Homes {
    /// Up to `limit` rejected messages of the home, newest first, from after a cursor on. Needs
    /// [`Permission::Configure`].
    pub async fn rejected_messages(
        &self,
        access: Access,
        after: Option<RejectedMessageId>,
        limit: i64,
    ) -> Result<Vec<RejectedMessage>, Error> {
        let home = access.require(Permission::Configure)?.home();
        let mut conn = self.pool.get().await?;
        Ok(rejected_store::page(&mut conn, home, after, limit).await?)
    }
}
