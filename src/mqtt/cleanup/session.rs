//! A connection under the client id of a deleted device.

use std::time::Duration;

use futures_util::future::join_all;
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, Incoming, Outgoing, PubAckReason, PublishNotice,
    PublishOptions, PublishResult, QoS,
};
use tokio::time::timeout;

use super::{CleanupError, clearing_properties};
use crate::downlink::DownlinkKind;
use crate::mqtt::options;
use crate::mqtt::topic::{self, MessageKind};
use crate::settings::MqttSettings;

/// Longest wait for the broker.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Outgoing packets that wait in the client: those of two devices' topics, and DISCONNECT.
const QUEUE: usize = 16;

/// Whether everything retained is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cleared {
    All,
    /// The broker does not let this account write to some of the topics.
    Refused,
}

/// Open, with a session that ends with the connection.
pub(super) struct Session {
    client: AsyncClient,
    events: EventLoop,
}

impl Session {
    /// Ends the session of a client id, and its connection. `None` where the broker does not let the account use the client
    /// id.
    pub(super) async fn replace(settings: &MqttSettings, client_id: String) -> Result<Option<Self>, CleanupError> {
        let options = options::without_session(settings, client_id)?;
        let (client, events) = AsyncClient::builder(options).capacity(QUEUE).build();
        let mut session = Self { client, events };
        let connected = async {
            loop {
                match session.events.poll().await {
                    Ok(Event::Incoming(Incoming::ConnAck(_))) => return Ok(true),
                    Ok(_) => {}
                    Err(ConnectionError::ConnectionRefused(code)) if is_refused_for_good(code) => return Ok(false),
                    Err(error) => return Err(Box::new(error)),
                }
            }
        };
        let is_connected = timeout(ANSWER_TIMEOUT, connected).await.map_err(|_| CleanupError::NoAnswer)??;
        Ok(is_connected.then_some(session))
    }

    /// Deletes what is retained under these topics and disconnects. The configuration goes first, because it may hold
    /// secrets.
    pub(super) async fn clear(mut self, prefix: &str, topics: &[(String, String)]) -> Result<Cleared, CleanupError> {
        let mut notices = Vec::new();
        for (home, device) in topics {
            let down = [DownlinkKind::Config, DownlinkKind::Commands].map(topic::downlink_segment);
            for segment in down.into_iter().chain(MessageKind::ALL.iter().map(|kind| kind.as_str())) {
                notices.push(self.publish_empty(topic::device_topic(prefix, home, device, segment))?);
            }
        }
        timeout(ANSWER_TIMEOUT, self.confirmed(notices)).await.map_err(|_| CleanupError::NoAnswer)?
    }

    /// An empty retained message deletes the one that the broker keeps (MQTT 5, section 3.3.1.3).
    fn publish_empty(&self, topic: String) -> Result<PublishNotice, CleanupError> {
        let options = PublishOptions::new(QoS::AtLeastOnce).retained().properties(clearing_properties());
        self.client.try_publish_tracked(topic, Vec::new(), options).map_err(|_| CleanupError::Unconfirmed)
    }

    async fn confirmed(&mut self, notices: Vec<PublishNotice>) -> Result<Cleared, CleanupError> {
        let mut results = std::pin::pin!(join_all(notices.into_iter().map(PublishNotice::wait_async)));
        let results = loop {
            tokio::select! {
                results = &mut results => break results,
                event = self.events.poll() => {
                    event.map_err(Box::new)?;
                }
            }
        };
        let mut cleared = Cleared::All;
        for result in results {
            match result {
                Ok(PublishResult::Qos1(ack)) => match ack.reason {
                    PubAckReason::Success | PubAckReason::NoMatchingSubscribers => {}
                    _ => cleared = Cleared::Refused,
                },
                _ => return Err(CleanupError::Unconfirmed),
            }
        }
        self.disconnect().await;
        Ok(cleared)
    }

    /// The broker has confirmed everything: an error means nothing.
    async fn disconnect(&mut self) {
        if self.client.try_disconnect().is_ok() {
            while let Ok(event) = self.events.poll().await {
                if matches!(event, Event::Outgoing(Outgoing::Disconnect)) {
                    break;
                }
            }
        }
    }
}

/// Whether another attempt would be refused as well.
fn is_refused_for_good(code: ConnectReturnCode) -> bool {
    matches!(
        code,
        ConnectReturnCode::NotAuthorized
            | ConnectReturnCode::BadUserNamePassword
            | ConnectReturnCode::ClientIdentifierNotValid
            | ConnectReturnCode::BadClientId
    )
}
