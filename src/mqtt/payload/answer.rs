//! The answers of devices to commands and configurations.

use super::Content;
use crate::commands::AnswerKind;
use crate::device_config::ConfigAnswerKind;
use crate::mqtt::json::{self, Budget, Object};
use crate::mqtt::rejection::Rejection;

/// Characters of a device's error text that are stored.
const MAX_REASON: usize = 1_000;

pub(super) fn is_field(name: &str) -> bool {
    matches!(name, "commandId" | "configVersion" | "version" | "status" | "result" | "error" | "errors")
}

/// An answer names either a command or a version of the configuration, as `configVersion` or as the configuration itself
/// does, `version`.
pub(super) fn read(object: &Object<'_>) -> Result<Content, Rejection> {
    let field = |name| object.get(name).filter(|raw| *raw != "null");
    let value = |name| field(name).and_then(|raw| json::value(raw, &mut Budget::default()));
    let status = field("status").and_then(|raw| json::short_text(raw, 16)).ok_or(Rejection::BadShape)?;
    match (field("commandId"), field("configVersion").or_else(|| field("version"))) {
        (Some(id), None) => {
            let id = json::short_text(id, 256).ok_or(Rejection::BadShape)?;
            let result = value("result");
            let kind = match status.as_str() {
                "ACKED" => AnswerKind::Acked,
                "SUCCEEDED" => AnswerKind::Succeeded { result },
                "FAILED" => AnswerKind::Failed { error: field("error").map(reason), result },
                _ => return Err(Rejection::BadShape),
            };
            // An id of another form was never sent: perhaps somebody's own test command.
            Ok(Content::CommandAnswer(id.parse().map_err(|_| Rejection::UnknownCommand)?, kind))
        }
        (None, Some(version)) => {
            let version = version.parse().ok().filter(|version| *version > 0).ok_or(Rejection::BadShape)?;
            let kind = match status.as_str() {
                "APPLIED" => ConfigAnswerKind::Applied,
                "REJECTED" => ConfigAnswerKind::Rejected { errors: value("errors") },
                _ => return Err(Rejection::BadShape),
            };
            Ok(Content::ConfigAnswer(version, kind))
        }
        _ => Err(Rejection::BadShape),
    }
}

/// A device's error text, shortened and without control characters. A value that is no text stays JSON.
fn reason(raw: &str) -> String {
    let text = serde_json::from_str(raw).unwrap_or_else(|_| raw.to_owned());
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_REASON).collect()
}
