//! The connection to the plugin's control topics. It has no task of its own: packets move while a method is awaited.

use std::collections::HashSet;
use std::time::Duration;

use rumqttc::{AsyncClient, ConnectionError, Event, EventLoop, Incoming, PublishOptions, QoS, SubscribeReasonCode};
use tokio::time::timeout;

use super::command::{Answer, Command, List, request};
use crate::mqtt::options::{self, TlsFileError};
use crate::settings::{DynsecAccount, MqttSettings};

const REQUESTS: &str = "$CONTROL/dynamic-security/v1";
const ANSWERS: &str = "$CONTROL/dynamic-security/v1/response";
/// Longest wait for an answer: a broker that is writing its file answers late.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Outgoing packets that wait in the client: there is one request at a time.
const QUEUE: usize = 4;
/// Names of one request: some 60 KB of answer.
const PAGE: usize = 1_000;
/// The listing stops at so many names.
const MAX_NAMES: usize = 1_000_000;

#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error(transparent)]
    Tls(#[from] TlsFileError),
    #[error("the broker: {0}")]
    Connection(Box<ConnectionError>),
    #[error(
        "the broker refused MQTT_DYNSEC_USERNAME the plugin's topic: it must be an administrator of Dynamic Security"
    )]
    Refused,
    #[error("the Dynamic Security plugin did not answer: is it loaded, and is MQTT_DYNSEC_USERNAME its administrator?")]
    NoAnswer,
    #[error("the Dynamic Security plugin refused the request: {0}")]
    RefusedRequest(String),
    #[error("the request did not fit into the client's queue")]
    QueueFull,
}

impl From<ConnectionError> for ControlError {
    fn from(error: ConnectionError) -> Self {
        Self::Connection(Box::new(error))
    }
}

/// An open connection of an administrator of the plugin.
pub(super) struct Control {
    client: AsyncClient,
    events: EventLoop,
    /// The number of the last request.
    number: u64,
}

impl Control {
    pub(super) async fn connect(mqtt: &MqttSettings, account: &DynsecAccount) -> Result<Self, ControlError> {
        let settings = MqttSettings {
            username: Some(account.username.clone()),
            password: Some(account.password.clone()),
            ..mqtt.clone()
        };
        let options = options::without_session(&settings, format!("{}-dynsec", mqtt.client_id))?;
        let (client, events) = AsyncClient::builder(options).capacity(QUEUE).build();
        // The plugin publishes its answers to all administrators, so request numbers start at random.
        let mut control = Self { client, events, number: fastrand::u64(..u64::MAX / 2) };
        timeout(ANSWER_TIMEOUT, control.subscribe()).await.map_err(|_| ControlError::NoAnswer)??;
        Ok(control)
    }

    async fn subscribe(&mut self) -> Result<(), ControlError> {
        self.client.try_subscribe(ANSWERS, QoS::AtLeastOnce).map_err(|_| ControlError::QueueFull)?;
        loop {
            if let Event::Incoming(Incoming::SubAck(suback)) = self.events.poll().await? {
                let is_granted = matches!(suback.return_codes[..], [SubscribeReasonCode::Success(_)]);
                return if is_granted { Ok(()) } else { Err(ControlError::Refused) };
            }
        }
    }

    /// Sends commands and waits for their answers, which have the same order.
    pub(super) async fn request(&mut self, commands: &[Command]) -> Result<Vec<Answer>, ControlError> {
        self.number += 1;
        let options = PublishOptions::new(QoS::AtLeastOnce);
        let request = request(commands, self.number);
        self.client.try_publish(REQUESTS, request, options).map_err(|_| ControlError::QueueFull)?;
        timeout(ANSWER_TIMEOUT, self.answers()).await.map_err(|_| ControlError::NoAnswer)?
    }

    async fn answers(&mut self) -> Result<Vec<Answer>, ControlError> {
        loop {
            if let Event::Incoming(Incoming::Publish(publish)) = self.events.poll().await? {
                let answers = Answer::read(&publish.payload, self.number);
                if !answers.is_empty() {
                    return Ok(answers);
                }
            }
        }
    }

    /// The names of all accounts or roles.
    pub(super) async fn names(&mut self, list: List) -> Result<HashSet<String>, ControlError> {
        let mut all = HashSet::new();
        for page in 0..MAX_NAMES / PAGE {
            let answers = self.request(&[Command::list(list, page * PAGE, PAGE)]).await?;
            let names: Vec<_> = answers.iter().flat_map(|answer| answer.names(list)).collect();
            let is_last = names.len() < PAGE;
            all.extend(names);
            if is_last {
                break;
            }
        }
        Ok(all)
    }

    /// Keeps the connection alive until it is lost.
    pub(super) async fn idle(&mut self) -> ControlError {
        loop {
            if let Err(error) = self.events.poll().await {
                return error.into();
            }
        }
    }
}
