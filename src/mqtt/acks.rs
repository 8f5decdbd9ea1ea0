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
    client: AsyncClient,
    current: Arc<Mutex<Generation>>,
}

/// What it takes to acknowledge one message.
#[derive(Debug)]
pub struct Receipt {
    generation: Generation,
    ack: ManualAck,
}

impl Acks {
    pub(super) fn new(client: AsyncClient) -> Self {
        Self { client, current: Arc::default() }
    }

    /// Acknowledges in the given order what came by the present connection.
    pub fn send(&self, receipts: impl IntoIterator<Item = Receipt>) {
        // Held throughout, so that `next_generation` finds all or nothing of it in the client.
        let current = self.current.lock().expect("acks lock");
        for receipt in receipts {
            if receipt.generation == *current {
                // The client's queue has a place for each of the protocol's 65,535 packet ids.
                if let Err(error) = self.client.try_manual_ack(receipt.ack) {
                    tracing::error!(%error, "an acknowledgement could not be queued; the broker will send again");
                }
            }
        }
    }

    pub(super) fn receipt(&self, generation: Generation, publish: &rumqttc::Publish) -> Option<Receipt> {
        self.client.prepare_ack(publish).map(|ack| Receipt { generation, ack })
    }

    /// The connection is lost: from now on acknowledgements of its messages are thrown away.
    pub(super) fn next_generation(&self) -> Generation {
        let mut current = self.current.lock().expect("acks lock");
        *current += 1;
        *current
    }
}
