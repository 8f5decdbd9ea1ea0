//! Whether the server could provision accounts.

use std::time::Duration;

use tokio::time::timeout;

use super::command::{Command, List};
use super::control::{Control, ControlError};
use crate::settings::{DynsecAccount, MqttSettings};

/// Longest wait for the plugin: an operator waits too.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Asks the plugin for a list of accounts. Its client id is not that of a server, whose connection would end.
pub async fn check(mqtt: &MqttSettings, account: &DynsecAccount) -> Result<(), ControlError> {
    let client_id = format!("{}-doctor-{:08x}", mqtt.client_id, fastrand::u32(..));
    let mqtt = MqttSettings { client_id, ..mqtt.clone() };
    let listing = async {
        let mut control = Control::connect(&mqtt, account).await?;
        let answers = control.request(&[Command::list(List::Clients, 0, 1)]).await?;
        match answers.iter().find(|answer| !answer.is_done()) {
            Some(answer) => Err(ControlError::RefusedRequest(answer.error().to_owned())),
            None => Ok(()),
        }
    };
    timeout(TIMEOUT, listing).await.unwrap_or(Err(ControlError::NoAnswer))
}
