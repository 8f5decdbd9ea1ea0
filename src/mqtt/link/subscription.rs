//! The link's subscriptions and the broker's answer to them.

use std::time::Duration;

use rumqttc::{QoS, RetainForwardRule, SubscribeFilterInput, SubscribeReasonCode};
use tokio::time::{Instant, sleep_until};

use super::Link;
use super::reconnect::MAX_PAUSE;
use crate::backoff::Backoff;
use crate::metrics::Reported;
use crate::mqtt::topic::{MessageKind, uplink_filter};

/// Below it Mosquitto and similar brokers publish figures of their own.
const BROKER_STATE: &str = "$SYS/broker/";

/// First pause before a refused subscription is repeated; doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// When to repeat a subscription that the broker has refused.
pub(super) struct SubscribeRetry {
    at: Option<Instant>,
    backoff: Backoff,
}

impl Default for SubscribeRetry {
    fn default() -> Self {
        Self { at: None, backoff: Backoff::new(FIRST_PAUSE, MAX_PAUSE) }
    }
}

impl SubscribeRetry {
    pub(super) fn cancel(&mut self) {
        self.at = None;
    }

    fn schedule(&mut self) {
        self.at = Some(Instant::now() + self.backoff.next_delay());
    }

    pub(super) async fn due(&self) {
        match self.at {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}

impl Link {
    /// Subscribes on every connection, also in a session that has the subscriptions already: they may have been
    /// changed or refused before.
    pub(super) fn subscribe(&mut self) {
        self.subscribe_retry.cancel();
        let filters = self.uplink_filters().into_iter().map(|filter| {
            // QoS 1: the broker sends a device's QoS 2 message as QoS 1, which takes one acknowledgement.
            SubscribeFilterInput::new(filter, QoS::AtLeastOnce).retain_forward_rule(RetainForwardRule::OnNewSubscribe)
        });
        // Brokers without these topics refuse the filters or never publish to them.
        let state = self
            .broker_state()
            .map(|(name, _)| SubscribeFilterInput::new(format!("{BROKER_STATE}{name}"), QoS::AtMostOnce));
        if let Err(error) = self.send_half.client().try_subscribe_many(filters.chain(state)) {
            tracing::error!(%error, "could not queue the subscription");
        }
    }

    /// The session may be older than the group, and would receive every message a second time. Its plain subscription stays until
    /// the shared one is granted: without any, the broker would drop the messages.
    fn end_plain_subscription(&self) {
        let plain = MessageKind::ALL.iter().map(|kind| uplink_filter(&self.settings.prefix, *kind, None));
        if let Err(error) = self.send_half.client().try_unsubscribe_many(plain) {
            tracing::error!(%error, "could not queue the end of a plain subscription");
        }
    }

    /// The filters by which messages of devices are received, in the order of [`MessageKind::ALL`].
    pub(super) fn uplink_filters(&self) -> Vec<String> {
        let group = self.settings.shared_group.as_deref();
        MessageKind::ALL.iter().map(|kind| uplink_filter(&self.settings.prefix, *kind, group)).collect()
    }

    pub(super) fn on_subscribed(&mut self, codes: &[SubscribeReasonCode]) {
        // The broker answers in the order of the filters.
        let filters = self.uplink_filters();
        let n_refused = filters.iter().zip(codes).filter(|(filter, code)| !is_granted(filter, code)).count();
        if n_refused == 0 {
            self.subscribe_retry.backoff.reset();
            match self.settings.shared_group {
                // Its UNSUBACK calls `on_up`.
                Some(_) => self.end_plain_subscription(),
                None => self.on_up(),
            }
        } else {
            self.metrics.mqtt_connection_errors.inc();
            self.subscribe_retry.schedule();
        }
    }

    /// The session has its subscription, and no other one.
    pub(super) fn on_up(&mut self) {
        self.send_half.set_connected(true);
        self.reconnect.succeeded();
        tracing::info!(broker = %self.settings.broker.host, "connected to the MQTT broker and subscribed");
    }

    /// The broker's figures that are read. With the filters of devices' messages they are eight, the most that some hosted
    /// brokers take in one subscription.
    fn broker_state(&self) -> [(&'static str, &Reported); 4] {
        let metrics = &self.metrics;
        [
            ("clients/connected", &metrics.broker_clients),
            ("messages/received", &metrics.broker_received),
            ("messages/sent", &metrics.broker_sent),
            ("publish/messages/dropped", &metrics.broker_dropped),
        ]
    }

    /// Reads what the broker publishes about itself.
    pub(super) fn record_broker_state(&self, topic: &[u8], payload: &[u8]) {
        let name = topic.strip_prefix(BROKER_STATE.as_bytes());
        let figure = self.broker_state().into_iter().find(|(of, _)| Some(of.as_bytes()) == name);
        let value = std::str::from_utf8(payload).ok().and_then(|text| text.trim().parse().ok());
        if let (Some((_, figure)), Some(value)) = (figure, value) {
            figure.set(value);
        }
    }
}

/// Whether the broker delivers messages of this filter until they are acknowledged.
fn is_granted(filter: &str, code: &SubscribeReasonCode) -> bool {
    match code {
        SubscribeReasonCode::Success(QoS::AtMostOnce) => {
            tracing::error!(
                filter,
                "the broker grants QoS 0 only, so it would drop messages while the server is away or busy: allow QoS 1 for \
                 this account or listener (Mosquitto: max_qos)"
            );
            false
        }
        SubscribeReasonCode::Success(_) => true,
        _ => {
            tracing::error!(filter, ?code, "the broker refused a subscription: check this account's ACL");
            false
        }
    }
}
