//! Acknowledgements, by a road that never waits: the reader of the link may itself be waiting for
//! the one who acknowledges.
//!
//! An acknowledgement belongs to the connection its message came by. One that comes too late is
//! thrown away, and the broker sends the message again; on another connection it would name a
//! stranger's packet.

use std::sync::{Arc, Mutex};

use rumqttc::{AsyncClient, ManualAck};

/// Which connection a message came by; raised at each loss.
pub(super) type Generation = u64;

/// Sends acknowledgements. Cheap to clone.
#[derive(Clone)]
pub struct Acks {
    current: Arc<Mutex<Current>>,
}

struct Current {
    generation: Generation,
    client: AsyncClient,
}

/// What it takes to acknowledge one message.
#[derive(Debug)]
pub struct Receipt {
    generation: Generation,
    ack: ManualAck,
}

impl Acks {
    pub(super) fn new(client: AsyncClient) -> Self {
        Self { current: Arc::new(Mutex::new(Current { generation: 0, client })) }
    }

    /// Acknowledges in the given order what came by the present connection.
    pub fn send(&self, receipts: impl IntoIterator<Item = Receipt>) {
        // Held throughout, so that `next_generation` finds all or nothing of it in the client.
        let current = self.current.lock().expect("acks lock");
        for receipt in receipts {
            if receipt.generation == current.generation {
                // The client's queue has a place for each of the protocol's 65,535 packet ids.
                if let Err(error) = current.client.try_manual_ack(receipt.ack) {
                    tracing::error!(%error, "an acknowledgement could not be queued; the broker will send again");
                }
            }
        }
    }

    /// What it takes to acknowledge a message of this client; `None` for QoS 0.
    pub(super) fn receipt(client: &AsyncClient, generation: Generation, publish: &rumqttc::Publish) -> Option<Receipt> {
        client.prepare_ack(publish).map(|ack| Receipt { generation, ack })
    }

    /// The connection is lost and the next one has a client of its own: from now on acknowledgements of
    /// the old one's messages are thrown away.
    pub(super) fn next_generation(&self, client: AsyncClient) -> Generation {
        let mut current = self.current.lock().expect("acks lock");
        current.generation += 1;
        current.client = client;
        current.generation
    }
}
