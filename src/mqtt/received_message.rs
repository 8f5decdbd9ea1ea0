//! What the link passes to ingest: messages that are parsed but not yet resolved to a device.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use tokio::sync::OwnedSemaphorePermit;

use super::acks::PendingPubAck;
use super::payload::Content;
use super::rejection::Rejection;
use super::topic::ReceivedTopic;
use crate::traces::TraceContext;

/// Events from the broker, in the order of arrival.
#[derive(Debug)]
pub enum BrokerEvent {
    /// The broker has lost the session: packet ids start again.
    SessionLost(SessionLoss),
    Message(Box<ReceivedMessage>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLoss {
    /// Counts the losses of this process, from 1.
    pub number: u64,
    /// Messages published before this time may have been lost with the session.
    pub before: DateTime<Utc>,
}

/// One received message.
#[derive(Debug)]
pub struct ReceivedMessage {
    pub topic: ReceivedTopic,
    pub payload: Bytes,
    /// The parsed payload, or why the message is rejected.
    pub content: Result<Content, Rejection>,
    /// Strictly increasing, so that it tells two messages apart.
    pub received_at: DateTime<Utc>,
    /// The broker retained the message from before the subscription.
    pub retained: bool,
    /// This or another server sent it to delete what a deleted device retained: it is acknowledged, and nothing else.
    pub is_clearing: bool,
    /// See [`digest`].
    pub payload_digest: i64,
    /// `None` for QoS 0.
    pub packet: Option<Packet>,
    /// `None` for QoS 0.
    pub pending_ack: Option<PendingPubAck>,
    /// Set if the message is sampled.
    pub trace: Option<TraceContext>,
    /// The message's share of the queue's bytes, released when the message is done.
    pub _queue_bytes: OwnedSemaphorePermit,
}

/// The identity of a QoS 1 message within the broker session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// MQTT packet identifier.
    pub id: u16,
    /// The DUP flag: the broker may have sent the message before.
    pub is_redelivery: bool,
    /// Digest of topic and payload: the broker may reuse a packet id for another message.
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
