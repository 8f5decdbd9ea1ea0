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
    generation: ConnectionNumber,
    client: AsyncClient,
}

/// Acknowledges one message, see [`PubAcks::send`].
#[derive(Debug)]
pub struct PendingPubAck {
    generation: ConnectionNumber,
    ack: ManualAck,
}

impl PubAcks {
    pub(super) fn new(client: AsyncClient) -> Self {
        Self { current: Arc::new(Mutex::new(Current { generation: 0, client })) }
    }

    /// Acknowledges the messages of the present connection in the given order and drops the other receipts.
    pub fn send(&self, receipts: impl IntoIterator<Item = PendingPubAck>) {
        // The lock is held throughout, so that `next_generation` cannot change the client in between.
        let current = self.current.lock().expect("acks lock");
        for receipt in receipts {
            if receipt.generation == current.generation {
                // The client's queue has space for each of the protocol's 65,535 packet ids.
                if let Err(error) = current.client.try_manual_ack(receipt.ack) {
                    tracing::error!(%error, "an acknowledgement could not be queued; the broker will send the message again");
                }
            }
        }
    }

    /// The receipt of a message; `None` for QoS 0.
    pub(super) fn receipt(
        client: &AsyncClient,
        generation: ConnectionNumber,
        publish: &rumqttc::Publish,
    ) -> Option<PendingPubAck> {
        client.prepare_ack(publish).map(|ack| PendingPubAck { generation, ack })
    }

    /// A new connection has a client of its own. From now on receipts of the old connection are dropped.
    pub(super) fn next_generation(&self, client: AsyncClient) -> ConnectionNumber {
        let mut current = self.current.lock().expect("acks lock");
        current.generation += 1;
        current.client = client;
        current.generation
    }
}
