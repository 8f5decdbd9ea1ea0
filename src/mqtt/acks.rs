//! Acknowledgements of received messages. Sending one never waits: the link may be waiting for the writer, which
//! acknowledges.
//!
//! An acknowledgement belongs to the connection of its message. A late one is dropped, and the broker sends the message
//! again: on another connection the packet id may stand for another message.

use std::sync::{Arc, Mutex};

use rumqttc::{AsyncClient, ManualAck};

/// The number of a connection of this process.
pub(super) type ConnectionNumber = u64;

/// Sends acknowledgements. Cheap to clone.
#[derive(Clone)]
pub struct PubAcks {
    current: Arc<Mutex<Current>>,
}

struct Current {
    connection_number: ConnectionNumber,
    client: AsyncClient,
}

/// Acknowledges one message, see [`PubAcks::send`].
#[derive(Debug)]
pub struct PendingPubAck {
    connection_number: ConnectionNumber,
    ack: ManualAck,
}

impl PubAcks {
    pub(super) fn new(client: AsyncClient) -> Self {
        Self { current: Arc::new(Mutex::new(Current { connection_number: 0, client })) }
    }

    /// Acknowledges the messages of the present connection in the given order and drops the others.
    pub fn send(&self, pending_acks: impl IntoIterator<Item = PendingPubAck>) {
        // The lock is held throughout, so that `next_connection` cannot change the client in between.
        let current = self.current.lock().expect("acks lock");
        for pending_ack in pending_acks {
            if pending_ack.connection_number == current.connection_number {
                // The client's queue has space for each of the protocol's 65,535 packet ids.
                if let Err(error) = current.client.try_manual_ack(pending_ack.ack) {
                    tracing::error!(%error, "an acknowledgement could not be queued; the broker will send the message again");
                }
            }
        }
    }

    /// What acknowledges a message; `None` for QoS 0.
    pub(super) fn prepare(
        client: &AsyncClient,
        connection_number: ConnectionNumber,
        publish: &rumqttc::Publish,
    ) -> Option<PendingPubAck> {
        client.prepare_ack(publish).map(|ack| PendingPubAck { connection_number, ack })
    }

    /// A new connection has a client of its own. From now on acknowledgements of the old connection are dropped.
    pub(super) fn next_connection(&self, client: AsyncClient) -> ConnectionNumber {
        let mut current = self.current.lock().expect("acks lock");
        current.connection_number += 1;
        current.client = client;
        current.connection_number
    }
}
