//! Messages to devices: QoS 1 over the present connection, or not at all. Nothing waits here for a
//! connection to come back; what is not confirmed the outbox sends again.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use rumqttc::{
    AsyncClient, PubAckReason, PublishNotice, PublishNoticeError, PublishOptions, PublishProperties, PublishResult, QoS,
};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::timeout;

use super::options::OUTGOING_IN_FLIGHT;
use super::topic;
use crate::clock::Clock;
use crate::downlink::{Channel, Delivery, DeliveryOutcome, Downlink, LinkState, Message};
use crate::metrics::Metrics;

/// Longest wait for the broker's confirmation on a link that looks alive; then it is let go.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(30);

/// Sends messages to devices. Cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    prefix: Arc<str>,
    clock: Clock,
    metrics: Metrics,
    active: ActiveClient,
    /// One for each message the client has under way, so that none waits in it while its time passes.
    slots: Arc<Semaphore>,
}

/// The present connection's client, shared by the link, which sets it, and the publisher.
#[derive(Clone)]
pub(super) struct ActiveClient {
    client: Arc<Mutex<Option<AsyncClient>>>,
    state: Arc<watch::Sender<LinkState>>,
    ack_timed_out: Arc<Notify>,
    /// Messages in the client that must not leave after a certain time.
    n_expiring: Arc<AtomicUsize>,
}

/// Counts a message that expires for as long as it is with the client.
struct ExpiringGuard(Option<Arc<AtomicUsize>>);

impl ExpiringGuard {
    fn new(active: &ActiveClient, expires: bool) -> Self {
        let counter = expires.then(|| active.n_expiring.clone());
        counter.iter().for_each(|n| _ = n.fetch_add(1, Ordering::AcqRel));
        Self(counter)
    }
}

impl Drop for ExpiringGuard {
    fn drop(&mut self) {
        self.0.iter().for_each(|n| _ = n.fetch_sub(1, Ordering::AcqRel));
    }
}

impl ActiveClient {
    /// The link came up with this client, or went down.
    pub(super) fn set(&self, client: Option<AsyncClient>) {
        let is_up = client.is_some();
        *self.client.lock().expect("active client lock") = client;
        self.state.send_if_modified(|state| {
            let is_other = state.is_up != is_up;
            state.is_up = is_up;
            state.connection += u64::from(is_other);
            is_other
        });
    }

    /// Nothing more goes in while the link does not look after what is in it.
    pub(super) fn pause_publishing(&self) {
        *self.client.lock().expect("active client lock") = None;
    }

    /// The link looks after it again.
    pub(super) fn resume_publishing(&self, client: AsyncClient) {
        *self.client.lock().expect("active client lock") = Some(client);
    }

    /// Whether a message is in the client that must not leave after a certain time.
    pub(super) fn has_expiring_message(&self) -> bool {
        self.n_expiring.load(Ordering::Acquire) > 0
    }

    /// So many sessions turned out to be lost, and that is noted.
    pub(super) fn set_session_losses(&self, session_losses: u64) {
        self.state.send_modify(|state| state.session_losses = session_losses);
    }

    /// Waits until a message stays unconfirmed for too long.
    pub(super) async fn ack_timed_out(&self) {
        self.ack_timed_out.notified().await;
    }
}

impl Publisher {
    pub(super) fn new(prefix: String, clock: Clock, metrics: Metrics) -> Self {
        let active = ActiveClient {
            client: Arc::default(),
            state: Arc::new(watch::Sender::new(LinkState::default())),
            ack_timed_out: Arc::default(),
            n_expiring: Arc::default(),
        };
        let slots = Arc::new(Semaphore::new(usize::from(OUTGOING_IN_FLIGHT)));
        Self { prefix: prefix.into(), clock, metrics, active, slots }
    }

    pub(super) fn active(&self) -> ActiveClient {
        self.active.clone()
    }

    /// Hands a message to the connection, if there is one at this moment.
    fn publish_now(&self, message: Message) -> Result<PublishNotice, Delivery> {
        let Some(topic) = topic::downlink_topic(&self.prefix, &message.home, &message.device, message.channel) else {
            return Err(Delivery::refused("the device's name can't be part of a topic"));
        };
        let mut options = PublishOptions::new(QoS::AtLeastOnce);
        if message.channel == Channel::Config {
            options = options.retained();
        }
        if let Some(expires_at) = message.expires_at {
            let seconds = seconds_until(expires_at, self.clock.now()).ok_or(DeliveryOutcome::Expired)?;
            let properties =
                PublishProperties { message_expiry_interval: Some(seconds), ..PublishProperties::default() };
            options = options.properties(properties);
        }
        // Held while the message goes in: what is in a client leaves by its connection or never.
        let client = self.active.client.lock().expect("active client lock");
        let client = client.as_ref().ok_or(DeliveryOutcome::NotSent)?;
        client.try_publish_tracked(topic, message.payload, options).map_err(|_| DeliveryOutcome::NotSent.into())
    }

    async fn send(self, message: Message) -> Delivery {
        let _slot = self.slots.acquire().await.expect("never closed");
        let (is_command, expires) = (message.channel == Channel::Commands, message.expires_at.is_some());
        let _guard = ExpiringGuard::new(&self.active, expires);
        let notice = match self.publish_now(message) {
            Ok(notice) => notice,
            Err(delivery) => return delivery,
        };
        match timeout(CONFIRMED_WITHIN, notice.wait_async()).await {
            Ok(Ok(PublishResult::Qos1(ack))) => match refusal(ack.reason) {
                Some(why) => Delivery::refused(why),
                // Without a reader, and without a session that keeps it for one, a command is gone; a
                // configuration is kept all the same.
                None if is_command && ack.reason == PubAckReason::NoMatchingSubscribers => {
                    DeliveryOutcome::NoSubscribers.into()
                }
                None => {
                    self.metrics.mqtt_sent.inc();
                    DeliveryOutcome::Confirmed.into()
                }
            },
            Ok(Err(PublishNoticeError::RetainNotSupported)) => {
                Delivery::refused("the broker does not keep retained messages")
            }
            Ok(_) => DeliveryOutcome::Unknown.into(),
            Err(_) => {
                self.active.ack_timed_out.notify_one();
                DeliveryOutcome::Unknown.into()
            }
        }
    }
}

impl Downlink for Publisher {
    fn deliver(&self, message: Message) -> BoxFuture<'static, Delivery> {
        Box::pin(self.clone().send(message))
    }

    fn link(&self) -> watch::Receiver<LinkState> {
        self.active.state.subscribe()
    }
}

/// Whole seconds left, at least one: MQTT counts in seconds, and with less than one the broker would deliver
/// it too late.
fn seconds_until(expires_at: DateTime<Utc>, now: DateTime<Utc>) -> Option<u32> {
    u32::try_from((expires_at - now).num_seconds()).ok().filter(|seconds| *seconds > 0)
}

/// What the broker says against a message; `None` where it took it.
fn refusal(reason: PubAckReason) -> Option<&'static str> {
    Some(match reason {
        PubAckReason::Success | PubAckReason::NoMatchingSubscribers => return None,
        PubAckReason::NotAuthorized => "the broker does not let the server write to the device's topic: check its ACL",
        PubAckReason::QuotaExceeded => "the broker's quota is exceeded",
        _ => "the broker refused the message",
    })
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn less_than_a_second_is_as_good_as_past() {
        let now = DateTime::UNIX_EPOCH;
        assert_eq!(seconds_until(now + TimeDelta::milliseconds(999), now), None);
        assert_eq!(seconds_until(now + TimeDelta::milliseconds(1_000), now), Some(1));
        assert_eq!(seconds_until(now + TimeDelta::milliseconds(1_999), now), Some(1));
        assert_eq!(seconds_until(now, now), None);
        assert_eq!(seconds_until(now - TimeDelta::seconds(5), now), None);
        assert_eq!(seconds_until(now + TimeDelta::days(7), now), Some(604_800));
    }
}
