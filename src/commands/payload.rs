//! The MQTT payload of a command (docs/device-protocol.md).

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::value::RawValue;

use super::command::{Command, CommandSource};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    command_id: String,
    timestamp: String,
    #[serde(rename = "type")]
    kind: &'a str,
    payload: &'a RawValue,
    source: CommandSource,
    correlation_id: &'a str,
    expires_at: String,
}

/// The command as JSON, its arguments spelled as the client spelled them.
pub(super) fn to_payload(command: &Command) -> Vec<u8> {
    let rfc3339 = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Millis, true);
    let payload = Payload {
        command_id: command.id.to_string(),
        timestamp: rfc3339(command.created_at),
        kind: &command.kind,
        payload: serde_json::from_str(command.payload.as_str()).expect("the column holds JSON"),
        source: command.source,
        correlation_id: &command.correlation_id,
        expires_at: rfc3339(command.expires_at),
    };
    serde_json::to_vec(&payload).expect("text and JSON")
}
