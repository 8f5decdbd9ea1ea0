//! The receiving side: parses messages and queues them for ingest, bounded in number and in bytes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};

use super::send_half::SendHalf;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::mqtt::bypass::PublishPacket;
use crate::mqtt::options::KEEP_ALIVE_S;
use crate::mqtt::payload::{self, Content, MAX_PAYLOAD_BYTES};
use crate::mqtt::received_message::{BrokerEvent, Packet, ReceivedMessage, digest};
use crate::mqtt::rejection::{REJECTED_PREVIEW_BYTES, Rejection};
use crate::mqtt::topic::ReceivedTopic;
use crate::traces::Traces;

/// Messages that wait for the writer.
const QUEUE_MESSAGES: usize = 8_192;
/// Messages that are worth a commit of their own.
const BATCH: usize = 32;
/// Memory of the messages that wait for the writer.
const QUEUE_BYTES: usize = 16 << 20;
/// Memory charged for the smallest message: its structs and allocations.
const MIN_MESSAGE_BYTES: usize = 256;
/// Longest wait for space in the queue, for all messages that were read together. The connection is not polled meanwhile, and the broker expects a ping within
/// the keep-alive. After that the link disconnects; the broker keeps the session and its messages.
const MAX_STALL: Duration = Duration::from_secs(KEEP_ALIVE_S as u64 / 2);
/// Longest pause of a publish that has an expiry. Its message expiry interval leaves a second of reserve.
const MAX_PUBLISH_DELAY: Duration = Duration::from_millis(500);
/// A clock that jumps back further than this is followed; smaller steps are smoothed.
const MAX_SMOOTHED_STEP: TimeDelta = TimeDelta::seconds(1);

/// The queue had no space in time.
pub(super) struct Stalled;

/// When messages that were read together arrived.
#[derive(Clone, Copy)]
pub(super) struct Arrival {
    at: DateTime<Utc>,
    /// The connection was last polled then.
    polled_at: Instant,
}

pub(super) struct Intake {
    prefix: String,
    clock: Clock,
    metrics: Metrics,
    traces: Traces,
    queue: mpsc::Sender<BrokerEvent>,
    bytes: Arc<Semaphore>,
    last_received: DateTime<Utc>,
}

impl Intake {
    pub(super) fn new(
        prefix: String,
        clock: Clock,
        metrics: Metrics,
        traces: Traces,
    ) -> (Self, mpsc::Receiver<BrokerEvent>) {
        let (queue, received) = mpsc::channel(QUEUE_MESSAGES);
        let bytes = Arc::new(Semaphore::new(QUEUE_BYTES));
        (Self { prefix, clock, metrics, traces, queue, bytes, last_received: DateTime::UNIX_EPOCH }, received)
    }

    /// The arrival of messages that were read now.
    pub(super) fn arrival(&self) -> Arrival {
        Arrival { at: self.clock.now(), polled_at: Instant::now() }
    }

    /// Parses a message and queues it; waits for space, and pauses publishing meanwhile. Cancel safe: a message that
    /// is not queued is not acknowledged, so the broker sends it again.
    pub(super) async fn accept(
        &mut self,
        publish: PublishPacket,
        send_half: &SendHalf,
        Arrival { at, polled_at }: Arrival,
    ) -> Result<(), Stalled> {
        let received_at = self.next_received_at(at);
        let (topic, content) = self.parse(&publish, received_at);
        let queue_bytes = self.reserve_bytes(memory_bytes(&publish, &content), send_half, polled_at).await?;
        let slot = self.reserve_slot(send_half, polled_at).await?;
        if !publish.is_clearing {
            self.metrics.mqtt_received.inc();
        }
        let pending_ack = send_half.pending_ack(&publish);
        let payload_digest = digest(&[&publish.payload]);
        let packet = packet(&publish, payload_digest);
        // A rejected message is kept as a preview. A slice would keep all bytes of the packet.
        let (topic, payload) = match &content {
            Ok(_) => (topic, publish.payload),
            Err(_) => {
                let preview = &publish.payload[..publish.payload.len().min(REJECTED_PREVIEW_BYTES)];
                (topic.detach(), Bytes::copy_from_slice(preview))
            }
        };
        slot.send(BrokerEvent::Message(Box::new(ReceivedMessage {
            topic,
            payload,
            content,
            received_at,
            retained: publish.retained,
            is_clearing: publish.is_clearing,
            payload_digest,
            packet,
            pending_ack,
            trace: self.traces.begin_message(),
            _queue_bytes: queue_bytes,
        })));
        Ok(())
    }

    /// Queues an event that is no message.
    pub(super) async fn send(&self, event: BrokerEvent) {
        // Fails only at shutdown, when the writer has ended.
        let _ = self.queue.send(event).await;
    }

    /// Whether the writer has a batch to take when it is done with the present one.
    pub(super) fn has_batch(&self) -> bool {
        QUEUE_MESSAGES - self.queue.capacity() >= BATCH
    }

    /// Whether every message that was queued is stored.
    pub(super) fn is_idle(&self) -> bool {
        self.bytes.available_permits() == QUEUE_BYTES
    }

    /// Waits until every message that was queued is stored. Cancel safe.
    pub(super) async fn idle(&self) {
        let all = u32::try_from(QUEUE_BYTES).expect("a small number");
        let _ = self.bytes.acquire_many(all).await;
    }

    /// Waits until half of the queue is free.
    pub(super) async fn half_empty(&self) {
        let _ = self.queue.reserve_many(QUEUE_MESSAGES / 2).await;
    }

    /// The time of arrival `now`, later than that of every message before.
    fn next_received_at(&mut self, now: DateTime<Utc>) -> DateTime<Utc> {
        let next = self.last_received + TimeDelta::microseconds(1);
        self.last_received = if next - now > MAX_SMOOTHED_STEP { now } else { now.max(next) };
        self.last_received
    }

    fn parse(
        &self,
        publish: &PublishPacket,
        received_at: DateTime<Utc>,
    ) -> (ReceivedTopic, Result<Content, Rejection>) {
        let topic = ReceivedTopic::read(&self.prefix, publish.topic.clone());
        let kind = topic.kind().ok_or(Rejection::BadTopic);
        (topic, kind.and_then(|kind| payload::parse(kind, &publish.payload, received_at)))
    }

    async fn reserve_bytes(
        &self,
        n: usize,
        send_half: &SendHalf,
        polled_at: Instant,
    ) -> Result<OwnedSemaphorePermit, Stalled> {
        let n = u32::try_from(n).expect("bounded by the packet size");
        match self.bytes.clone().try_acquire_many_owned(n) {
            Ok(permit) => Ok(permit),
            Err(_) => {
                let permit = self.wait(self.bytes.clone().acquire_many_owned(n), send_half, polled_at).await?;
                Ok(permit.expect("the semaphore is never closed"))
            }
        }
    }

    async fn reserve_slot(
        &self,
        send_half: &SendHalf,
        polled_at: Instant,
    ) -> Result<mpsc::Permit<'_, BrokerEvent>, Stalled> {
        match self.queue.try_reserve() {
            Ok(slot) => Ok(slot),
            // An error means that the writer has ended: the process is stopping.
            Err(_) => self.wait(self.queue.reserve(), send_half, polled_at).await?.map_err(|_| Stalled),
        }
    }

    /// Waits for space with publishing paused, because the connection is not polled meanwhile.
    async fn wait<T>(
        &self,
        space: impl Future<Output = T>,
        send_half: &SendHalf,
        polled_at: Instant,
    ) -> Result<T, Stalled> {
        self.metrics.ingest_queue_full.inc();
        send_half.pause_publishing();
        let space = timeout_at(polled_at + MAX_STALL, space).await.map_err(|_| Stalled)?;
        if polled_at.elapsed() > MAX_PUBLISH_DELAY && send_half.has_expiring_message() {
            return Err(Stalled);
        }
        send_half.resume_publishing();
        Ok(space)
    }
}

/// Memory that a message takes, which may be many times its bytes on the wire: parsed JSON allocates.
fn memory_bytes(publish: &PublishPacket, content: &Result<Content, Rejection>) -> usize {
    let received = publish.payload.len() + publish.topic.len();
    received.clamp(MIN_MESSAGE_BYTES, 2 * MAX_PAYLOAD_BYTES) + content.as_ref().map_or(0, Content::memory_bytes)
}

/// The message's identity in the broker session; `None` for QoS 0.
fn packet(publish: &PublishPacket, payload_digest: i64) -> Option<Packet> {
    publish.packet_id.map(|id| Packet {
        id,
        is_redelivery: publish.is_redelivery,
        message_digest: digest(&[&publish.topic, &payload_digest.to_le_bytes()]),
    })
}
