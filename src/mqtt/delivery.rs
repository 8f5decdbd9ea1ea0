//! What the link hands on: one message, read but not yet judged by the database.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use tokio::sync::OwnedSemaphorePermit;

use super::acks::Receipt;
use super::payload::Content;
use super::rejection::Rejection;
use super::topic::ReceivedTopic;

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
    pub topic: ReceivedTopic,
    /// The whole payload of a usable message, a preview of any other.
    pub payload: Bytes,
    /// The parsed payload, or why the message is rejected.
    pub content: Result<Content, Rejection>,
    /// Strictly increasing, so that it tells two messages apart.
    pub received_at: DateTime<Utc>,
    /// The broker stored the message before we subscribed and sends it now.
    pub retained: bool,
    pub payload_digest: i64,
    /// `None` for QoS 0.
    pub packet: Option<Packet>,
    /// Acknowledges the message; `None` for QoS 0.
    pub receipt: Option<Receipt>,
    /// The message's share of the queue's bytes, released when the message is done.
    pub _queue_bytes: OwnedSemaphorePermit,
}

/// A QoS 1 message's identity within the broker session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    pub id: u16,
    /// The DUP flag: the broker may have sent the message before.
    pub is_redelivery: bool,
    /// Over topic and payload, because a packet id may be used again for another message.
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
