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

impl RejectedMessage {
    /// What to change so that the server accepts such a message.
    pub fn detail(&self) -> &'static str {
        let kind = self.topic.rsplit('/').next().unwrap_or_default();
        match (self.reason.as_str(), kind) {
            ("BAD_SHAPE", "telemetry") => "telemetry: give `sensors`, an object; `metadata` is an object, too",
            ("BAD_SHAPE", "status") => "status: give `online`, which is true or false and no text",
            ("BAD_SHAPE", "ack") => {
                "ack: give commandId with the status ACKED, SUCCEEDED or FAILED, or configVersion with the status APPLIED \
                 or REJECTED"
            }
            ("BAD_SHAPE", _) => "send a JSON object",
            ("BAD_TOPIC", _) => "publish to {prefix}/{home}/{device}/ and one of telemetry, status, heartbeat, ack",
            ("UNKNOWN_HOME", _) => "use the key or the id of a home",
            ("UNKNOWN_DEVICE", _) => "register the device in this home, or use its key, its id or its MAC address",
            ("UNKNOWN_COMMAND", _) => "answer with the commandId or the version that the device received",
            ("TOO_LARGE", "ack") => "send up to 16 KiB on ack",
            ("TOO_LARGE", _) => "send up to 64 KiB in a message",
            ("NOT_UTF8", _) => "send text in UTF-8",
            ("BAD_JSON", _) => "send one complete JSON object: is the message cut off, or is the buffer too small?",
            ("DUPLICATE_KEY", _) => "name each key of an object once",
            ("RETAINED", _) => "publish without the retain flag, and clear what the broker retains",
            ("RATE_LIMITED", _) => "send less often, see DEVICE_RATE_LIMIT and DEVICE_BURST",
            ("DAILY_LIMIT", _) => "send less, see DEVICE_DAILY_MIB",
            ("NOT_STORABLE", _) => "the database refuses this message: see the log of the server",
            _ => "see docs/device-protocol.md",
        }
    }
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
