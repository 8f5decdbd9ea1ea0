//! Answers of devices to commands and configurations, committed with the batch in which they came.

use std::collections::HashSet;

use diesel::QueryResult;

use super::batch::{Batch, Outcome};
use crate::commands::{self, Answer, Command};
use crate::db;
use crate::device_config::{self, ConfigAnswer, DeviceConfig};
use crate::ids::{CommandId, DeviceId};
use crate::metrics::{Metrics, Reason};
use crate::mqtt::Rejection;

const REPEATED: &str = "REPEATED";
const UNKNOWN: &str = "UNKNOWN";
/// Why the answer of a device changes nothing.
pub const IGNORED_ANSWERS: [&str; 2] = [REPEATED, UNKNOWN];

/// What the answers of one batch changed.
pub(super) struct RecordedAnswers {
    /// The changed commands, after the change.
    pub(super) commands: Vec<Command>,
    /// The changed configurations, after the change.
    pub(super) configs: Vec<DeviceConfig>,
    /// The targets that an answer of this batch changed.
    changed: HashSet<Target>,
    /// The targets that exist but were not changed.
    unchanged: HashSet<Target>,
}

/// What a device answers to.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Target {
    Command(DeviceId, CommandId),
    Config(DeviceId, i32),
}

impl From<&Answer> for Target {
    fn from(answer: &Answer) -> Self {
        Self::Command(answer.device, answer.command)
    }
}

impl From<&ConfigAnswer> for Target {
    fn from(answer: &ConfigAnswer) -> Self {
        Self::Config(answer.device, answer.version)
    }
}

impl From<&Command> for Target {
    fn from(command: &Command) -> Self {
        Self::Command(command.device, command.id)
    }
}

impl From<&DeviceConfig> for Target {
    fn from(config: &DeviceConfig) -> Self {
        Self::Config(config.device, config.version)
    }
}

/// Writes the answers in the batch's transaction. Both statements are sent at the first poll, in this order.
pub(super) async fn record(conn: &db::Connection, batch: &Batch) -> QueryResult<RecordedAnswers> {
    let (command_answers, config_answers) = (batch.command_answers(), batch.config_answers());
    let (commands, configs) = futures_util::join!(
        commands::record_answers(conn, &command_answers),
        device_config::record_answers(conn, &config_answers),
    );
    let (commands, configs) = (commands?, configs?);
    let changed = commands.iter().map(Target::from).chain(configs.iter().map(Target::from)).collect();
    Ok(RecordedAnswers { commands, configs, changed, unchanged: HashSet::new() })
}

impl RecordedAnswers {
    pub(super) fn none() -> Self {
        Self { commands: Vec::new(), configs: Vec::new(), changed: HashSet::new(), unchanged: HashSet::new() }
    }

    /// After the commit: looks up the targets that no answer changed. On a retry an attempt whose answer was lost
    /// may have changed them, so they count as changed and subscribers are notified.
    pub(super) async fn look_up_unchanged(
        &mut self,
        conn: &db::Connection,
        batch: &Batch,
        is_retry: bool,
    ) -> QueryResult<()> {
        let (mut commands, mut configs) = (Vec::new(), Vec::new());
        let targets = batch.command_answers().into_iter().map(Target::from);
        let targets = targets.chain(batch.config_answers().into_iter().map(Target::from));
        for target in targets.filter(|target| !self.changed.contains(target)) {
            match target {
                Target::Command(_, command) => commands.push(command),
                Target::Config(device, version) => configs.push((device, version)),
            }
        }
        if !commands.is_empty() {
            let found = commands::find_for_ingest(conn, &commands).await?;
            self.add_found(found.iter().map(Target::from), is_retry);
            self.commands.extend(found.into_iter().filter(|_| is_retry));
        }
        if !configs.is_empty() {
            let found = device_config::find_for_ingest(conn, &configs).await?;
            self.add_found(found.iter().map(Target::from), is_retry);
            self.configs.extend(found.into_iter().filter(|_| is_retry));
        }
        Ok(())
    }

    fn add_found(&mut self, found: impl Iterator<Item = Target>, is_retry: bool) {
        if is_retry {
            self.changed.extend(found);
        } else {
            self.unchanged.extend(found);
        }
    }

    /// Counts an answer as stored, as a repeat, or as one to something that was never sent to its device.
    pub(super) fn count(&self, outcome: &Outcome, metrics: &Metrics) {
        let target = match outcome {
            Outcome::CommandAnswer(_, answer) => Target::from(&**answer),
            Outcome::ConfigAnswer(_, answer) => Target::from(&**answer),
            _ => return,
        };
        let ignored = |reason| metrics.command_answers_ignored.get_or_create(&Reason { reason }).inc();
        if self.changed.contains(&target) {
            metrics.mqtt_stored.inc();
        } else if self.unchanged.contains(&target) {
            metrics.mqtt_duplicate.inc();
            ignored(REPEATED);
        } else {
            metrics.count_rejected(Rejection::UnknownCommand.as_str());
            ignored(UNKNOWN);
        }
    }
}
