//! Receives PUBLISH packets and sends PUBACK packets on the MQTT client's connection, without the client.
//!
//! The client would copy each message and each acknowledgement some twenty times between its states: a quarter of the server's
//! work for a message. So PUBLISH packets are taken out of the stream before the client reads it, and PUBACK
//! packets are written beside its own. The client does everything else: it connects, subscribes, pings and publishes. What is
//! malformed or against the protocol is left to it too, so that it ends the connection with the right reason.

mod connect;
mod publish_packet;
mod stream;
mod tcp;
#[cfg(test)]
mod tests;

use std::mem;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;
use std::time::Instant;

use bytes::BytesMut;
use futures_util::future::poll_fn;
use futures_util::task::AtomicWaker;
use rumqttc::{ConnectionError, Event, EventLoop};

use crate::metrics::Metrics;
use crate::traces::{Span, TraceContext, Traces};
pub(super) use connect::Connector;
pub(super) use publish_packet::PublishPacket;
use stream::BypassStream;

/// First bytes of a PUBACK of a message that was accepted (MQTT 5, 3.4): its type, and the number of bytes that follow.
const PUBACK: [u8; 2] = [0x40, 2];

/// One connection's bypass, shared by its stream, the link and the writer of ingest. Cheap to clone.
#[derive(Clone)]
pub(super) struct Bypass(Arc<Shared>);

struct Shared {
    received: Mutex<Vec<PublishPacket>>,
    outgoing: Mutex<Outgoing>,
    /// Wakes the task that reads the connection, which also writes to it.
    reader: AtomicWaker,
    is_paused: AtomicBool,
    /// The client waits until its packets are written. Its poll must not be dropped then: it would forget what it has begun.
    is_writing: AtomicBool,
    metrics: Metrics,
    traces: Traces,
}

/// Whole packets that wait to be written.
#[derive(Default)]
struct Outgoing {
    bytes: BytesMut,
    /// Those whose acknowledgements are among the packets.
    batches: Vec<AcknowledgedBatch>,
}

/// A batch whose messages are acknowledged.
pub(super) struct AcknowledgedBatch {
    pub(super) committed_at: Instant,
    /// The messages in it that have a trace.
    pub(super) traced: Vec<TraceContext>,
}

/// What the broker has sent.
pub(super) struct Arrived {
    /// Messages with QoS 0 or 1, in the order of arrival.
    pub(super) packets: Vec<PublishPacket>,
    /// An event of the client. All messages from before it are in `packets`, perhaps some from after it.
    pub(super) event: Option<Result<Event, ConnectionError>>,
}

impl Arrived {
    /// Whether the connection has ended.
    pub(super) fn is_lost(&self) -> bool {
        self.event.as_ref().is_some_and(Result::is_err)
    }
}

impl Bypass {
    pub(super) fn new(metrics: Metrics, traces: Traces) -> Self {
        Self(Arc::new(Shared {
            received: Mutex::default(),
            outgoing: Mutex::default(),
            reader: AtomicWaker::new(),
            is_paused: AtomicBool::new(false),
            is_writing: AtomicBool::new(false),
            metrics,
            traces,
        }))
    }

    /// Waits for messages or for an event of the client. Cancel safe for messages: each is returned or kept.
    pub(super) async fn receive(&self, events: &mut EventLoop) -> Arrived {
        let mut poll = pin!(events.poll());
        poll_fn(|cx| {
            let event = match poll.as_mut().poll(cx) {
                Poll::Ready(event) => Some(event),
                Poll::Pending if self.0.is_writing.load(Ordering::Relaxed) => return Poll::Pending,
                Poll::Pending => None,
            };
            let packets = {
                let mut received = self.received();
                let space = if received.is_empty() { Vec::new() } else { Vec::with_capacity(stream::READ_BATCH) };
                mem::replace(&mut *received, space)
            };
            if packets.is_empty() && event.is_none() { Poll::Pending } else { Poll::Ready(Arrived { packets, event }) }
        })
        .await
    }

    /// Acknowledges the messages of a batch.
    pub(super) fn acknowledge(&self, packet_ids: impl IntoIterator<Item = u16>, batch: AcknowledgedBatch) {
        {
            let mut outgoing = self.outgoing();
            let before = outgoing.bytes.len();
            for packet_id in packet_ids {
                let [high, low] = packet_id.to_be_bytes();
                outgoing.bytes.extend_from_slice(&[PUBACK[0], PUBACK[1], high, low]);
            }
            if outgoing.bytes.len() == before {
                return;
            }
            outgoing.batches.push(batch);
        }
        self.0.reader.wake();
    }

    /// Reads nothing more until acknowledgements were written, or [`stream::LONGEST_PAUSE`] has passed.
    pub(super) fn pause_reading(&self) {
        self.0.is_paused.store(true, Ordering::Relaxed);
    }

    fn received(&self) -> MutexGuard<'_, Vec<PublishPacket>> {
        self.0.received.lock().expect("received packets lock")
    }

    fn outgoing(&self) -> MutexGuard<'_, Outgoing> {
        self.0.outgoing.lock().expect("outgoing packets lock")
    }

    fn on_written(&self, outgoing: &mut Outgoing) {
        let Shared { metrics, traces, .. } = &*self.0;
        for batch in outgoing.batches.drain(..) {
            metrics.ingest_acknowledgement.observe(batch.committed_at.elapsed());
            for message in batch.traced {
                let (began, ended) = (traces.time_of(batch.committed_at), traces.time_of(Instant::now()));
                traces.record_child(message, Span::new("acknowledge", began, ended));
            }
        }
    }
}
