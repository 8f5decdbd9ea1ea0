//! Publishes to devices with QoS 1 on the present connection, and fails without one. The outbox publishes again what
//! the broker has not confirmed.

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
use crate::downlink::{Downlink, DownlinkKind, LinkState, Message, PublishOutcome, PublishReport};
use crate::metrics::Metrics;

/// Longest wait for the broker's PUBACK. After that the link opens another connection.
const PUBACK_TIMEOUT: Duration = Duration::from_secs(30);

/// Publishes messages to devices. Cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    prefix: Arc<str>,
    clock: Clock,
    metrics: Metrics,
    active: ActiveClient,
    /// One for each publish that the client may have in flight: no message waits in the client while its expiry
    /// passes.
    slots: Arc<Semaphore>,
}

/// The client of the present connection: the link sets it, the publisher uses it.
#[derive(Clone)]
pub(super) struct ActiveClient {
    client: Arc<Mutex<Option<AsyncClient>>>,
    state: Arc<watch::Sender<LinkState>>,
    puback_timed_out: Arc<Notify>,
    /// Messages with an expiry that are in the client.
    n_expiring: Arc<AtomicUsize>,
}

/// Counts a message with an expiry while it is in the client.
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
            state.link_epoch += u64::from(is_other);
            is_other
        });
    }

    /// Until [`ActiveClient::resume_publishing`] every publish fails: the link does not poll the connection.
    pub(super) fn pause_publishing(&self) {
        *self.client.lock().expect("active client lock") = None;
    }

    pub(super) fn resume_publishing(&self, client: AsyncClient) {
        *self.client.lock().expect("active client lock") = Some(client);
    }

    /// Whether a message with an expiry is in the client.
    pub(super) fn has_expiring_message(&self) -> bool {
        self.n_expiring.load(Ordering::Acquire) > 0
    }

    /// The broker has lost so many sessions since the start, and ingest has recorded that.
    pub(super) fn set_session_losses(&self, losses: u64) {
        self.state.send_if_modified(|state| std::mem::replace(&mut state.session_losses, losses) != losses);
    }

    pub(super) fn session_losses(&self) -> u64 {
        self.state.borrow().session_losses
    }

    /// Returns when the broker has not confirmed a publish in time.
    pub(super) async fn puback_timed_out(&self) {
        self.puback_timed_out.notified().await;
    }
}

impl Publisher {
    /// Publishes nothing until there is a link.
    pub fn new(prefix: String, clock: Clock, metrics: Metrics) -> Self {
        let active = ActiveClient {
            client: Arc::default(),
            state: Arc::new(watch::Sender::new(LinkState::default())),
            puback_timed_out: Arc::default(),
            n_expiring: Arc::default(),
        };
        let slots = Arc::new(Semaphore::new(usize::from(OUTGOING_IN_FLIGHT)));
        Self { prefix: prefix.into(), clock, metrics, active, slots }
    }

    pub(super) fn active_client(&self) -> ActiveClient {
        self.active.clone()
    }

    /// Puts a message into the client of the present connection.
    fn publish_now(&self, message: Message) -> Result<PublishNotice, PublishReport> {
        let Some(topic) = topic::downlink_topic(&self.prefix, &message.home, &message.device, message.kind) else {
            return Err(PublishReport::refused("the device's name is not valid in a topic"));
        };
        let mut options = PublishOptions::new(QoS::AtLeastOnce);
        if message.kind == DownlinkKind::Config {
            options = options.retained();
        }
        if let Some(expires_at) = message.expires_at {
            let seconds = seconds_until(expires_at, self.clock.now()).ok_or(PublishOutcome::Expired)?;
            let properties =
                PublishProperties { message_expiry_interval: Some(seconds), ..PublishProperties::default() };
            options = options.properties(properties);
        }
        // The lock is held while the message goes in: a message in a client leaves on its connection or never.
        let client = self.active.client.lock().expect("active client lock");
        let client = client.as_ref().ok_or(PublishOutcome::NotSent)?;
        client.try_publish_tracked(topic, message.payload, options).map_err(|_| PublishOutcome::NotSent.into())
    }

    async fn send(self, message: Message) -> PublishReport {
        let _slot = self.slots.acquire().await.expect("never closed");
        let is_command = message.kind == DownlinkKind::Commands;
        let _guard = ExpiringGuard::new(&self.active, message.expires_at.is_some());
        let notice = match self.publish_now(message) {
            Ok(notice) => notice,
            Err(report) => return report,
        };
        match timeout(PUBACK_TIMEOUT, notice.wait_async()).await {
            Ok(Ok(PublishResult::Qos1(ack))) => match refusal(ack.reason) {
                Some(why) => PublishReport::refused(why),
                // Without a subscriber the broker drops a command. It keeps a configuration, which is retained.
                None if is_command && ack.reason == PubAckReason::NoMatchingSubscribers => {
                    PublishOutcome::NoSubscribers.into()
                }
                None => {
                    self.metrics.mqtt_sent.inc();
                    PublishOutcome::Confirmed.into()
                }
            },
            Ok(Err(PublishNoticeError::RetainNotSupported)) => {
                PublishReport::refused("the broker does not keep retained messages")
            }
            Ok(_) => PublishOutcome::Unknown.into(),
            Err(_) => {
                self.active.puback_timed_out.notify_one();
                PublishOutcome::Unknown.into()
            }
        }
    }
}

impl Downlink for Publisher {
    fn publish(&self, message: Message) -> BoxFuture<'static, PublishReport> {
        Box::pin(self.clone().send(message))
    }

    fn link(&self) -> watch::Receiver<LinkState> {
        self.active.state.subscribe()
    }
}

/// Whole seconds left; `None` for less than one. The MQTT message expiry interval is in whole seconds, so the broker
/// would deliver such a message too late.
fn seconds_until(expires_at: DateTime<Utc>, now: DateTime<Utc>) -> Option<u32> {
    u32::try_from((expires_at - now).num_seconds()).ok().filter(|seconds| *seconds > 0)
}

/// Why the broker refused a message; `None` where it accepted it.
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
    fn an_expiry_within_a_second_counts_as_passed() {
        let now = DateTime::UNIX_EPOCH;
        assert_eq!(seconds_until(now + TimeDelta::milliseconds(999), now), None);
        assert_eq!(seconds_until(now + TimeDelta::milliseconds(1_000), now), Some(1));
        assert_eq!(seconds_until(now + TimeDelta::milliseconds(1_999), now), Some(1));
        assert_eq!(seconds_until(now, now), None);
        assert_eq!(seconds_until(now - TimeDelta::seconds(5), now), None);
        assert_eq!(seconds_until(now + TimeDelta::days(7), now), Some(604_800));
    }
}
