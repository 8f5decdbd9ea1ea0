//! Whether the broker accepts a connection with this server's account.

use std::time::Duration;

use rumqttc::{AckMode, AsyncClient, Event, EventLoop, Incoming};
use tokio::time::timeout;

use super::options;
use crate::settings::MqttSettings;

/// Longest wait for CONNACK, and then for the end of the connection.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Packets that wait in the client: DISCONNECT.
const QUEUE: usize = 1;

/// Connects once, with a client id of its own: no session is touched, and the new one ends with the connection. The error is for
/// the log.
pub async fn probe(settings: &MqttSettings) -> Result<(), String> {
    let settings = MqttSettings { client_id: format!("{}-standby", settings.client_id), ..settings.clone() };
    let mut options = options::build(&settings).map_err(|error| error.to_string())?;
    options.set_clean_start(true).set_session_expiry_interval(None).set_ack_mode(AckMode::Automatic);
    let (client, mut events) = AsyncClient::builder(options).capacity(QUEUE).build();
    match timeout(ANSWER_TIMEOUT, accepted(&mut events)).await {
        Ok(answer) => answer?,
        Err(_) => return Err("no answer in time".to_owned()),
    }
    if client.try_disconnect().is_ok() {
        let _ = timeout(ANSWER_TIMEOUT, async { while events.poll().await.is_ok() {} }).await;
    }
    Ok(())
}

async fn accepted(events: &mut EventLoop) -> Result<(), String> {
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Incoming::ConnAck(_))) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
}
