//! One connection of the doctor. It has no task: packets move while a method is awaited.

use std::time::Duration;

use rumqttc::{
    AckMode, AsyncClient, ConnAck, ConnAckProperties, ConnectionError, Event, EventLoop, Incoming, MqttOptions,
    Outgoing, Publish,
};
use tokio::time::timeout;

use super::ANSWER_TIMEOUT;
use super::fault::{ConnectFault, RequestError};
use crate::mqtt::options::{self, TlsFileError};
use crate::settings::MqttSettings;

/// Packets that wait in the client.
const QUEUE: usize = 128;
/// Most messages that are kept; others are of no interest.
const MAX_RECEIVED: usize = 1_000;

/// How a connection starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Without a session, under a client id of its own: nothing remains.
    Clean,
    /// With a new session that the broker is to keep as long as a server's.
    NewSession(RunId),
    /// With the session that the broker has kept.
    Resume(RunId),
    /// Removes that session.
    EndSession(RunId),
}

/// Tells the session of this run from those of others, so that several doctors may run at once. One that is killed leaves a
/// session without subscriptions until it expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunId(u32);

impl RunId {
    pub fn random() -> Self {
        Self(fastrand::u32(..))
    }
}

impl Start {
    pub(super) fn options(self, settings: &MqttSettings) -> Result<MqttOptions, TlsFileError> {
        let client_id = |RunId(run)| format!("{}-doctor-{run:08x}", settings.client_id);
        let with_session = |run| MqttSettings { client_id: client_id(run), ..settings.clone() };
        match self {
            Self::Clean => options::without_session(settings, client_id(RunId::random())),
            Self::EndSession(run) => options::without_session(settings, client_id(run)),
            Self::NewSession(run) => {
                let mut options = options::build(&with_session(run))?;
                options.set_clean_start(true).set_ack_mode(AckMode::Automatic);
                Ok(options)
            }
            Self::Resume(run) => options::first(&with_session(run), false),
        }
    }
}

/// An open connection.
pub struct Connection {
    pub(super) client: AsyncClient,
    events: EventLoop,
    connack: ConnAck,
    pub(super) received: Vec<Publish>,
}

impl Connection {
    /// Connects. Without an answer it fails after `limit`.
    pub(in crate::mqtt) async fn open(options: MqttOptions, limit: Duration) -> Result<Self, ConnectFault> {
        let (client, mut events) = AsyncClient::builder(options).capacity(QUEUE).build();
        let connected = async {
            loop {
                if let Event::Incoming(Incoming::ConnAck(connack)) = events.poll().await? {
                    return Ok::<_, ConnectionError>(connack);
                }
            }
        };
        match timeout(limit, connected).await {
            Ok(Ok(connack)) => Ok(Self { client, events, connack, received: Vec::new() }),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(ConnectFault::NoMqtt(format!("no answer within {} s", limit.as_secs()))),
        }
    }

    /// Whether the broker has continued a session.
    pub fn has_session(&self) -> bool {
        self.connack.session_present
    }

    /// Seconds for which the broker keeps the session, if that is not what was asked for.
    pub fn session_expiry(&self) -> Option<u32> {
        self.properties()?.session_expiry_interval
    }

    /// The highest QoS of messages that the broker accepts.
    pub fn max_qos(&self) -> u8 {
        self.properties().and_then(|properties| properties.max_qos).unwrap_or(2)
    }

    pub fn has_retained_messages(&self) -> bool {
        self.properties().and_then(|properties| properties.retain_available) != Some(0)
    }

    pub fn has_shared_subscriptions(&self) -> bool {
        self.properties().and_then(|properties| properties.shared_subscription_available) != Some(0)
    }

    fn properties(&self) -> Option<&ConnAckProperties> {
        self.connack.properties.as_ref()
    }

    /// Moves packets until `done`; the error is that of a lost connection or of an answer that does not come.
    pub(super) async fn until<T>(&mut self, done: impl Future<Output = T>) -> Result<T, RequestError> {
        let mut done = std::pin::pin!(done);
        let waiting = async {
            loop {
                tokio::select! {
                    value = &mut done => return Ok(value),
                    event = self.events.poll() => match event {
                        Ok(Event::Incoming(Incoming::Publish(publish))) => {
                            if self.received.len() < MAX_RECEIVED {
                                self.received.push(publish);
                            }
                        }
                        Ok(_) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        };
        timeout(ANSWER_TIMEOUT, waiting).await.unwrap_or(Err(RequestError::NoAnswer))
    }

    /// Moves packets until a received message is found or the time is over.
    pub(super) async fn find<T>(
        &mut self,
        limit: Duration,
        mut find: impl FnMut(&Publish) -> Option<T>,
    ) -> Result<Option<T>, RequestError> {
        let finding = async {
            loop {
                if let Some(found) = self.received.drain(..).find_map(|publish| find(&publish)) {
                    return Ok(found);
                }
                match self.events.poll().await {
                    Ok(Event::Incoming(Incoming::Publish(publish))) => self.received.push(publish),
                    Ok(_) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        };
        timeout(limit, finding).await.ok().transpose()
    }

    /// Disconnects. The session, if there is one, stays.
    pub async fn close(mut self) {
        if self.client.try_disconnect().is_err() {
            return;
        }
        let closing = async {
            while let Ok(event) = self.events.poll().await {
                if matches!(event, Event::Outgoing(Outgoing::Disconnect)) {
                    break;
                }
            }
        };
        let _ = timeout(ANSWER_TIMEOUT, closing).await;
    }
}
