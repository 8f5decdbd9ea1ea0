//! A command to send: its defaults, its limits and the checks before it is stored.

use std::time::Duration;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::command::{CommandSource, OnStale};
use super::expect::Expect;
use crate::db::JsonText;
use crate::devices::DeviceType;
use crate::error::Error;
use crate::ids::{self, DeviceId};
use crate::validation;

/// Bytes of JSON of a payload.
pub const MAX_COMMAND_PAYLOAD_BYTES: usize = 8 << 10;
const MAX_TYPE_BYTES: usize = 64;
/// Characters of `correlationId` and `idempotencyKey`.
const MAX_NAME_CHARS: usize = 128;
/// Allowed `timeoutSeconds`.
const TIMEOUT_SECONDS: std::ops::RangeInclusive<i64> = 1..=86_400;
/// Allowed `expiresInSeconds`.
const EXPIRY_SECONDS: std::ops::RangeInclusive<i64> = 1..=604_800;
/// Seconds until a command without an answer times out.
pub const DEFAULT_TIMEOUT_SECONDS: i64 = 30;
/// Seconds until a command that was not sent expires.
pub const DEFAULT_EXPIRY_SECONDS: i64 = 300;
/// The same for commands that must not run late: `RESET`, and every command to a door.
pub const SHORT_EXPIRY_SECONDS: i64 = 30;

/// A command to send, as the client requests it.
#[derive(Debug, Clone)]
pub struct NewCommand {
    /// The payload of a type of the device protocol is checked; other types pass unchecked.
    pub kind: String,
    pub payload: JsonText,
    pub source: CommandSource,
    /// Generated where `None`.
    pub correlation_id: Option<String>,
    /// A repeated request with the same key makes no second command.
    pub idempotency_key: Option<String>,
    /// By type where `None`.
    pub on_stale: Option<OnStale>,
    pub expect: Option<JsonText>,
    pub timeout_seconds: Option<i64>,
    /// By type and device where `None`.
    pub expires_in_seconds: Option<i64>,
}

/// A checked command with its defaults.
#[derive(Debug, Clone)]
pub(super) struct Checked {
    pub(super) kind: String,
    pub(super) payload: JsonText,
    pub(super) source: CommandSource,
    pub(super) correlation_id: String,
    /// The key and the digest of the request.
    pub(super) idempotency: Option<(String, Vec<u8>)>,
    pub(super) on_stale: OnStale,
    pub(super) expect: Option<JsonText>,
    pub(super) timeout_seconds: i32,
    pub(super) expires_in: Duration,
}

impl NewCommand {
    /// Checks the request and fills in the defaults.
    pub(super) fn checked(self, device: DeviceId, device_kind: DeviceType) -> Result<Checked, Error> {
        check_type(&self.kind)?;
        let payload = parse("payload", &self.payload, MAX_COMMAND_PAYLOAD_BYTES)?;
        check_payload(&self.kind, &payload)?;
        let expect = self.expect.as_ref().map(|text| parse("expect", text, usize::MAX)).transpose()?;
        if let (Some(value), Some(text)) = (&expect, &self.expect) {
            Expect::parse(value, text.as_str().len())?;
        }
        let timeout_seconds = self.timeout_seconds.unwrap_or(DEFAULT_TIMEOUT_SECONDS);
        in_range("timeoutSeconds", timeout_seconds, TIMEOUT_SECONDS)?;
        let must_be_prompt = self.kind == "RESET" || device_kind == DeviceType::Door;
        let default = if must_be_prompt { SHORT_EXPIRY_SECONDS } else { DEFAULT_EXPIRY_SECONDS };
        let expires_in = self.expires_in_seconds.unwrap_or(default);
        in_range("expiresInSeconds", expires_in, EXPIRY_SECONDS)?;
        if let Some(id) = &self.correlation_id {
            check_name("correlationId", id)?;
        }
        let idempotency = match &self.idempotency_key {
            Some(key) => {
                check_name("idempotencyKey", key)?;
                Some((key.clone(), self.digest(device, &payload, expect.as_ref())))
            }
            None => None,
        };
        let on_stale = self.on_stale.unwrap_or(match self.kind.as_str() {
            "SET_POWER" | "SET_BRIGHTNESS" | "SET_COLOR" => OnStale::Supersede,
            _ => OnStale::Expire,
        });
        Ok(Checked {
            kind: self.kind,
            payload: self.payload,
            source: self.source,
            correlation_id: self.correlation_id.unwrap_or_else(|| format!("corr_{}", ids::ulid())),
            idempotency,
            on_stale,
            expect: self.expect,
            timeout_seconds: i32::try_from(timeout_seconds).expect("in range"),
            expires_in: Duration::from_secs(expires_in.unsigned_abs()),
        })
    }

    /// The digest of the request without its defaults: a repetition is recognized even if a default has changed.
    fn digest(&self, device: DeviceId, payload: &Value, expect: Option<&Value>) -> Vec<u8> {
        let body = json!([
            device,
            self.kind,
            payload,
            self.source.as_str(),
            self.correlation_id,
            self.on_stale.map(OnStale::as_str),
            expect,
            self.timeout_seconds,
            self.expires_in_seconds,
        ]);
        Sha256::digest(body.to_string()).to_vec()
    }
}

/// The value, if it is neither too large nor nested too deeply for the parser.
fn parse(field: &'static str, text: &JsonText, max_bytes: usize) -> Result<Value, Error> {
    let n_bytes = text.as_str().len();
    if n_bytes > max_bytes {
        let message = format!("{field} has {n_bytes} bytes of JSON; at most {max_bytes} are allowed");
        return Err(Error::TooLarge { field, message });
    }
    serde_json::from_str(text.as_str()).map_err(|_| Error::bad_input(field, format!("{field} is nested too deeply")))
}

fn check_type(kind: &str) -> Result<(), Error> {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b"_.:-".contains(&b);
    if (1..=MAX_TYPE_BYTES).contains(&kind.len()) && kind.bytes().all(is_word) {
        return Ok(());
    }
    let expected = format!("type must be 1 to {MAX_TYPE_BYTES} letters, digits, '_', '.', ':' or '-'");
    Err(Error::bad_input("type", expected))
}

fn check_name(field: &'static str, text: &str) -> Result<(), Error> {
    validation::printable(field, text)?;
    if !(1..=MAX_NAME_CHARS).contains(&text.chars().count()) {
        return Err(Error::bad_input(field, format!("{field} must have 1 to {MAX_NAME_CHARS} characters")));
    }
    Ok(())
}

fn in_range(field: &'static str, seconds: i64, range: std::ops::RangeInclusive<i64>) -> Result<(), Error> {
    if range.contains(&seconds) {
        return Ok(());
    }
    let message = format!("{field} must be a whole number from {} to {}", range.start(), range.end());
    Err(Error::bad_input(field, message))
}

/// Checks the payload of a type of the device protocol (docs/device-protocol.md). Unknown fields pass.
fn check_payload(kind: &str, payload: &Value) -> Result<(), Error> {
    let types = ["SET_POWER", "SET_BRIGHTNESS", "SET_COLOR", "RESET", "UPDATE_CONFIG"];
    if !types.contains(&kind) {
        return Ok(());
    }
    let Value::Object(fields) = payload else {
        return Err(Error::bad_input("payload", format!("the payload of {kind} must be an object")));
    };
    match kind {
        "SET_POWER" => {
            if !matches!(fields.get("power"), Some(Value::Bool(_))) {
                return Err(Error::bad_input("payload.power", "payload.power must be true or false"));
            }
            brightness(fields, false)?;
            color(fields, false)
        }
        "SET_BRIGHTNESS" => brightness(fields, true),
        "SET_COLOR" => color(fields, true),
        "UPDATE_CONFIG" => no_secret(payload),
        _ => Ok(()),
    }
}

fn brightness(fields: &Map<String, Value>, is_required: bool) -> Result<(), Error> {
    let is_valid = match fields.get("brightness") {
        None => !is_required,
        Some(value) => value.as_f64().is_some_and(|value| (0.0..=100.0).contains(&value)),
    };
    let expected = "payload.brightness must be a number from 0 to 100";
    if is_valid { Ok(()) } else { Err(Error::bad_input("payload.brightness", expected)) }
}

fn color(fields: &Map<String, Value>, is_required: bool) -> Result<(), Error> {
    let is_color = |text: &str| {
        text.strip_prefix('#').is_some_and(|hex| hex.len() == 6 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    let is_valid = match fields.get("color") {
        None => !is_required,
        Some(value) => value.as_str().is_some_and(is_color),
    };
    if is_valid { Ok(()) } else { Err(Error::bad_input("payload.color", "payload.color must be like \"#FF8800\"")) }
}

/// Every member of the home can read the payload of a command, so it must not hold a secret.
fn no_secret(value: &Value) -> Result<(), Error> {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if validation::is_secret_key(name) {
                    let message =
                        format!("payload holds {name:?}, a secret: send secrets with pushConfig, which encrypts them");
                    return Err(Error::bad_input("payload", message));
                }
                no_secret(value)?;
            }
            Ok(())
        }
        Value::Array(items) => items.iter().try_for_each(no_secret),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
