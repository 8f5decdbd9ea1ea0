//! What a device answers, and what several answers in one batch come to.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::command::{CommandStatus, ConfirmedBy};
use crate::db::JsonText;
use crate::ids::{CommandId, DeviceId};

/// Characters kept of a device's own words.
const MAX_ERROR_CHARS: usize = 1_000;

/// What was heard of a command.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The command it names.
    pub command: CommandId,
    /// Who answered: counts for its own commands alone.
    pub device: DeviceId,
    /// What it says.
    pub kind: AnswerKind,
    /// When it was received.
    pub at: DateTime<Utc>,
}

/// What an answer says.
#[derive(Debug, Clone, PartialEq)]
pub enum AnswerKind {
    /// The device has it.
    Acked,
    /// The device did it.
    Succeeded {
        /// What came of it.
        result: Option<Value>,
    },
    /// The device could not do it.
    Failed {
        /// Why, in its own words.
        error: Option<String>,
        /// What came of it.
        result: Option<Value>,
    },
    /// A reading or a status shows what was expected.
    Effect,
}

/// All that one batch says of a command.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Folded {
    pub(super) acked_at: Option<DateTime<Utc>>,
    pub(super) end: Option<End>,
}

/// An outcome.
#[derive(Debug, PartialEq)]
pub(super) struct End {
    pub(super) status: CommandStatus,
    pub(super) confirmed_by: ConfirmedBy,
    pub(super) at: DateTime<Utc>,
    pub(super) result: Option<JsonText>,
    pub(super) error: Option<String>,
}

impl Folded {
    /// Takes the next answer in. The first outcome stands, but the device's own word is more than an
    /// effect.
    pub(super) fn add(&mut self, answer: &Answer) {
        let end = |status, confirmed_by, result: Option<&Value>, error: Option<&str>| End {
            status,
            confirmed_by,
            at: answer.at,
            result: result.map(JsonText::of),
            error: error.map(storable),
        };
        let is_confirmed = self.end.as_ref().is_some_and(|end| end.confirmed_by == ConfirmedBy::Ack);
        match &answer.kind {
            AnswerKind::Acked if !is_confirmed => self.acked_at = self.acked_at.or(Some(answer.at)),
            AnswerKind::Succeeded { result } if !is_confirmed => {
                self.end = Some(end(CommandStatus::Succeeded, ConfirmedBy::Ack, result.as_ref(), None));
            }
            AnswerKind::Failed { error, result } if !is_confirmed => {
                let error = error.as_deref().unwrap_or("the device gave no reason");
                self.end = Some(end(CommandStatus::Failed, ConfirmedBy::Ack, result.as_ref(), Some(error)));
            }
            AnswerKind::Effect if self.end.is_none() => {
                self.end = Some(end(CommandStatus::Succeeded, ConfirmedBy::Effect, None, None));
            }
            _ => {}
        }
    }
}

/// PostgreSQL stores no NUL, and a device may say anything.
fn storable(text: &str) -> String {
    text.chars().take(MAX_ERROR_CHARS).map(|c| if c == '\0' { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fold(kinds: Vec<AnswerKind>) -> Folded {
        let mut folded = Folded::default();
        for (second, kind) in (0..).zip(kinds) {
            let at = DateTime::from_timestamp(second, 0).unwrap();
            folded.add(&Answer { command: CommandId::generate(), device: DeviceId::from_database(1), kind, at });
        }
        folded
    }

    #[test]
    fn the_first_outcome_stands_and_what_follows_it_is_late() {
        let done = || AnswerKind::Succeeded { result: None };
        let failed = || AnswerKind::Failed { error: Some("a\0b".to_owned()), result: None };
        let seen = |kinds| {
            let folded = fold(kinds);
            let second = |at: DateTime<Utc>| at.timestamp();
            let end = folded.end.map(|end| (end.status, end.confirmed_by, second(end.at)));
            (folded.acked_at.map(second), end)
        };
        use CommandStatus::{Failed, Succeeded};
        use ConfirmedBy::{Ack, Effect};
        assert_eq!(seen(vec![AnswerKind::Acked, AnswerKind::Acked]), (Some(0), None));
        assert_eq!(seen(vec![AnswerKind::Acked, done(), failed()]), (Some(0), Some((Succeeded, Ack, 1))));
        assert_eq!(seen(vec![failed(), done(), AnswerKind::Acked]), (None, Some((Failed, Ack, 0))));
        assert_eq!(seen(vec![AnswerKind::Effect, AnswerKind::Acked, failed()]), (Some(1), Some((Failed, Ack, 2))));
        assert_eq!(seen(vec![AnswerKind::Effect, AnswerKind::Effect]), (None, Some((Succeeded, Effect, 0))));
        assert_eq!(fold(vec![failed()]).end.unwrap().error.as_deref(), Some("a\u{fffd}b"));
    }
}
