//! Acknowledgements of received messages. Sending one never waits: the link may be waiting for the writer, which
//! acknowledges.
//!
//! An acknowledgement belongs to the connection of its message. A late one is dropped, and the broker sends the message
//! again: on another connection the packet id may stand for another message.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::bypass::{AcknowledgedBatch, Bypass};
use crate::traces::TraceContext;

/// The number of a connection of this process.
pub(super) type ConnectionNumber = u64;

/// Sends acknowledgements. Cheap to clone.
#[derive(Clone)]
pub struct PubAcks {
    current: Arc<Mutex<Current>>,
}

struct Current {
    connection_number: ConnectionNumber,
    bypass: Bypass,
}

/// Acknowledges one message, see [`PubAcks::send`].
#[derive(Debug)]
pub struct PendingPubAck {
    pub(super) connection_number: ConnectionNumber,
    pub(super) packet_id: u16,
}

impl PubAcks {
    pub(super) fn new(bypass: Bypass) -> Self {
        Self { current: Arc::new(Mutex::new(Current { connection_number: 0, bypass })) }
    }

    /// Acknowledges the messages of the present connection in the given order and drops the others. They were committed at
    /// `committed_at`; `traced` are those that have a trace.
    pub fn send(
        &self,
        pending_acks: impl IntoIterator<Item = PendingPubAck>,
        committed_at: Instant,
        traced: Vec<TraceContext>,
    ) {
        // The lock is held throughout, so that `next_connection` cannot change the connection in between.
        let current = self.current.lock().expect("acks lock");
        let is_current = |ack: &PendingPubAck| ack.connection_number == current.connection_number;
        let packet_ids = pending_acks.into_iter().filter(is_current).map(|ack| ack.packet_id);
        current.bypass.acknowledge(packet_ids, AcknowledgedBatch { committed_at, traced });
    }

    /// From now on acknowledgements of the old connection are dropped.
    pub(super) fn next_connection(&self, bypass: Bypass) -> ConnectionNumber {
        let mut current = self.current.lock().expect("acks lock");
        current.connection_number += 1;
        current.bypass = bypass;
        current.connection_number
    }
}
