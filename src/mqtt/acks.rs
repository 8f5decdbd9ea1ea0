//! Acknowledgements of received messages. Sending one never waits: the link may be waiting for the writer, which
//! acknowledges.
//!
//! An acknowledgement belongs to the connection of its message. A late one is dropped, and the broker sends the message
//! again: on another connection the packet id may stand for another message.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rumqttc::{AsyncClient, ManualAck};

use crate::traces::TraceContext;

/// The number of a connection of this process.
pub(super) type ConnectionNumber = u64;

/// Sends acknowledgements. Cheap to clone.
#[derive(Clone)]
pub struct PubAcks {
    current: Arc<Mutex<Current>>,
    /// The packet id of the first of [`Current::batches`], so that most acknowledgements need no lock; 0 for none.
    next_last_packet: Arc<AtomicU16>,
}

struct Current {
    connection_number: ConnectionNumber,
    client: AsyncClient,
    /// Those that wait in the client.
    batches: VecDeque<AckedBatch>,
}

/// A batch whose messages are acknowledged.
pub(super) struct AckedBatch {
    last_packet: u16,
    pub(super) committed_at: Instant,
    /// The messages in it that have a trace.
    pub(super) traced: Vec<TraceContext>,
}

/// Acknowledges one message, see [`PubAcks::send`].
#[derive(Debug)]
pub struct PendingPubAck {
    connection_number: ConnectionNumber,
    packet_id: u16,
    ack: ManualAck,
}

impl PubAcks {
    pub(super) fn new(client: AsyncClient) -> Self {
        let current = Current { connection_number: 0, client, batches: VecDeque::new() };
        Self { current: Arc::new(Mutex::new(current)), next_last_packet: Arc::default() }
    }

    /// Acknowledges the messages of the present connection in the given order and drops the others. They were committed at
    /// `committed_at`; `traced` are those that have a trace.
    pub fn send(
        &self,
        pending_acks: impl IntoIterator<Item = PendingPubAck>,
        committed_at: Instant,
        traced: Vec<TraceContext>,
    ) {
        // The lock is held throughout, so that `next_connection` cannot change the client in between.
        let mut current = self.current.lock().expect("acks lock");
        let mut last_packet = None;
        for pending_ack in pending_acks {
            if pending_ack.connection_number == current.connection_number {
                last_packet = Some(pending_ack.packet_id);
                // The client's queue has space for each of the protocol's 65,535 packet ids.
                if let Err(error) = current.client.try_manual_ack(pending_ack.ack) {
                    tracing::error!(%error, "an acknowledgement could not be queued; the broker will send the message again");
                }
            }
        }
        if let Some(packet_id) = last_packet {
            current.batches.push_back(AckedBatch { last_packet: packet_id, committed_at, traced });
            self.await_first(&current);
        }
    }

    /// The client has written this acknowledgement. If it is the last one of a batch: the batch.
    pub(super) fn written(&self, packet_id: u16) -> Option<AckedBatch> {
        if self.next_last_packet.load(Ordering::Relaxed) != packet_id {
            return None;
        }
        let mut current = self.current.lock().expect("acks lock");
        let batch = current.batches.pop_front()?;
        self.await_first(&current);
        Some(batch)
    }

    fn await_first(&self, current: &Current) {
        let packet_id = current.batches.front().map_or(0, |batch| batch.last_packet);
        self.next_last_packet.store(packet_id, Ordering::Relaxed);
    }

    /// What acknowledges a message; `None` for QoS 0.
    pub(super) fn prepare(
        client: &AsyncClient,
        connection_number: ConnectionNumber,
        publish: &rumqttc::Publish,
    ) -> Option<PendingPubAck> {
        client.prepare_ack(publish).map(|ack| PendingPubAck { connection_number, packet_id: publish.pkid, ack })
    }

    /// A new connection has a client of its own. From now on acknowledgements of the old connection are dropped.
    pub(super) fn next_connection(&self, client: AsyncClient) -> ConnectionNumber {
        let mut current = self.current.lock().expect("acks lock");
        current.connection_number += 1;
        current.client = client;
        current.batches.clear();
        self.await_first(&current);
        current.connection_number
    }
}
