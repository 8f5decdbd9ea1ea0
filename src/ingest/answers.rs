//! What devices answer to commands and configurations, committed with the batch they came in.

use std::collections::HashSet;

use diesel::QueryResult;
use diesel_async::AsyncPgConnection;

use super::batch::{Batch, Outcome};
use crate::commands::{self, Answer, Command};
use crate::device_config::{self, ConfigAnswer, DeviceConfig};
use crate::ids::{CommandId, DeviceId};
use crate::metrics::{Metrics, Reason};
use crate::mqtt::Rejection;

/// What the answers of one batch changed.
pub(super) struct Answered {
    /// Commands as they now stand.
    pub(super) commands: Vec<Command>,
    /// Configurations as they now stand.
    pub(super) configs: Vec<DeviceConfig>,
    /// What an answer of this batch changed.
    changed: HashSet<Answerable>,
    /// What an answer of this batch names and changed nothing of, though it is there.
    unchanged: HashSet<Answerable>,
}

/// What a device answers to.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Answerable {
    Command(DeviceId, CommandId),
    Config(DeviceId, i32),
}

impl From<&Answer> for Answerable {
    fn from(answer: &Answer) -> Self {
        Self::Command(answer.device, answer.command)
    }
}

impl From<&ConfigAnswer> for Answerable {
    fn from(answer: &ConfigAnswer) -> Self {
        Self::Config(answer.device, answer.version)
    }
}

impl From<&Command> for Answerable {
    fn from(command: &Command) -> Self {
        Self::Command(command.device, command.id)
    }
}

impl From<&DeviceConfig> for Answerable {
    fn from(config: &DeviceConfig) -> Self {
        Self::Config(config.device, config.version)
    }
}

/// Writes what devices answered, in the batch's transaction. Sent at the first poll, so that it can be
/// one of several in a round trip.
pub(super) async fn record(conn: &AsyncPgConnection, batch: &Batch) -> QueryResult<Answered> {
    let (command_answers, config_answers) = (batch.command_answers(), batch.config_answers());
    let (commands, configs) = futures_util::join!(
        commands::record_answers(conn, &command_answers),
        device_config::record_answers(conn, &config_answers),
    );
    let (commands, configs) = (commands?, configs?);
    let changed = commands.iter().map(Answerable::from).chain(configs.iter().map(Answerable::from)).collect();
    Ok(Answered { commands, configs, changed, unchanged: HashSet::new() })
}

impl Answered {
    /// After the commit: looks at what no answer changed. An attempt whose answer was lost may have
    /// changed it, so after a retry subscribers are told how it stands.
    pub(super) async fn complete(
        &mut self,
        conn: &AsyncPgConnection,
        batch: &Batch,
        is_retry: bool,
    ) -> QueryResult<()> {
        let (mut commands, mut configs) = (Vec::new(), Vec::new());
        let answers = batch.command_answers();
        let missing = answers.iter().map(|answer| Answerable::from(*answer));
        let missing = missing.chain(batch.config_answers().into_iter().map(Answerable::from));
        for named in missing.filter(|named| !self.changed.contains(named)) {
            match named {
                Answerable::Command(_, command) => commands.push(command),
                Answerable::Config(device, version) => configs.push((device, version)),
            }
        }
        if !commands.is_empty() {
            let found = commands::find_for_ingest(conn, &commands).await?;
            self.note(found.iter().map(Answerable::from), is_retry);
            self.commands.extend(found.into_iter().filter(|_| is_retry));
        }
        if !configs.is_empty() {
            let found = device_config::find_for_ingest(conn, &configs).await?;
            self.note(found.iter().map(Answerable::from), is_retry);
            self.configs.extend(found.into_iter().filter(|_| is_retry));
        }
        Ok(())
    }

    fn note(&mut self, found: impl Iterator<Item = Answerable>, is_retry: bool) {
        if is_retry {
            self.changed.extend(found);
        } else {
            self.unchanged.extend(found);
        }
    }

    /// Counts an answer: one that changed nothing for what it is, a repeat or one to what was never sent.
    pub(super) fn count(&self, outcome: &Outcome, metrics: &Metrics) {
        let named = match outcome {
            Outcome::CommandAnswer(_, answer) => Answerable::from(&**answer),
            Outcome::ConfigAnswer(_, answer) => Answerable::from(&**answer),
            _ => return,
        };
        let ignored = |reason| metrics.command_answers_ignored.get_or_create(&Reason { reason }).inc();
        if self.changed.contains(&named) {
            metrics.mqtt_stored.inc();
        } else if self.unchanged.contains(&named) {
            metrics.mqtt_duplicate.inc();
            ignored("REPEATED");
        } else {
            metrics.count_rejected(Rejection::UnknownCommand.as_str());
            ignored("UNKNOWN");
        }
    }
}
