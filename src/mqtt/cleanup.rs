//! Makes the broker delete what it keeps for deleted devices: the session with its queued messages, and everything
//! retained under the device's topics.
//!
//! The cleaner connects under the client id of the device with a clean start, which ends the device's session, and
//! publishes empty retained messages there. One server of an installation does it. Its account is the administrator of
//! Dynamic Security, which has a role for it and may use any client id, or else that of the server.

mod session;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rumqttc::PublishProperties;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::options::TlsFileError;
use crate::background::{LeaderPauses, single_leader};
use crate::backoff::Backoff;
use crate::devices::{Cleanup, Cleanups};
use crate::error::Error;
use crate::metrics::Metrics;
use crate::settings::{DatabaseSettings, MqttSettings, Provisioning};
use session::{Cleared, Session};

/// Cleanups read at once: few, because homes take turns.
const CLEANUPS: i64 = 20;
/// How often the leader looks for deleted devices.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// How often a server that is not the leader tries to become it.
const LEAD_RETRY: Duration = Duration::from_secs(3);
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
enum CleanupError {
    #[error(transparent)]
    Tls(#[from] TlsFileError),
    #[error("the broker: {0}")]
    Connection(#[from] Box<rumqttc::ConnectionError>),
    #[error("the broker did not answer in time")]
    NoAnswer,
    #[error("the connection ended before the broker had confirmed everything")]
    Unconfirmed,
    #[error("the database: {0}")]
    Database(#[from] Error),
}

/// A user property of MQTT 5 with which servers recognize the empty messages of cleanups.
const CLEARING: (&str, &str) = ("smarthome", "clearing");

/// Whether this user property says that a server sent the message to delete a retained one.
pub(super) fn is_clearing(name: &[u8], value: &[u8]) -> bool {
    (name, value) == (CLEARING.0.as_bytes(), CLEARING.1.as_bytes())
}

pub(super) fn clearing_properties() -> PublishProperties {
    let (name, value) = CLEARING;
    PublishProperties { user_properties: vec![(name.to_owned(), value.to_owned())], ..PublishProperties::default() }
}

/// The task that cleans up.
pub struct Cleaner {
    pub mqtt: MqttSettings,
    /// For the connection that holds the leader's lock.
    pub database: DatabaseSettings,
    pub cleanups: Cleanups,
    pub metrics: Metrics,
}

impl Cleaner {
    /// Runs until `stop`. After an error of the broker or the database it tries again.
    pub async fn run(self, stop: CancellationToken) {
        let pauses = LeaderPauses {
            not_leader: LEAD_RETRY,
            backoff: Backoff::new(BACKOFF_FIRST, BACKOFF_MAX),
            stable_after: BACKOFF_MAX,
        };
        let (settings, refusals) = (self.account(), Refusals::default());
        let lead = || self.lead(&settings, &refusals);
        single_leader("the cleanup of deleted devices at the broker", pauses, stop, lead).await;
    }

    /// The settings of connections.
    fn account(&self) -> MqttSettings {
        match &self.mqtt.provisioning {
            Provisioning::Dynsec(account) => MqttSettings {
                username: Some(account.username.clone()),
                password: Some(account.password.clone()),
                ..self.mqtt.clone()
            },
            Provisioning::None | Provisioning::Embedded => self.mqtt.clone(),
        }
    }

    /// Returns at once where another server is the leader, else only with an error.
    async fn lead(&self, settings: &MqttSettings, refusals: &Refusals) -> Result<(), CleanupError> {
        let Some(mut leader) = self.cleanups.try_lead(&self.database).await? else { return Ok(()) };
        loop {
            let due = leader.due(CLEANUPS).await?;
            let mut failed = None;
            for cleanup in &due {
                // A cleanup that fails does not hold up those after it.
                match clean_up(settings, cleanup, refusals).await {
                    Ok(()) => {
                        leader.confirm(cleanup).await?;
                        self.metrics.broker_cleanups.inc();
                    }
                    Err(error) => failed = Some(error),
                }
            }
            if let Some(error) = failed {
                return Err(error);
            }
            if due.is_empty() {
                sleep(POLL_INTERVAL).await;
            }
        }
    }
}

/// Refusals of the broker that the log has already.
#[derive(Default)]
struct Refusals {
    of_sessions: AtomicBool,
    of_topics: AtomicBool,
}

async fn clean_up(settings: &MqttSettings, cleanup: &Cleanup, refusals: &Refusals) -> Result<(), CleanupError> {
    let session = match Session::replace(settings, cleanup.client_id.clone()).await? {
        Some(session) => session,
        None => {
            if !refusals.of_sessions.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    "the broker does not let the server use the client ids of deleted devices: their sessions stay there until they expire"
                );
            }
            let own = format!("{}-cleanup", settings.client_id);
            Session::replace(settings, own).await?.ok_or(CleanupError::Unconfirmed)?
        }
    };
    let cleared = session.clear(&settings.prefix, &cleanup.topics).await?;
    if cleared == Cleared::Refused && !refusals.of_topics.swap(true, Ordering::Relaxed) {
        tracing::warn!(
            "the broker does not let the server delete retained messages of deleted devices: see \"What a deleted device leaves\" in docs/brokers.md"
        );
    }
    Ok(())
}
