//! The input of `sendCommand`.

use async_graphql::{ID, InputObject};

use super::command_enums::OnStale;
use super::error::Result;
use super::inputs::IntInput;
use super::scalars::Json;
use crate::commands::{CommandSource, DEFAULT_EXPIRY_SECONDS, DEFAULT_TIMEOUT_SECONDS, NewCommand};
use crate::homes::Access;

/// A command to send.
#[derive(InputObject)]
pub(super) struct SendCommandInput {
    /// The ID of the device that receives the command.
    pub(super) device_id: ID,
    /// The type of the command: 1 to 64 letters, digits, `_`, `.`, `:`, `-`. The server validates the payload of
    /// `SET_POWER {power, brightness?, color?}`, `SET_BRIGHTNESS {brightness}` (0 to 100), `SET_COLOR {color}`
    /// (`"#RRGGBB"`), `RESET {}` and `UPDATE_CONFIG {…}` (without secrets: use `pushConfig` for those). It sends
    /// the payload of other types unchanged.
    #[graphql(name = "type")]
    kind: String,
    /// The arguments of the command: at most 8 KiB of JSON. If absent or null, `{}`.
    payload: Option<Json>,
    /// A text of 1 to 128 characters that links the command to your own records. The device receives it too. By
    /// default the server generates one.
    correlation_id: Option<String>,
    /// A key of 1 to 128 characters that makes the request safe to repeat, for example after a lost response or
    /// OUTCOME_UNKNOWN. The same key with the same input returns the first command and sends nothing. The same
    /// key with other input fails with CONFLICT. A key is valid as long as its command is stored.
    idempotency_key: Option<String>,
    /// How many seconds the device has to answer after the command was sent, and again after it was
    /// acknowledged: 1 to 86,400.
    #[graphql(default_with = "Some(IntInput::default_of(DEFAULT_TIMEOUT_SECONDS))")]
    timeout_seconds: Option<IntInput>,
    /// How many seconds the command may wait to be sent: 1 to 604,800. If absent, `RESET` and all commands to a
    /// device of type DOOR wait at most 30 seconds, because they must not be executed late. A command with less
    /// than one second left is not sent.
    #[graphql(default_with = "Some(IntInput::default_of(DEFAULT_EXPIRY_SECONDS))")]
    expires_in_seconds: Option<IntInput>,
    /// What happens to the command if a newer one of its type is sent to the device while it waits. If absent,
    /// SUPERSEDE for `SET_POWER`, `SET_BRIGHTNESS` and `SET_COLOR`, and EXPIRE for all other types.
    on_stale: Option<OnStale>,
    /// The readings or status fields that show the effect of the command, for devices that cannot acknowledge:
    /// `{"powerW": {"min": 5}, "online": true}`. 1 to 16 names, each with a number, a text, true, false, or
    /// `{"min": …, "max": …}`. The first later message that matches all of them makes the command SUCCEEDED,
    /// with `confirmedBy: EFFECT`.
    expect: Option<Json>,
}

impl SendCommandInput {
    pub(super) fn parse(self, access: Access) -> Result<NewCommand> {
        Ok(NewCommand {
            kind: self.kind,
            payload: self.payload.unwrap_or_else(Json::empty_object).text(),
            source: if access.is_integration() { CommandSource::Integration } else { CommandSource::User },
            correlation_id: self.correlation_id,
            idempotency_key: self.idempotency_key,
            on_stale: self.on_stale.map(Into::into),
            expect: self.expect.as_ref().map(Json::text),
            timeout_seconds: IntInput::seconds(self.timeout_seconds, "timeoutSeconds")?,
            expires_in_seconds: IntInput::seconds(self.expires_in_seconds, "expiresInSeconds")?,
        })
    }
}
