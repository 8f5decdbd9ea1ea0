//! What the link hands on: one message, read but not yet judged by the database.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use tokio::sync::OwnedSemaphorePermit;

use super::acks::Receipt;
use super::payload::Content;
use super::rejection::Rejection;

/// What comes from the broker, in its order.
#[derive(Debug)]
pub enum BrokerEvent {
    /// The broker knows nothing of us any more: packet ids start anew.
    SessionLost(SessionLoss),
    /// A message.
    Message(Box<Delivery>),
}

/// A broker session that turned out to be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLoss {
    /// Counts them, from 1.
    pub number: u64,
    /// What the broker was given before this may be gone with it.
    pub before: DateTime<Utc>,
}

/// One message.
#[derive(Debug)]
pub struct Delivery {
    /// As it came; not UTF-8 by a broken broker only.
    pub topic: Bytes,
    /// As it came.
    pub payload: Bytes,
    /// What it says, or why it can't be used.
    pub content: Result<Content, Rejection>,
    /// Strictly increasing, so that it can tell two messages apart.
    pub received_at: DateTime<Utc>,
    /// The broker kept it from before we subscribed.
    pub retained: bool,
    /// Of the payload.
    pub payload_digest: i64,
    /// Its identity towards the broker; `None` for QoS 0.
    pub packet: Option<Packet>,
    /// How to acknowledge it; `None` for QoS 0.
    pub receipt: Option<Receipt>,
    /// Its share of the queue's bytes, given back when it is done.
    pub _space: OwnedSemaphorePermit,
}

/// A QoS 1 message's identity within the broker session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// The broker's packet id.
    pub id: u16,
    /// Whether the broker says that it may have sent it before.
    pub is_redelivery: bool,
    /// Of topic and payload: a packet id alone may be used anew for another message.
    pub message_digest: i64,
}

/// First 64 bits of SHA-256 over parts with their lengths.
pub fn digest(parts: &[&[u8]]) -> i64 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    let bytes: [u8; 32] = hash.finalize().into();
    i64::from_le_bytes(bytes[..8].try_into().expect("8 of 32 bytes"))
}
