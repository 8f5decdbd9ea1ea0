//! Pauses between connection attempts, and one log line an outage.

use std::time::{Duration, Instant};

use rumqttc::{ConnectReturnCode, ConnectionError, DisconnectReasonCode, StateError};

use crate::backoff::Backoff;
use crate::latch::Latch;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
pub(super) const MAX_PAUSE: Duration = Duration::from_secs(30);
/// A broker that refuses the client for longer does so on purpose: it is not about to start.
const REFUSED: Duration = Duration::from_secs(5);

pub(super) struct Reconnect {
    backoff: Backoff,
    /// Since when the broker refuses every attempt.
    refused_since: Option<Instant>,
    refused: Latch,
    /// The error of the last attempt: only a different one is logged.
    last_error: Option<String>,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self {
            backoff: Backoff::new(FIRST_PAUSE, MAX_PAUSE),
            refused_since: None,
            refused: Latch::default(),
            last_error: None,
        }
    }
}

impl Reconnect {
    /// Notes a failed attempt or a lost connection.
    pub(super) fn failed(&mut self, error: &ConnectionError, client_id: &str) {
        let text = error.to_string();
        if self.last_error.as_ref() != Some(&text) {
            tracing::warn!(error = text, "no connection to the MQTT broker; trying again");
            self.last_error = Some(text);
        }
        match is_refused(error) {
            false => self.refused_since = None,
            true if self.refused_since.get_or_insert_with(Instant::now).elapsed() > REFUSED => self.refused.set(),
            true => {}
        }
        if is_taken_over(error) {
            // Probably a second server with the same client id. Reconnecting at once would take the session back,
            // and both servers would lose.
            tracing::error!(client_id, "another client uses our MQTT_CLIENT_ID");
            self.backoff.jump_to_max();
        }
    }

    /// Set when the broker has refused the client for some time.
    pub(super) fn refused(&self) -> Latch {
        self.refused.clone()
    }

    /// The broker has accepted the client.
    pub(super) fn accepted(&mut self) {
        self.refused_since = None;
    }

    pub(super) async fn wait(&mut self) {
        self.backoff.wait().await;
    }

    pub(super) fn succeeded(&mut self) {
        self.backoff.reset();
        self.last_error = None;
    }
}

/// Whether the broker does not let the client in with its name, password and client id.
fn is_refused(error: &ConnectionError) -> bool {
    use ConnectReturnCode::{BadClientId, BadUserNamePassword, Banned, ClientIdentifierNotValid, NotAuthorized};
    matches!(
        error,
        ConnectionError::ConnectionRefused(
            BadClientId | BadUserNamePassword | Banned | ClientIdentifierNotValid | NotAuthorized
        )
    )
}

/// Whether the broker closed the connection because another client connected with the same client id.
fn is_taken_over(error: &ConnectionError) -> bool {
    matches!(
        error,
        ConnectionError::MqttState(StateError::ServerDisconnect {
            reason_code: DisconnectReasonCode::SessionTakenOver,
            ..
        })
    )
}
