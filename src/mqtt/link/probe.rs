//! Whether the client id is the reason of a refusal.

use std::time::Duration;

use rumqttc::{AckMode, AsyncClient, Event, Incoming};
use tokio::time::timeout;

use super::Link;
use crate::mqtt::options;
use crate::settings::MqttSettings;

/// Longest wait for CONNACK, and then for the end of the connection.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Packets that wait in the client: DISCONNECT.
const QUEUE: usize = 1;

impl Link {
    /// Whether the broker accepts this server under its own client id, where the link uses another one. That connection has no
    /// subscription, and its session ends with it.
    pub(super) async fn accepts_own_client_id(&mut self) -> bool {
        match &self.own_client_id {
            Some(own) => is_accepted(&MqttSettings { client_id: own.clone(), ..self.settings.clone() }).await,
            None => false,
        }
    }
}

async fn is_accepted(settings: &MqttSettings) -> bool {
    let Ok(mut options) = options::build(settings) else { return false };
    options.set_clean_start(true).set_session_expiry_interval(None).set_ack_mode(AckMode::Automatic);
    let (client, mut events) = AsyncClient::builder(options).capacity(QUEUE).build();
    let answer = async {
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Incoming::ConnAck(_))) => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    };
    let is_accepted = timeout(ANSWER_TIMEOUT, answer).await.unwrap_or(false);
    if is_accepted && client.try_disconnect().is_ok() {
        let _ = timeout(ANSWER_TIMEOUT, async { while events.poll().await.is_ok() {} }).await;
    }
    is_accepted
}
