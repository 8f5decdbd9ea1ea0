//! One batch: what its messages come to, ready to be committed as often as it takes.

use chrono::{DateTime, Utc};
use tokio::sync::OwnedSemaphorePermit;

use super::store::NewRejected;
use crate::commands::{Answer, AnswerKind};
use crate::device_config::{ConfigAnswer, ConfigVerdict};
use crate::devices::StateChange;
use crate::ids::{DeviceId, HomeId};
use crate::mqtt::{Packet, Receipt, SessionLoss};
use crate::telemetry::{Measurement, NewReading};

/// Messages of one batch, in their order, with what they come to.
#[derive(Default)]
pub(super) struct Batch {
    /// One per message.
    pub(super) rows: Vec<Row>,
    /// At most one per device.
    pub(super) states: Vec<StateChange>,
    /// Commands whose effect a message of this batch shows.
    pub(super) effects: Vec<Answer>,
    /// The broker lost the session before or within this batch.
    pub(super) lost: Option<SessionLoss>,
}

/// One message.
pub(super) struct Row {
    pub(super) outcome: Outcome,
    /// Whose it is taken to be, where that would be judged anew if the device turned out to be no more.
    pub(super) device: Option<DeviceId>,
    /// To be remembered with the batch; `None` where that was done, or means nothing any more.
    pub(super) packet: Option<Packet>,
    pub(super) receipt: Option<Receipt>,
    pub(super) source: Source,
}

/// What a message comes to.
pub(super) enum Outcome {
    /// A reading to be recorded.
    Reading(Box<NewReading>),
    /// A status or heartbeat: it is in `Batch::states`.
    State,
    /// A device's answer to a command.
    CommandAnswer(HomeId, Box<Answer>),
    /// A device's answer to a configuration.
    ConfigAnswer(HomeId, Box<ConfigAnswer>),
    /// Stored already.
    Duplicate,
    /// Counted under its reason; kept where its home exists and has room.
    Rejected(&'static str, Option<NewRejected>),
}

/// What remains of the message itself, should its row be refused.
pub(super) struct Source {
    pub(super) topic: bytes::Bytes,
    pub(super) payload: bytes::Bytes,
    pub(super) received_at: DateTime<Utc>,
    /// `None` for what never goes further than an attempt.
    pub(super) _space: Option<OwnedSemaphorePermit>,
}

impl Batch {
    /// Two batches in place of one. The states go first, so that no message they came from is
    /// acknowledged before them; to write them early, or again, does no harm.
    pub(super) fn split(mut self) -> (Self, Self) {
        if !self.states.is_empty() {
            let half = if self.rows.is_empty() { self.states.len() / 2 } else { 0 };
            let states = self.states.split_off(half);
            return (Self { states, ..Self::default() }, self);
        }
        let second = self.rows.split_off(self.rows.len() / 2);
        (self, Self { rows: second, ..Self::default() })
    }

    /// The same writes without anything that a device said in its own words. A database that refuses this
    /// too does not refuse what was said.
    pub(super) fn mute(&self) -> Self {
        let rows = self.rows.iter().map(|row| Row {
            outcome: row.outcome.mute(),
            device: row.device,
            packet: row.packet,
            receipt: None,
            source: Source {
                topic: row.source.topic.clone(),
                payload: row.source.payload.clone(),
                received_at: row.source.received_at,
                _space: None,
            },
        });
        let mute = |state: &StateChange| {
            let mut state = state.clone();
            state.mute();
            state
        };
        Self {
            rows: rows.collect(),
            states: self.states.iter().map(mute).collect(),
            effects: self.effects.clone(),
            lost: self.lost,
        }
    }

    /// The packets to remember, each unless this device is no more.
    pub(super) fn packets(&self) -> Vec<(Packet, Option<DeviceId>)> {
        self.rows.iter().filter_map(|row| Some((row.packet?, row.device))).collect()
    }

    /// The readings to record.
    pub(super) fn readings(&self) -> Vec<&NewReading> {
        self.rows
            .iter()
            .filter_map(|row| match &row.outcome {
                Outcome::Reading(reading) => Some(&**reading),
                _ => None,
            })
            .collect()
    }

    /// What devices answered to commands, in its order, what was seen without an answer last.
    pub(super) fn command_answers(&self) -> Vec<&Answer> {
        let answers = self.rows.iter().filter_map(|row| match &row.outcome {
            Outcome::CommandAnswer(_, answer) => Some(&**answer),
            _ => None,
        });
        answers.chain(&self.effects).collect()
    }

    /// What devices answered to configurations, in its order.
    pub(super) fn config_answers(&self) -> Vec<&ConfigAnswer> {
        let answers = self.rows.iter().filter_map(|row| match &row.outcome {
            Outcome::ConfigAnswer(_, answer) => Some(&**answer),
            _ => None,
        });
        answers.collect()
    }

    /// The rejected messages to keep.
    pub(super) fn rejected(&self) -> impl Iterator<Item = &NewRejected> {
        self.rows.iter().filter_map(|row| match &row.outcome {
            Outcome::Rejected(_, kept) => kept.as_ref(),
            _ => None,
        })
    }
}

impl Outcome {
    /// As [`Batch::mute`].
    fn mute(&self) -> Self {
        match self {
            Self::Reading(reading) => {
                Self::Reading(Box::new(NewReading { measurement: Measurement::default(), ..(**reading).clone() }))
            }
            Self::CommandAnswer(home, answer) => {
                let verdict = match answer.kind {
                    AnswerKind::Acked => AnswerKind::Acked,
                    AnswerKind::Succeeded { .. } => AnswerKind::Succeeded { result: None },
                    AnswerKind::Failed { .. } => AnswerKind::Failed { error: None, result: None },
                    AnswerKind::Effect => AnswerKind::Effect,
                };
                Self::CommandAnswer(*home, Box::new(Answer { kind: verdict, ..(**answer).clone() }))
            }
            Self::ConfigAnswer(home, answer) => {
                let verdict = match answer.verdict {
                    ConfigVerdict::Applied => ConfigVerdict::Applied,
                    ConfigVerdict::Rejected { .. } => ConfigVerdict::Rejected { errors: None },
                };
                Self::ConfigAnswer(*home, Box::new(ConfigAnswer { verdict, ..(**answer).clone() }))
            }
            Self::Rejected(reason, kept) => {
                let mute = |kept: &NewRejected| NewRejected {
                    home_id: kept.home_id,
                    topic: String::new(),
                    reason: kept.reason,
                    payload_preview: String::new(),
                    received_at: kept.received_at,
                };
                Self::Rejected(reason, kept.as_ref().map(mute))
            }
            Self::State => Self::State,
            Self::Duplicate => Self::Duplicate,
        }
    }
}
