//! Whether the broker accepts a connection with this server's account.

use std::time::Duration;

use super::checkup::{ConnectFault, Connection};
use super::options;
use crate::settings::MqttSettings;

/// Longest wait for CONNACK.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects once, with a client id of its own: no session is touched, and the new one ends with the connection. The error is for
/// the log.
pub async fn probe(settings: &MqttSettings) -> Result<(), ConnectFault> {
    let options = options::without_session(settings, format!("{}-standby", settings.client_id))?;
    Connection::open(options, ANSWER_TIMEOUT).await?.close().await;
    Ok(())
}
