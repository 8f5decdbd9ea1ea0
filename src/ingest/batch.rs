//! One batch: its messages with what each writes, and the changes of state, which can be committed as often as it takes.

use std::collections::hash_map::Entry;

use super::envelope::Envelope;
use super::rejection_recorder::NewRejected;
use crate::commands::{Answer, AnswerKind};
use crate::device_config::{ConfigAnswer, ConfigAnswerKind};
use crate::devices::StateChange;
use crate::ids::{DeviceId, HomeId, IdMap, TelemetryId};
use crate::mqtt::{Packet, Rejection, SessionLoss};
use crate::telemetry::{Month, NewReading};

#[derive(Default)]
pub(super) struct Batch {
    /// One per message, in the order of receipt.
    pub(super) messages: Vec<ClassifiedMessage>,
    /// At most one per device.
    pub(super) states: Vec<StateChange>,
    /// Commands whose expected effect a message of this batch shows.
    pub(super) effects: Vec<Answer>,
    /// The broker lost the session before or within this batch.
    pub(super) lost: Option<SessionLoss>,
}

/// One message, and what is written for it.
pub(super) struct ClassifiedMessage {
    pub(super) outcome: Outcome,
    /// Set where the message is classified again should this device turn out to be deleted.
    pub(super) device: Option<DeviceId>,
    pub(super) envelope: Envelope,
}

/// What is written for a message.
pub(super) enum Outcome {
    /// The id is that of the committed row; `None` before the commit, and where the row existed already.
    Reading {
        reading: NewReading,
        id: Option<TelemetryId>,
        /// It was stored, but parked: it gets its id when its month takes it.
        is_parked: bool,
    },
    /// A status or heartbeat: its change is in [`Batch::states`].
    State,
    CommandAnswer(HomeId, Box<Answer>),
    ConfigAnswer(HomeId, Box<ConfigAnswer>),
    /// Committed before.
    Duplicate,
    /// Our own, see [`ReceivedMessage::is_clearing`](crate::mqtt::ReceivedMessage::is_clearing).
    Clearing,
    /// Counted by its reason. Its home's admins can read it where `row` is set.
    Rejected {
        reason: Rejection,
        row: Option<NewRejected>,
    },
}

/// Collects a batch: at most one state change per device.
#[derive(Default)]
pub(super) struct BatchBuilder {
    batch: Batch,
    /// Index into `batch.states`.
    changes: IdMap<DeviceId, usize>,
}

impl BatchBuilder {
    pub(super) fn with_capacity(n_messages: usize) -> Self {
        let batch = Batch { messages: Vec::with_capacity(n_messages), ..Batch::default() };
        Self { batch, ..Self::default() }
    }

    pub(super) fn add_message(&mut self, message: ClassifiedMessage) {
        self.batch.messages.push(message);
    }

    /// Adds a change that is newer than those of the same device so far.
    pub(super) fn add_change(&mut self, change: StateChange) {
        match self.changes.entry(change.device) {
            Entry::Occupied(index) => self.batch.states[*index.get()].merge(change),
            Entry::Vacant(vacant) => {
                vacant.insert(self.batch.states.len());
                self.batch.states.push(change);
            }
        }
    }

    /// The broker lost the session: the packet ids so far mean nothing in the new one.
    pub(super) fn lose_session(&mut self, loss: SessionLoss) {
        self.batch.lost = Some(loss);
        for message in &mut self.batch.messages {
            message.envelope.packet = None;
        }
    }

    pub(super) fn effects(&mut self) -> &mut Vec<Answer> {
        &mut self.batch.effects
    }

    pub(super) fn finish(self) -> Batch {
        self.batch
    }
}

impl Batch {
    /// A batch of state changes without messages.
    pub(super) fn of_states(states: Vec<StateChange>) -> Self {
        Self { states, ..Self::default() }
    }

    /// Messages and state changes of the batch.
    pub(super) fn n_writes(&self) -> usize {
        self.messages.len() + self.states.len()
    }

    /// Halves the batch. The states go first, so that no message is acknowledged before its state is written;
    /// writing a state early, or twice, does no harm.
    pub(super) fn split(mut self) -> (Self, Self) {
        if !self.states.is_empty() {
            let half = if self.messages.is_empty() { self.states.len() / 2 } else { 0 };
            let states = self.states.split_off(half);
            return (Self::of_states(states), self);
        }
        let second = self.messages.split_off(self.messages.len() / 2);
        (self, Self { messages: second, ..Self::default() })
    }

    /// The same writes without the values that devices chose themselves. If the database refuses these too,
    /// the fault is not in the values.
    pub(super) fn without_payload(&self) -> Self {
        let messages = self.messages.iter().map(|message| ClassifiedMessage {
            outcome: message.outcome.without_payload(),
            device: message.device,
            envelope: message.envelope.copy_for_probe(),
        });
        let mut states = self.states.clone();
        states.iter_mut().for_each(StateChange::remove_payload);
        Self { messages: messages.collect(), states, effects: self.effects.clone(), lost: self.lost }
    }

    /// The packets to record, each with the device whose deletion leaves it out.
    pub(super) fn packets(&self) -> Vec<(Packet, Option<DeviceId>)> {
        self.messages.iter().filter_map(|message| Some((message.envelope.packet?, message.device))).collect()
    }

    pub(super) fn readings(&self) -> Vec<&NewReading> {
        let readings = self.messages.iter().filter_map(|message| match &message.outcome {
            Outcome::Reading { reading, .. } => Some(reading),
            _ => None,
        });
        readings.collect()
    }

    /// Stores the ids of the committed readings, given in the order of [`Batch::readings`].
    pub(super) fn set_reading_ids(&mut self, ids: Vec<Option<TelemetryId>>) {
        let readings = self.messages.iter_mut().filter_map(|message| match &mut message.outcome {
            Outcome::Reading { id, .. } => Some(id),
            _ => None,
        });
        for (slot, id) in readings.zip(ids) {
            *slot = id;
        }
    }

    /// Marks the parked readings, given by their indices in [`Batch::readings`], and returns the month of each.
    pub(super) fn set_parked(&mut self, parked: &[usize]) -> Vec<Month> {
        let readings = self.messages.iter_mut().filter_map(|message| match &mut message.outcome {
            Outcome::Reading { reading, is_parked, .. } => Some((reading, is_parked)),
            _ => None,
        });
        let mut months = Vec::with_capacity(parked.len());
        let mut parked = parked.iter().peekable();
        for (index, (reading, is_parked)) in readings.enumerate() {
            if parked.next_if(|next| **next == index).is_some() {
                *is_parked = true;
                months.push(Month::of(reading.recorded_at));
            }
        }
        months
    }

    /// The devices' answers to commands in their order, then the effects seen without an answer.
    pub(super) fn command_answers(&self) -> Vec<&Answer> {
        let answers = self.messages.iter().filter_map(|message| match &message.outcome {
            Outcome::CommandAnswer(_, answer) => Some(&**answer),
            _ => None,
        });
        answers.chain(&self.effects).collect()
    }

    /// The devices' answers to configurations in their order.
    pub(super) fn config_answers(&self) -> Vec<&ConfigAnswer> {
        let answers = self.messages.iter().filter_map(|message| match &message.outcome {
            Outcome::ConfigAnswer(_, answer) => Some(&**answer),
            _ => None,
        });
        answers.collect()
    }

    /// The rejected messages to store.
    pub(super) fn rejected(&self) -> impl Iterator<Item = &NewRejected> {
        self.messages.iter().filter_map(|message| match &message.outcome {
            Outcome::Rejected { row, .. } => row.as_ref(),
            _ => None,
        })
    }
}

impl Outcome {
    /// The home of a message that writes values of its device's choice into a row.
    pub(super) fn home(&self) -> Option<HomeId> {
        match self {
            Self::Reading { reading, .. } => Some(reading.home),
            Self::CommandAnswer(home, _) | Self::ConfigAnswer(home, _) => Some(*home),
            Self::State | Self::Duplicate | Self::Clearing | Self::Rejected { .. } => None,
        }
    }

    /// See [`Batch::without_payload`].
    fn without_payload(&self) -> Self {
        match self {
            Self::Reading { reading, .. } => {
                let reading = NewReading { measurement: Box::default(), ..reading.clone() };
                Self::Reading { reading, id: None, is_parked: false }
            }
            Self::CommandAnswer(home, answer) => {
                let kind = match answer.kind {
                    AnswerKind::Acked => AnswerKind::Acked,
                    AnswerKind::Succeeded { .. } => AnswerKind::Succeeded { result: None },
                    AnswerKind::Failed { .. } => AnswerKind::Failed { error: None, result: None },
                    AnswerKind::Effect => AnswerKind::Effect,
                };
                Self::CommandAnswer(*home, Box::new(Answer { kind, ..(**answer).clone() }))
            }
            Self::ConfigAnswer(home, answer) => {
                let kind = match answer.kind {
                    ConfigAnswerKind::Applied => ConfigAnswerKind::Applied,
                    ConfigAnswerKind::Rejected { .. } => ConfigAnswerKind::Rejected { errors: None },
                };
                Self::ConfigAnswer(*home, Box::new(ConfigAnswer { kind, ..(**answer).clone() }))
            }
            Self::Rejected { reason, row } => {
                let row = row.as_ref().map(|row| NewRejected {
                    home_id: row.home_id,
                    topic: String::new(),
                    reason: row.reason,
                    payload_preview: String::new(),
                    received_at: row.received_at,
                });
                Self::Rejected { reason: *reason, row }
            }
            Self::State => Self::State,
            Self::Duplicate => Self::Duplicate,
            Self::Clearing => Self::Clearing,
        }
    }
}
