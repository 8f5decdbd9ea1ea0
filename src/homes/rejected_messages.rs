//! Reading the rejected messages of a home, which ingest stores.

use chrono::{DateTime, Utc};

use super::{Access, Homes, Permission, rejected_messages_store};
use crate::error::Error;
use crate::ids::RejectedMessageId;

/// One rejected message.
#[derive(Debug, Clone, PartialEq)]
pub struct RejectedMessage {
    /// Increases with time.
    pub id: RejectedMessageId,
    pub topic: String,
    /// A stable upper-case code, see `mqtt::Rejection`.
    pub reason: String,
    /// The first 512 bytes.
    pub payload_preview: String,
    pub received_at: DateTime<Utc>,
}

impl Homes {
    /// Up to `limit` rejected messages after the cursor, newest first. Needs
    /// [`Permission::Configure`].
    pub async fn rejected_messages(
        &self,
        access: Access,
        after: Option<RejectedMessageId>,
        limit: i64,
    ) -> Result<Vec<RejectedMessage>, Error> {
        let home = access.require(Permission::Configure)?.home();
        let mut conn = self.pool.get().await?;
        Ok(rejected_messages_store::page(&mut conn, home, after, limit).await?)
    }
}
