//! The sending side of the connection: publishes and acknowledgements.

use rumqttc::AsyncClient;
use tokio::sync::watch;

use crate::metrics::Metrics;
use crate::mqtt::acks::{ConnectionNumber, PendingPubAck, PubAcks};
use crate::mqtt::bypass::{Bypass, PublishPacket};
use crate::mqtt::publish::ActiveClient;

pub(super) struct SendHalf {
    client: AsyncClient,
    connection_number: ConnectionNumber,
    acks: PubAcks,
    active: ActiveClient,
    connected: watch::Sender<bool>,
    metrics: Metrics,
}

impl SendHalf {
    pub(super) fn new(
        client: AsyncClient,
        bypass: Bypass,
        active: ActiveClient,
        metrics: Metrics,
    ) -> (Self, watch::Receiver<bool>) {
        let (connected, watched) = watch::channel(false);
        let acks = PubAcks::new(bypass);
        (Self { client, connection_number: 0, acks, active, connected, metrics }, watched)
    }

    pub(super) fn client(&self) -> &AsyncClient {
        &self.client
    }

    pub(super) fn acks(&self) -> PubAcks {
        self.acks.clone()
    }

    /// The link went up or down; returns whether it was up before.
    pub(super) fn set_connected(&self, up: bool) -> bool {
        self.active.set(up.then(|| self.client.clone()));
        self.metrics.mqtt_connected.set(i64::from(up));
        self.connected.send_replace(up)
    }

    pub(super) fn is_connected(&self) -> bool {
        *self.connected.borrow()
    }

    /// A new connection has a client of its own; acknowledgements of the old one are dropped from now on.
    pub(super) fn replace_client(&mut self, client: AsyncClient, bypass: Bypass) {
        self.connection_number = self.acks.next_connection(bypass);
        self.client = client;
    }

    /// What acknowledges a message of this connection; `None` for QoS 0.
    pub(super) fn pending_ack(&self, packet: &PublishPacket) -> Option<PendingPubAck> {
        let connection_number = self.connection_number;
        packet.packet_id.map(|packet_id| PendingPubAck { connection_number, packet_id })
    }

    /// New publishes fail while the connection is not polled: a message that waits in the client could leave after
    /// its expiry.
    pub(super) fn pause_publishing(&self) {
        self.active.pause_publishing();
    }

    pub(super) fn resume_publishing(&self) {
        if self.is_connected() {
            self.active.resume_publishing(self.client.clone());
        }
    }

    /// Whether a message with an expiry waits in the client.
    pub(super) fn has_expiring_message(&self) -> bool {
        self.active.has_expiring_message()
    }

    pub(super) fn set_session_losses(&self, losses: u64) {
        self.active.set_session_losses(losses);
    }

    /// Returns when the broker has not confirmed a publish in time.
    pub(super) async fn puback_timed_out(&self) {
        self.active.puback_timed_out().await;
    }
}

/// A link that is dropped without DISCONNECT is down: nothing is published by it any more.
impl Drop for SendHalf {
    fn drop(&mut self) {
        self.set_connected(false);
    }
}
