//! Statuses: presence, health, and what the device reports itself to be.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::{Content, insert_bounded, is_health, read_health};
use crate::devices::{Report, StatusReport};
use crate::mqtt::json::{self, Budget, Object};
use crate::mqtt::rejection::Rejection;
use crate::mqtt::timestamp;

/// Bytes of a state, as JSON without spaces.
pub(super) const MAX_STATE_BYTES: usize = 8 * 1024;
/// Fields of the message itself that are no part of the state.
const NO_STATE: [&str; 4] = ["online", "timestamp", "deviceId", "errors"];

pub(super) fn is_field(name: &str) -> bool {
    matches!(name, "online" | "status" | "timestamp")
}

pub(super) fn read(object: &Object<'_>, now: DateTime<Utc>) -> Result<Content, Rejection> {
    // Strictly a boolean: a text such as "false" is not taken for true.
    let online = object.get("online").and_then(json::boolean).ok_or(Rejection::BadShape)?;
    let fields = object.get("status").and_then(|raw| Object::parse(raw, is_health));
    let mut report = Report::default();
    for (name, raw) in fields.iter().flat_map(Object::iter) {
        read_health(&mut report, name, raw);
    }
    // A Last Will was written before the device knew its last state.
    let (state, n_dropped) = if online { read_state(object, fields.as_ref()) } else { (None, 0) };
    let (mut budget, mut last_status) = (Budget::default(), Map::new());
    for (name, raw) in object.iter() {
        insert_bounded(&mut last_status, name, raw, &mut budget);
    }
    let timestamp = object.get("timestamp").and_then(|raw| timestamp::parse(raw, now));
    let last_status = Value::Object(last_status);
    Ok(Content::Status(Box::new(StatusReport { online, report, last_status, timestamp, state, n_dropped })))
}

/// The state in a status: the fields of its object `status`, then those beside it. `None` if there are none, or if they
/// take too much. The number says how many could not be stored.
fn read_state(message: &Object<'_>, fields: Option<&Object<'_>>) -> (Option<Value>, usize) {
    let (mut state, mut budget) = (Map::new(), Budget::default());
    let mut n_dropped = fields.map_or(0, |fields| fields.n_skipped);
    for (name, raw) in fields.into_iter().flat_map(Object::iter).filter(|(name, _)| !is_health(name)) {
        n_dropped += usize::from(!insert_bounded(&mut state, name, raw, &mut budget));
    }
    for (name, raw) in message.iter() {
        let is_status = name == "status" && (fields.is_some() || raw == "null");
        if !is_status && !NO_STATE.contains(&name) && !state.contains_key(name) {
            n_dropped += usize::from(!insert_bounded(&mut state, name, raw, &mut budget));
        }
    }
    let n_fields = state.len();
    let state = Value::Object(state);
    if state.to_string().len() > MAX_STATE_BYTES {
        return (None, n_dropped + n_fields);
    }
    ((n_fields > 0).then_some(state), n_dropped)
}
