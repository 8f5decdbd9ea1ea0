//! What the link asks the broker for, and what it makes of the answer.

use rumqttc::{QoS, RetainForwardRule, SubscribeFilterInput, SubscribeReasonCode};
use tokio::time::Instant;

use super::{BACKOFF_FIRST, BACKOFF_MAX, Link};
use crate::mqtt::topic::{self, MessageKind};

/// Where Mosquitto and its kin tell how many clients are connected.
const BROKER_CLIENTS: &str = "$SYS/broker/clients/connected";

impl Link {
    /// On every connection, whatever the broker remembers: it costs nothing and heals everything.
    pub(super) fn subscribe(&mut self) {
        self.subscribe_at = None;
        let filters = MessageKind::ALL.map(|kind| {
            let filter = topic::filter(&self.settings.prefix, kind);
            let filter = match &self.settings.shared_group {
                Some(group) => format!("$share/{group}/{filter}"),
                None => filter,
            };
            // QoS 1, so that a device's QoS 2 comes as QoS 1 and needs one answer only.
            SubscribeFilterInput::new(filter, QoS::AtLeastOnce).retain_forward_rule(RetainForwardRule::OnNewSubscribe)
        });
        // The broker's own count of its clients; one that has none refuses or stays silent.
        let clients = SubscribeFilterInput::new(BROKER_CLIENTS, QoS::AtMostOnce);
        if let Err(error) = self.client.try_subscribe_many(filters.into_iter().chain([clients])) {
            tracing::error!(%error, "could not queue the subscription");
        }
    }

    pub(super) fn subscribed(&mut self, codes: &[SubscribeReasonCode]) {
        let ours = &codes[..codes.len().min(MessageKind::ALL.len())];
        if ours.iter().all(|code| matches!(code, SubscribeReasonCode::Success(_))) {
            self.set_connected(true);
            self.last_error = None;
            self.backoff = BACKOFF_FIRST;
            tracing::info!(broker = %self.settings.broker.host, "linked to the MQTT broker and subscribed");
        } else {
            self.metrics.mqtt_connection_errors.inc();
            self.subscribe_at = Some(Instant::now() + BACKOFF_MAX);
            tracing::error!(?codes, "the broker refused a subscription: check this account's ACL");
        }
    }

    pub(super) fn note_clients(&self, payload: &[u8]) {
        if let Some(n) = std::str::from_utf8(payload).ok().and_then(|text| text.trim().parse().ok()) {
            self.metrics.broker_clients.set(n);
        }
    }
}
