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
    /// Whether the broker has accepted this server's own client id since the last attempt.
    own_id_accepted: bool,
    refused: Latch,
    taken_over: Latch,
    /// The error of the last attempt: only a different one is logged.
    last_error: Option<String>,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self {
            backoff: Backoff::new(FIRST_PAUSE, MAX_PAUSE),
            refused_since: None,
            own_id_accepted: false,
            refused: Latch::default(),
            taken_over: Latch::default(),
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
        if is_refused(error) {
            self.refused_since.get_or_insert_with(Instant::now);
            if self.own_id_accepted {
                self.refused.set();
            }
        } else {
            self.accepted();
        }
        if is_taken_over(error) {
            // Probably a second server with the same client id. Reconnecting at once would take the session back,
            // and both servers would lose.
            tracing::error!(client_id, "another client uses the client id of this server's session");
            self.backoff.jump_to_max();
            self.taken_over.set();
        }
    }

    /// Set when the broker has refused the client id for some time, and accepts this server's own.
    pub(super) fn refused(&self) -> Latch {
        self.refused.clone()
    }

    /// Set when another client has taken over the session.
    pub(super) fn taken_over(&self) -> Latch {
        self.taken_over.clone()
    }

    /// Whether the broker has refused the client for some time. The reason may be its client id, or its account.
    pub(super) fn is_refused_for_long(&self) -> bool {
        self.refused_since.is_some_and(|since| since.elapsed() > REFUSED)
    }

    /// The broker has accepted the same account under this server's own client id.
    pub(super) fn own_id_accepted(&mut self) {
        self.own_id_accepted = true;
    }

    /// The broker does not refuse the client.
    pub(super) fn accepted(&mut self) {
        (self.refused_since, self.own_id_accepted) = (None, false);
    }

    pub(super) async fn wait(&mut self) {
        self.backoff.wait().await;
    }

    pub(super) fn succeeded(&mut self) {
        self.backoff.reset();
        self.last_error = None;
    }
}

/// Whether the broker refuses the client's user name, password or client id. A ban is no such refusal: it ends by
/// itself.
fn is_refused(error: &ConnectionError) -> bool {
    use ConnectReturnCode::{BadClientId, BadUserNamePassword, ClientIdentifierNotValid, NotAuthorized};
    matches!(
        error,
        ConnectionError::ConnectionRefused(
            BadClientId | BadUserNamePassword | ClientIdentifierNotValid | NotAuthorized
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
