//! A message without its content: what identifies, acknowledges and bounds it.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::sync::OwnedSemaphorePermit;

use crate::mqtt::payload::{self, Content};
use crate::mqtt::topic::ReceivedTopic;
use crate::mqtt::{Packet, PendingPubAck, ReceivedMessage, Rejection};
use crate::traces::TraceContext;

/// See [`ReceivedMessage`], whose fields these are.
pub(super) struct Envelope {
    pub(super) topic: ReceivedTopic,
    pub(super) payload: Bytes,
    pub(super) received_at: DateTime<Utc>,
    pub(super) retained: bool,
    pub(super) is_clearing: bool,
    pub(super) payload_digest: i64,
    /// Recorded with the batch; `None` too where it is recorded already, or the broker session is lost.
    pub(super) packet: Option<Packet>,
    pub(super) pending_ack: Option<PendingPubAck>,
    pub(super) trace: Option<TraceContext>,
    /// `None` for a copy that only serves a probe.
    _queue_bytes: Option<OwnedSemaphorePermit>,
}

impl Envelope {
    /// Takes the content out of a message.
    pub(super) fn split(message: ReceivedMessage) -> (Self, Result<Content, Rejection>) {
        let ReceivedMessage {
            topic,
            payload,
            content,
            received_at,
            retained,
            is_clearing,
            payload_digest,
            packet,
            pending_ack,
            trace,
            _queue_bytes,
        } = message;
        let envelope = Self {
            topic,
            payload,
            received_at,
            retained,
            is_clearing,
            payload_digest,
            packet,
            pending_ack,
            trace,
            _queue_bytes: Some(_queue_bytes),
        };
        (envelope, content)
    }

    /// The message again as it was received, to be classified once more. Its acknowledgement has been collected.
    pub(super) fn into_message(self) -> Option<ReceivedMessage> {
        let Self { topic, payload, received_at, retained, is_clearing, payload_digest, packet, trace, .. } = self;
        Some(ReceivedMessage {
            content: payload::parse(topic.kind()?, &payload, received_at),
            topic,
            payload,
            received_at,
            retained,
            is_clearing,
            payload_digest,
            // It does not repeat itself: its packet is not recorded yet.
            packet: packet.map(|packet| Packet { is_redelivery: false, ..packet }),
            pending_ack: None,
            trace,
            _queue_bytes: self._queue_bytes?,
        })
    }

    /// A copy that is never acknowledged and holds no bytes of the queue.
    pub(super) fn copy_for_probe(&self) -> Self {
        Self {
            topic: self.topic.clone(),
            payload: self.payload.clone(),
            pending_ack: None,
            _queue_bytes: None,
            ..*self
        }
    }

    /// The home and the device as the topic spells them.
    pub(super) fn segments(&self) -> Option<(Box<str>, Box<str>)> {
        self.topic.segments().map(|(home, device)| (home.into(), device.into()))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A message of QoS 0 at the epoch.
    pub(in crate::ingest) fn envelope(topic: &str, payload: &'static [u8]) -> Envelope {
        Envelope {
            topic: ReceivedTopic::read("p", Bytes::copy_from_slice(topic.as_bytes())),
            payload: Bytes::from_static(payload),
            received_at: DateTime::UNIX_EPOCH,
            retained: false,
            is_clearing: false,
            payload_digest: 1,
            packet: None,
            pending_ack: None,
            trace: None,
            _queue_bytes: None,
        }
    }
}
