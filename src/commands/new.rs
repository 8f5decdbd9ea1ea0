//! A command to send, and what is checked before it is stored.

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

/// Bytes of a payload, as JSON.
pub const MAX_PAYLOAD_BYTES: usize = 8 << 10;
/// Bytes of a type.
const MAX_TYPE_BYTES: usize = 64;
/// Characters of a correlation id or an idempotency key.
const MAX_NAME_CHARS: usize = 128;
/// Seconds an answer may be waited for.
const TIMEOUT_SECONDS: std::ops::RangeInclusive<i64> = 1..=86_400;
/// Seconds a command may wait to be sent.
const EXPIRY_SECONDS: std::ops::RangeInclusive<i64> = 1..=604_800;
/// How long an answer is waited for, unless the client says otherwise.
pub const DEFAULT_TIMEOUT_SECONDS: i64 = 30;
/// How long a command may wait to be sent, unless the client says otherwise.
pub const DEFAULT_EXPIRY_SECONDS: i64 = 300;
/// The same for what must not happen late: `RESET`, and whatever a door does.
pub const SHORT_EXPIRY_SECONDS: i64 = 30;

/// A command to send, as a client gives it.
#[derive(Debug, Clone)]
pub struct NewCommand {
    /// What is to be done; the types of the seed are validated, others pass as they are.
    pub kind: String,
    /// Its arguments.
    pub payload: JsonText,
    /// Who acts.
    pub source: CommandSource,
    /// What the requester joins it with; one is made where none is given.
    pub correlation_id: Option<String>,
    /// The requester's name for this request: the same again makes no second command.
    pub idempotency_key: Option<String>,
    /// What becomes of it while it waits and a newer one comes; by type where not given.
    pub on_stale: Option<OnStale>,
    /// What shows that it was done.
    pub expect: Option<JsonText>,
    /// Seconds an answer may take.
    pub timeout_seconds: Option<i64>,
    /// Seconds it may wait to be sent; by type and device where not given.
    pub expires_in_seconds: Option<i64>,
}

/// A command that may be stored.
#[derive(Debug, Clone)]
pub(super) struct Checked {
    pub(super) kind: String,
    pub(super) payload: JsonText,
    pub(super) source: CommandSource,
    pub(super) correlation_id: String,
    /// The key, and the digest of all that the client gave.
    pub(super) idempotency: Option<(String, Vec<u8>)>,
    pub(super) on_stale: OnStale,
    pub(super) expect: Option<JsonText>,
    pub(super) timeout_seconds: i32,
    pub(super) expires_in: Duration,
}

impl NewCommand {
    /// Refuses what no device should get, and fills in what was left out.
    pub(super) fn checked(self, device: DeviceId, device_kind: DeviceType) -> Result<Checked, Error> {
        check_type(&self.kind)?;
        let payload = read("payload", &self.payload, MAX_PAYLOAD_BYTES)?;
        check_payload(&self.kind, &payload)?;
        let expect = self.expect.as_ref().map(|text| read("expect", text, usize::MAX)).transpose()?;
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

    /// Of what was given and not of what was filled in: a repeat is known whatever the defaults are by then.
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

/// The value, where it is not too large and not nested too deeply to be read again.
fn read(field: &'static str, text: &JsonText, max_bytes: usize) -> Result<Value, Error> {
    let n_bytes = text.as_str().len();
    if n_bytes > max_bytes {
        let message = format!("{field} has {n_bytes} bytes of JSON; it may have {max_bytes}");
        return Err(Error::TooLarge { field, message });
    }
    serde_json::from_str(text.as_str()).map_err(|_| Error::bad_input(field, format!("{field} nests too deeply")))
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

/// What the types of the seed demand. Fields they do not know pass.
fn check_payload(kind: &str, payload: &Value) -> Result<(), Error> {
    let known = ["SET_POWER", "SET_BRIGHTNESS", "SET_COLOR", "RESET", "UPDATE_CONFIG"];
    if !known.contains(&kind) {
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
    let is_right = match fields.get("brightness") {
        None => !is_required,
        Some(value) => value.as_f64().is_some_and(|value| (0.0..=100.0).contains(&value)),
    };
    let expected = "payload.brightness must be a number from 0 to 100";
    if is_right { Ok(()) } else { Err(Error::bad_input("payload.brightness", expected)) }
}

fn color(fields: &Map<String, Value>, is_required: bool) -> Result<(), Error> {
    let is_color = |text: &str| {
        text.strip_prefix('#').is_some_and(|hex| hex.len() == 6 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    let is_right = match fields.get("color") {
        None => !is_required,
        Some(value) => value.as_str().is_some_and(is_color),
    };
    if is_right { Ok(()) } else { Err(Error::bad_input("payload.color", "payload.color must be like \"#FF8800\"")) }
}

/// A command's payload can be read by every member of the home.
fn no_secret(value: &Value) -> Result<(), Error> {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if validation::is_secret_key(name) {
                    let message =
                        format!("payload holds {name:?}, a secret: send secrets with pushConfig, which seals them");
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
