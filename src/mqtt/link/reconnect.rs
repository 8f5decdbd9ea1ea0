//! Pauses between connection attempts, and one log line an outage.

use std::time::Duration;

use rumqttc::{ConnectionError, DisconnectReasonCode, StateError};

use crate::backoff::Backoff;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
pub(super) const MAX_PAUSE: Duration = Duration::from_secs(30);

pub(super) struct Reconnect {
    backoff: Backoff,
    /// The error of the last attempt: only a different one is logged.
    last_error: Option<String>,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self { backoff: Backoff::new(FIRST_PAUSE, MAX_PAUSE), last_error: None }
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
        if is_taken_over(error) {
            // Probably a second server with the same client id. Reconnecting at once would take the session back,
            // and both servers would lose.
            tracing::error!(client_id, "another client uses our MQTT_CLIENT_ID");
            self.backoff.jump_to_max();
        }
    }

    pub(super) async fn wait(&mut self) {
        self.backoff.wait().await;
    }

    pub(super) fn succeeded(&mut self) {
        self.backoff.reset();
        self.last_error = None;
    }
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
