//! Answers of devices, and the merge of several answers that arrive in one batch.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::command::{CommandStatus, ConfirmedBy};
use crate::db::JsonText;
use crate::ids::{CommandId, DeviceId};

/// Characters kept of the error text of a device.
const MAX_ERROR_CHARS: usize = 1_000;
/// The error of a command whose device reported failure without a reason.
const NO_REASON: &str = "the device gave no reason";

/// Something received that concerns a command.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub command: CommandId,
    /// The sender. The answer counts for a command to this device only.
    pub device: DeviceId,
    pub kind: AnswerKind,
    /// When it was received.
    pub at: DateTime<Utc>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum AnswerKind {
    /// The device has received the command.
    Acked,
    Succeeded {
        result: Option<Value>,
    },
    Failed {
        /// The device's own text.
        error: Option<String>,
        result: Option<Value>,
    },
    /// A reading or a status message shows the expected effect.
    Effect,
}

/// The answers of one batch to one command.
#[derive(Debug, Default, PartialEq)]
pub(super) struct MergedAnswers {
    pub(super) acked_at: Option<DateTime<Utc>>,
    pub(super) outcome: Option<Outcome>,
}

#[derive(Debug, PartialEq)]
pub(super) struct Outcome {
    pub(super) status: CommandStatus,
    pub(super) confirmed_by: ConfirmedBy,
    pub(super) at: DateTime<Utc>,
    pub(super) result: Option<JsonText>,
    pub(super) error: Option<String>,
}

impl MergedAnswers {
    /// Merges the next answer. The first outcome counts, but an answer of the device replaces an effect.
    pub(super) fn add(&mut self, answer: &Answer) {
        let outcome = |status, confirmed_by, result: Option<&Value>, error: Option<&str>| Outcome {
            status,
            confirmed_by,
            at: answer.at,
            result: result.map(JsonText::of),
            error: error.map(storable),
        };
        let is_answered = self.outcome.as_ref().is_some_and(|outcome| outcome.confirmed_by == ConfirmedBy::Ack);
        match &answer.kind {
            AnswerKind::Acked if !is_answered => self.acked_at = self.acked_at.or(Some(answer.at)),
            AnswerKind::Succeeded { result } if !is_answered => {
                self.outcome = Some(outcome(CommandStatus::Succeeded, ConfirmedBy::Ack, result.as_ref(), None));
            }
            AnswerKind::Failed { error, result } if !is_answered => {
                let error = error.as_deref().unwrap_or(NO_REASON);
                self.outcome = Some(outcome(CommandStatus::Failed, ConfirmedBy::Ack, result.as_ref(), Some(error)));
            }
            AnswerKind::Effect if self.outcome.is_none() => {
                self.outcome = Some(outcome(CommandStatus::Succeeded, ConfirmedBy::Effect, None, None));
            }
            _ => {}
        }
    }
}

/// Replaces NUL, which PostgreSQL can't store, and limits the length.
fn storable(text: &str) -> String {
    text.chars().take(MAX_ERROR_CHARS).map(|c| if c == '\0' { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merge(kinds: Vec<AnswerKind>) -> MergedAnswers {
        let mut merged = MergedAnswers::default();
        for (second, kind) in (0..).zip(kinds) {
            let at = DateTime::from_timestamp(second, 0).unwrap();
            merged.add(&Answer { command: CommandId::generate(), device: DeviceId::from_database(1), kind, at });
        }
        merged
    }

    #[test]
    fn the_first_outcome_counts_and_later_answers_are_ignored() {
        let succeeded = || AnswerKind::Succeeded { result: None };
        let failed = || AnswerKind::Failed { error: Some("a\0b".to_owned()), result: None };
        let seconds = |kinds| {
            let merged = merge(kinds);
            let second = |at: DateTime<Utc>| at.timestamp();
            let outcome = merged.outcome.map(|outcome| (outcome.status, outcome.confirmed_by, second(outcome.at)));
            (merged.acked_at.map(second), outcome)
        };
        use CommandStatus::{Failed, Succeeded};
        use ConfirmedBy::{Ack, Effect};
        assert_eq!(seconds(vec![AnswerKind::Acked, AnswerKind::Acked]), (Some(0), None));
        assert_eq!(seconds(vec![AnswerKind::Acked, succeeded(), failed()]), (Some(0), Some((Succeeded, Ack, 1))));
        assert_eq!(seconds(vec![failed(), succeeded(), AnswerKind::Acked]), (None, Some((Failed, Ack, 0))));
        assert_eq!(seconds(vec![AnswerKind::Effect, AnswerKind::Acked, failed()]), (Some(1), Some((Failed, Ack, 2))));
        assert_eq!(seconds(vec![AnswerKind::Effect, AnswerKind::Effect]), (None, Some((Succeeded, Effect, 0))));
        assert_eq!(merge(vec![failed()]).outcome.unwrap().error.as_deref(), Some("a\u{fffd}b"));
    }
}
