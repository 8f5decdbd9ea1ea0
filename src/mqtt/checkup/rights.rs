//! What the server's account may do: subscribe, receive, publish. And how long a message takes.

use std::time::{Duration, Instant};

use rumqttc::{
    PubAckReason, Publish, PublishNoticeError, PublishOptions, PublishResult, QoS, RetainForwardRule,
    SubscribeFilterInput, SubscribeReasonCode,
};

use super::fault::RequestError;
use super::session::Connection;
use crate::downlink::DownlinkKind;
use crate::mqtt::cleanup::clearing_properties;
use crate::mqtt::topic::{self, DOCTOR_HOME, MessageKind};

/// Longest wait for a message that the broker has accepted.
const DELIVERY_TIMEOUT: Duration = Duration::from_millis(700);
/// Round trips that are measured, and the longest time for all of them.
const ROUND_TRIPS: usize = 100;
const ROUND_TRIPS_TIME: Duration = Duration::from_millis(700);
/// The property of a message with its number.
const NUMBER: &str = "smarthome-doctor";

/// The broker's answer to a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// With this QoS.
    Granted(u8),
    NotAuthorized,
    /// Wildcards or shared subscriptions are off, or another reason.
    Refused,
}

/// The broker's answer to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishAnswer {
    Accepted,
    NotAuthorized,
    Refused(String),
}

/// What became of a message that the doctor sent in place of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    Received,
    /// The broker accepted it and delivered nothing.
    Lost,
    /// The account may not send it, so nothing is known.
    NotSent,
}

impl Connection {
    /// Subscribes as a server does, without what is retained, and unsubscribes at once: the messages of devices are of no interest.
    pub async fn grants(&mut self, prefix: &str) -> Result<Vec<(MessageKind, Grant)>, RequestError> {
        let filters: Vec<_> = MessageKind::ALL.iter().map(|kind| topic::uplink_filter(prefix, *kind, None)).collect();
        let codes = self.subscribe(&filters).await?;
        let unsubscribed = self.client.try_unsubscribe_many_tracked(filters).map_err(RequestError::other)?;
        self.until(unsubscribed.wait_async()).await?.map_err(RequestError::other)?;
        self.received.clear();
        Ok(MessageKind::ALL.iter().copied().zip(codes).collect())
    }

    /// Subscribes to topics of the doctor's device. `shared_group` makes it a shared subscription of its own.
    pub async fn subscribe_own(
        &mut self,
        prefix: &str,
        device: &str,
        shared_group: Option<&str>,
    ) -> Result<Vec<Grant>, RequestError> {
        let share = shared_group.map_or_else(String::new, |group| format!("$share/{group}/"));
        let own = |kind: &MessageKind| format!("{share}{}", own_topic(prefix, device, kind.as_str()));
        let filters: Vec<_> = MessageKind::ALL.iter().map(own).collect();
        self.subscribe(&filters).await
    }

    pub(super) async fn subscribe(&mut self, filters: &[String]) -> Result<Vec<Grant>, RequestError> {
        let inputs = filters.iter().map(|filter| {
            SubscribeFilterInput::new(filter.clone(), QoS::AtLeastOnce).retain_forward_rule(RetainForwardRule::Never)
        });
        let suback = self.client.try_subscribe_many_tracked(inputs).map_err(RequestError::other)?;
        let suback = self.until(suback.wait_async()).await?.map_err(RequestError::other)?;
        Ok(suback.return_codes.iter().map(grant).collect())
    }

    /// Sends a message of each kind in place of the doctor's device, to whose topics this connection is subscribed.
    pub async fn deliveries(
        &mut self,
        prefix: &str,
        device: &str,
    ) -> Result<Vec<(MessageKind, Delivery)>, RequestError> {
        let mut deliveries = Vec::new();
        for kind in MessageKind::ALL {
            let topic = own_topic(prefix, device, kind.as_str());
            let delivery = match self.publish(&topic, 0).await? {
                PublishAnswer::Accepted => self.find(DELIVERY_TIMEOUT, |publish| is_own(publish, &topic, 0)).await?,
                PublishAnswer::NotAuthorized | PublishAnswer::Refused(_) => {
                    deliveries.push((*kind, Delivery::NotSent));
                    continue;
                }
            };
            deliveries.push((*kind, if delivery.is_some() { Delivery::Received } else { Delivery::Lost }));
        }
        Ok(deliveries)
    }

    /// Whether the account may publish to devices, by a message to one that does not exist.
    pub async fn may_write(
        &mut self,
        prefix: &str,
        device: &str,
        kind: DownlinkKind,
    ) -> Result<PublishAnswer, RequestError> {
        self.publish(&own_topic(prefix, device, topic::downlink_segment(kind)), 0).await
    }

    /// Times from a message's publishing to its receipt, sorted.
    pub async fn round_trips(
        &mut self,
        prefix: &str,
        device: &str,
        kind: MessageKind,
    ) -> Result<Vec<Duration>, RequestError> {
        let topic = own_topic(prefix, device, kind.as_str());
        let (began, mut times) = (Instant::now(), Vec::new());
        for number in 1..=ROUND_TRIPS {
            let started = Instant::now();
            self.publish(&topic, number).await?;
            if self.find(DELIVERY_TIMEOUT, |publish| is_own(publish, &topic, number)).await?.is_none() {
                break;
            }
            times.push(started.elapsed());
            if began.elapsed() > ROUND_TRIPS_TIME {
                break;
            }
        }
        times.sort_unstable();
        Ok(times)
    }

    /// Publishes with QoS 1. Empty and marked as a clearing, so that servers acknowledge it and do nothing else.
    async fn publish(&mut self, topic: &str, number: usize) -> Result<PublishAnswer, RequestError> {
        let mut properties = clearing_properties();
        properties.user_properties.push((NUMBER.to_owned(), number.to_string()));
        let options = PublishOptions::new(QoS::AtLeastOnce).properties(properties);
        let notice = self.client.try_publish_tracked(topic, Vec::new(), options).map_err(RequestError::other)?;
        match self.until(notice.wait_async()).await? {
            Ok(PublishResult::Qos1(ack)) => Ok(publish_answer(ack.reason)),
            Err(PublishNoticeError::V5PubAck(reason)) => Ok(publish_answer(reason)),
            Ok(other) => Err(RequestError::other(format_args!("unexpected answer: {other:?}"))),
            Err(error) => Err(RequestError::other(error)),
        }
    }
}

/// A topic of the doctor's device.
fn own_topic(prefix: &str, device: &str, segment: &str) -> String {
    topic::device_topic(prefix, DOCTOR_HOME, device, segment)
}

fn is_own(publish: &Publish, topic: &str, number: usize) -> Option<()> {
    let properties = publish.properties.as_ref()?;
    let has_number = |(name, value): &(String, String)| name == NUMBER && *value == number.to_string();
    (publish.topic == topic && properties.user_properties.iter().any(has_number)).then_some(())
}

fn grant(code: &SubscribeReasonCode) -> Grant {
    match code {
        SubscribeReasonCode::Success(qos) => Grant::Granted(*qos as u8),
        SubscribeReasonCode::NotAuthorized => Grant::NotAuthorized,
        _ => Grant::Refused,
    }
}

fn publish_answer(reason: PubAckReason) -> PublishAnswer {
    match reason {
        PubAckReason::Success | PubAckReason::NoMatchingSubscribers => PublishAnswer::Accepted,
        PubAckReason::NotAuthorized => PublishAnswer::NotAuthorized,
        other => PublishAnswer::Refused(format!("{other:?}")),
    }
}
