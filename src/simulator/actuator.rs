//! How a virtual device executes commands and applies configurations, and its `ack` payloads. A command that arrives
//! twice (QoS 1) is executed once and answered twice.

use std::collections::VecDeque;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Command ids a device remembers; an ESP32 has little memory.
const REMEMBERED: usize = 32;
const MAX_SAMPLE_RATE_S: f64 = 86_400.0;

/// One `ack` message.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ack {
    #[serde(skip_serializing_if = "Option::is_none")]
    command_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    config_version: Option<i64>,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<Map<String, Value>>,
}

impl Ack {
    fn new(status: &'static str) -> Self {
        Self { command_id: None, config_version: None, status, error: None, result: None, errors: None }
    }

    fn failed(error: &'static str) -> Self {
        Self { error: Some(error), ..Self::new("FAILED") }
    }

    /// The answer before a command's final answer.
    pub(crate) fn received(command_id: &str) -> Self {
        Self { command_id: Some(command_id.to_owned()), ..Self::new("ACKED") }
    }

    /// Whether the command was executed.
    pub(crate) fn is_success(&self) -> bool {
        self.status == "SUCCEEDED"
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Command {
    command_id: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    payload: Map<String, Value>,
    expires_at: Option<DateTime<Utc>>,
}

#[derive(Deserialize)]
struct Config {
    config: Map<String, Value>,
    version: Option<i64>,
}

/// The outputs of a board.
#[derive(Default)]
pub(crate) struct Actuator {
    state: Map<String, Value>,
    /// The outcomes of recent commands, by id.
    executed: VecDeque<(String, Ack)>,
    sample_rate: Option<Duration>,
    restart: bool,
}

/// A command and its outcome.
pub(crate) struct Executed {
    pub(crate) command_id: String,
    pub(crate) expires_at: Option<DateTime<Utc>>,
    /// The final answer.
    pub(crate) outcome: Ack,
    /// The visible change, if the command made one.
    pub(crate) effect: Option<Effect>,
}

/// The visible change of a command.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Effect {
    /// These outputs have new values.
    Set(Map<String, Value>),
    /// The board restarted: no output is set.
    Cleared,
}

impl Actuator {
    /// Executes a command, unless the device `refuses`. A payload that is not a command has no id to answer.
    pub(crate) fn execute(&mut self, payload: &[u8], now: DateTime<Utc>, refuses: bool) -> Option<Executed> {
        let command: Command = serde_json::from_slice(payload).ok()?;
        let known = self.executed.iter().find(|(id, _)| *id == command.command_id).map(|(_, outcome)| outcome.clone());
        let is_new = known.is_none();
        let outcome = known.unwrap_or_else(|| {
            let outcome = if refuses { Ack::failed("the device refused") } else { self.apply(&command, now) };
            let outcome = Ack { command_id: Some(command.command_id.clone()), ..outcome };
            if self.executed.len() == REMEMBERED {
                self.executed.pop_front();
            }
            self.executed.push_back((command.command_id.clone(), outcome.clone()));
            outcome
        });
        // A repeat changes nothing, so it has no visible effect.
        let effect = if command.kind == "RESET" { Effect::Cleared } else { Effect::Set(command.payload) };
        let effect = (is_new && outcome.is_success()).then_some(effect);
        Some(Executed { command_id: command.command_id, expires_at: command.expires_at, outcome, effect })
    }

    fn apply(&mut self, command: &Command, now: DateTime<Utc>) -> Ack {
        if command.expires_at.is_some_and(|expires_at| expires_at < now) {
            return Ack::failed("expired");
        }
        match command.kind.as_str() {
            "RESET" => {
                self.restart = true;
                self.state.clear();
            }
            "SET_POWER" if !command.payload.get("power").is_some_and(Value::is_boolean) => {
                return Ack::failed("payload.power: expected true or false");
            }
            // Every other type sets the outputs in its payload: a virtual board has every output.
            _ => self.state.extend(command.payload.clone()),
        }
        Ack { result: Some(Value::Object(self.state.clone())), ..Ack::new("SUCCEEDED") }
    }

    /// Applies a configuration as a whole or rejects it with an error for each unusable key. A device that `refuses`
    /// rejects every key. A configuration without a version has no answer.
    pub(crate) fn configure(&mut self, payload: &[u8], refuses: bool) -> Option<Ack> {
        let config: Config = serde_json::from_slice(payload).ok()?;
        let mut errors = Map::new();
        let sample_rate = config.config.get("sampleRate").map(Value::as_f64);
        match sample_rate {
            _ if refuses => errors.extend(config.config.keys().map(|key| (key.clone(), json!("the device refused")))),
            Some(Some(seconds)) if seconds > 0.0 && seconds <= MAX_SAMPLE_RATE_S => {
                self.sample_rate = Some(Duration::from_secs_f64(seconds));
            }
            Some(_) => {
                errors.insert("sampleRate".to_owned(), json!("expected seconds, more than 0 and at most 86400"));
            }
            None => {}
        }
        let status = if errors.is_empty() && !refuses { "APPLIED" } else { "REJECTED" };
        let errors = (!errors.is_empty()).then_some(errors);
        Some(Ack { config_version: Some(config.version?), errors, ..Ack::new(status) })
    }

    /// The outputs: those that commands have set, and whether the load is on.
    pub(crate) fn outputs(&self) -> Map<String, Value> {
        let mut outputs = self.state.clone();
        outputs.insert("power".to_owned(), self.is_on().into());
        outputs
    }

    /// Whether the load is on.
    pub(crate) fn is_on(&self) -> bool {
        self.state.get("power").and_then(Value::as_bool).unwrap_or(true)
    }

    /// Whether a command asked for a restart; clears the request.
    pub(crate) fn take_restart(&mut self) -> bool {
        std::mem::take(&mut self.restart)
    }

    /// The configured time between readings.
    pub(crate) fn sample_rate(&self) -> Option<Duration> {
        self.sample_rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(actuator: &mut Actuator, payload: &str, refuses: bool) -> Option<Executed> {
        let now = DateTime::from_timestamp(1_770_984_000, 0).unwrap();
        actuator.execute(payload.as_bytes(), now, refuses)
    }

    fn outcome(actuator: &mut Actuator, payload: &str) -> Value {
        json!(command(actuator, payload, false).unwrap().outcome)
    }

    #[test]
    fn a_command_succeeds_and_a_repeat_changes_nothing() {
        let mut actuator = Actuator::default();
        let off = r##"{"commandId":"cmd_1","timestamp":"2026-02-13T12:00:00.000Z","type":"SET_POWER",
            "payload":{"power":false,"color":"#FF5733"},"source":"USER","correlationId":"corr_1"}"##;
        let expected =
            json!({"commandId": "cmd_1", "status": "SUCCEEDED", "result": {"power": false, "color": "#FF5733"}});
        assert_eq!(outcome(&mut actuator, off), expected);
        assert!(!actuator.is_on());
        outcome(&mut actuator, r#"{"commandId":"cmd_2","type":"SET_POWER","payload":{"power":true}}"#);
        assert_eq!(outcome(&mut actuator, off), expected);
        assert!(actuator.is_on());
        assert_eq!(json!(Ack::received("cmd_1")), json!({"commandId": "cmd_1", "status": "ACKED"}));
    }

    #[test]
    fn a_refused_command_changes_nothing_also_when_it_is_repeated() {
        let mut actuator = Actuator::default();
        let off = r#"{"commandId":"a","type":"SET_POWER","payload":{"power":false}}"#;
        let refused = command(&mut actuator, off, true).unwrap();
        assert_eq!((json!(refused.outcome)["status"].clone(), refused.effect), (json!("FAILED"), None));
        assert_eq!(outcome(&mut actuator, off)["status"], "FAILED");
        assert!(actuator.is_on());
    }

    #[test]
    fn an_executed_command_has_a_visible_effect() {
        let mut actuator = Actuator::default();
        let dim = r#"{"commandId":"a","type":"SET_BRIGHTNESS","payload":{"brightness":40}}"#;
        let Some(Effect::Set(set)) = command(&mut actuator, dim, false).unwrap().effect else { panic!() };
        assert_eq!(json!(set), json!({"brightness": 40}));
        assert_eq!(command(&mut actuator, dim, false).unwrap().effect, None, "a repeat");
        let reset = command(&mut actuator, r#"{"commandId":"b","type":"RESET"}"#, false).unwrap();
        assert_eq!(reset.effect, Some(Effect::Cleared));
    }

    #[test]
    fn a_late_or_invalid_command_fails_with_its_reason() {
        let mut actuator = Actuator::default();
        for (payload, error) in [
            (r#"{"commandId":"a","type":"X","expiresAt":"2026-02-13T11:59:59Z"}"#, "expired"),
            (r#"{"commandId":"b","type":"SET_POWER","payload":{"power":1}}"#, "payload.power: expected true or false"),
        ] {
            assert_eq!(outcome(&mut actuator, payload)["error"], error);
        }
        assert!(command(&mut actuator, "not JSON", false).is_none());
    }

    #[test]
    fn a_configuration_is_applied_or_rejected_by_key() {
        let mut actuator = Actuator::default();
        let applied =
            actuator.configure(br#"{"version":3,"config":{"sampleRate":5,"powerSaving":true}}"#, false).unwrap();
        assert_eq!(json!(applied), json!({"configVersion": 3, "status": "APPLIED"}));
        assert_eq!(actuator.sample_rate(), Some(Duration::from_secs(5)));
        let rejected = json!(actuator.configure(br#"{"version":4,"config":{"sampleRate":-1}}"#, false));
        assert_eq!(rejected["status"], "REJECTED");
        assert!(rejected["errors"]["sampleRate"].is_string());
        assert_eq!(actuator.sample_rate(), Some(Duration::from_secs(5)));
        let refused = json!(actuator.configure(br#"{"version":5,"config":{"sampleRate":9}}"#, true));
        assert_eq!(refused["errors"], json!({"sampleRate": "the device refused"}));
        assert_eq!(actuator.sample_rate(), Some(Duration::from_secs(5)));
        assert_eq!(actuator.configure(br#"{"config":{}}"#, false), None);
    }
}
