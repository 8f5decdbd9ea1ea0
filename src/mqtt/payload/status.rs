//! Statuses: presence and health.

use serde_json::{Map, Value};

use super::{Content, insert_bounded, is_health, read_health};
use crate::devices::{Report, StatusReport};
use crate::mqtt::json::{self, Budget, Object};
use crate::mqtt::rejection::Rejection;

pub(super) fn is_field(name: &str) -> bool {
    matches!(name, "online" | "status")
}

pub(super) fn read(object: &Object<'_>) -> Result<Content, Rejection> {
    // Strictly a boolean: a text such as "false" is not taken for true.
    let online = object.get("online").and_then(json::boolean).ok_or(Rejection::BadShape)?;
    let mut report = Report::default();
    if let Some(fields) = object.get("status").and_then(|raw| Object::parse(raw, is_health)) {
        for (name, raw) in fields.iter() {
            read_health(&mut report, name, raw);
        }
    }
    let (mut budget, mut last_status) = (Budget::default(), Map::new());
    for (name, raw) in object.iter() {
        insert_bounded(&mut last_status, name, raw, &mut budget);
    }
    Ok(Content::Status(StatusReport { online, report, last_status: Value::Object(last_status) }))
}
