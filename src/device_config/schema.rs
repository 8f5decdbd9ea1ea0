//! The keys that every device understands, and their allowed values. Other keys are not checked.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::secrets::PLACEHOLDER;
use crate::error::Error;
use crate::validation::is_secret_key;

/// Seconds: the longest interval between two samples, and between two attempts to connect.
const DAY: f64 = 86_400.0;

fn invalid(field: &'static str, expected: &str) -> Error {
    Error::bad_input(field, format!("{field} must be {expected}"))
}

fn ensure(is_valid: bool, field: &'static str, expected: &str) -> Result<(), Error> {
    if is_valid { Ok(()) } else { Err(invalid(field, expected)) }
}

/// Checks the value of a key, if there is one.
fn check_key(
    entries: &Map<String, Value>,
    key: &str,
    check: impl FnOnce(&Value) -> Result<(), Error>,
) -> Result<(), Error> {
    entries.get(key).map_or(Ok(()), check)
}

fn object<'a>(value: &'a Value, field: &'static str) -> Result<&'a Map<String, Value>, Error> {
    value.as_object().ok_or_else(|| invalid(field, "an object"))
}

fn integer(value: &Value, range: &RangeInclusive<u64>, field: &'static str) -> Result<(), Error> {
    let expected = format!("a whole number from {} to {}", range.start(), range.end());
    ensure(value.as_u64().is_some_and(|n| range.contains(&n)), field, &expected)
}

fn number(value: &Value, range: &RangeInclusive<f64>, field: &'static str) -> Result<(), Error> {
    let expected = format!("a number from {} to {}", range.start(), range.end());
    ensure(value.as_f64().is_some_and(|n| range.contains(&n)), field, &expected)
}

/// Checks a whole configuration. Its secrets may be placeholders.
pub(super) fn check(config: &Map<String, Value>) -> Result<(), Error> {
    check_key(config, "sampleRate", |value| {
        let is_valid = value.as_f64().is_some_and(|seconds| seconds > 0.0 && seconds <= DAY);
        ensure(is_valid, "config.sampleRate", "a number of seconds above 0 and up to 86400")
    })?;
    check_key(config, "alertThresholds", check_thresholds)?;
    check_key(config, "powerSaving", |value| ensure(value.is_boolean(), "config.powerSaving", "true or false"))?;
    check_key(config, "wifiConfig", check_wifi)?;
    check_key(config, "mqttConfig", |value| {
        let entries = object(value, "config.mqttConfig")?;
        check_key(entries, "keepAlive", |value| integer(value, &(1..=65_535), "config.mqttConfig.keepAlive"))?;
        check_key(entries, "qos", |value| integer(value, &(0..=2), "config.mqttConfig.qos"))
    })
}

fn check_thresholds(value: &Value) -> Result<(), Error> {
    for (name, value) in object(value, "config.alertThresholds")? {
        match name.as_str() {
            "gas" => number(value, &(0.0..=1e6), "config.alertThresholds.gas")?,
            "temperature" => number(value, &(-60.0..=200.0), "config.alertThresholds.temperature")?,
            "humidity" => number(value, &(0.0..=100.0), "config.alertThresholds.humidity")?,
            _ => {
                // JSON's numbers are finite.
                let is_valid = value.is_number() || (is_secret_key(name) && value == PLACEHOLDER);
                ensure(is_valid, "config.alertThresholds", &format!("an object of numbers; {name:?} is not a number"))?;
            }
        }
    }
    Ok(())
}

fn check_wifi(value: &Value) -> Result<(), Error> {
    let entries = object(value, "config.wifiConfig")?;
    check_key(entries, "ssid", |value| {
        let is_valid = value.as_str().is_some_and(|ssid| (1..=32).contains(&ssid.len()));
        ensure(is_valid, "config.wifiConfig.ssid", "text of 1 to 32 bytes")
    })?;
    check_key(entries, "password", |value| {
        let is_valid = value.as_str().is_some_and(|text| (8..=63).contains(&text.chars().count()));
        ensure(is_valid, "config.wifiConfig.password", "text of 8 to 63 characters")
    })?;
    check_key(entries, "reconnectInterval", |value| number(value, &(1.0..=DAY), "config.wifiConfig.reconnectInterval"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn known_keys_have_ranges_and_other_keys_are_not_checked() {
        let good = json!({
            "sampleRate": 0.5, "powerSaving": true, "anything": {"else": [null, "x"]}, "SampleRate": "free",
            "alertThresholds": {"gas": 0, "temperature": -60, "humidity": 100, "co2": -1e9},
            "wifiConfig": {"ssid": "ü", "password": "12345678", "reconnectInterval": 1, "hidden": true},
            "mqttConfig": {"keepAlive": 65535, "qos": 0, "topic": "x"},
        });
        check(good.as_object().unwrap()).unwrap();
        check(json!({"sampleRate": 86400, "wifiConfig": {"password": PLACEHOLDER}}).as_object().unwrap()).unwrap();
        for (wrong, field) in [
            (json!({"sampleRate": 0}), "config.sampleRate"),
            (json!({"sampleRate": 86400.5}), "config.sampleRate"),
            (json!({"sampleRate": "5"}), "config.sampleRate"),
            (json!({"sampleRate": null}), "config.sampleRate"),
            (json!({"powerSaving": 1}), "config.powerSaving"),
            (json!({"alertThresholds": 5}), "config.alertThresholds"),
            (json!({"alertThresholds": {"gas": -1}}), "config.alertThresholds.gas"),
            (json!({"alertThresholds": {"gas": null}}), "config.alertThresholds.gas"),
            (json!({"alertThresholds": {"temperature": 200.1}}), "config.alertThresholds.temperature"),
            (json!({"alertThresholds": {"humidity": 101}}), "config.alertThresholds.humidity"),
            (json!({"alertThresholds": {"co2": "high"}}), "config.alertThresholds"),
            (json!({"wifiConfig": "home"}), "config.wifiConfig"),
            (json!({"wifiConfig": {"ssid": ""}}), "config.wifiConfig.ssid"),
            (json!({"wifiConfig": {"ssid": "ü".repeat(17)}}), "config.wifiConfig.ssid"),
            (json!({"wifiConfig": {"password": "1234567"}}), "config.wifiConfig.password"),
            (json!({"wifiConfig": {"password": "1".repeat(64)}}), "config.wifiConfig.password"),
            (json!({"wifiConfig": {"password": 12345678}}), "config.wifiConfig.password"),
            (json!({"wifiConfig": {"reconnectInterval": 0}}), "config.wifiConfig.reconnectInterval"),
            (json!({"mqttConfig": []}), "config.mqttConfig"),
            (json!({"mqttConfig": {"keepAlive": 0}}), "config.mqttConfig.keepAlive"),
            (json!({"mqttConfig": {"keepAlive": 1.5}}), "config.mqttConfig.keepAlive"),
            (json!({"mqttConfig": {"qos": 3}}), "config.mqttConfig.qos"),
        ] {
            match check(wrong.as_object().unwrap()) {
                Err(Error::BadInput { field: found, message }) => {
                    assert_eq!(found, field, "{wrong}");
                    assert!(message.contains(field) && !message.contains("12345678"), "{message}");
                }
                other => panic!("{wrong}: {other:?}"),
            }
        }
    }
}
