//! What follows a commit: subscribers hear of it, counters count it, the broker is told.

use std::sync::Arc;

use super::{Committed, Writer};
use crate::commands;
use crate::device_config;
use crate::ingest::batch::{Batch, Outcome, Row};
use crate::mqtt::Rejection;
use crate::outbox::Wake;
use crate::telemetry::Reading;

impl Writer {
    /// After the commit: hubs, counters, acknowledgements in the order of receipt.
    pub(super) fn finish(&mut self, batch: Batch, committed: Committed) {
        let n_packets = batch.rows.iter().filter(|row| row.packet.is_some()).count();
        let session = self.session.as_mut().expect("begun");
        session.committed(batch.lost.is_some(), committed.session_row, n_packets);
        if let Some(loss) = batch.lost {
            self.forgotten.send_replace(loss.number);
        }
        let (pruned, n_pruned) = committed.pruned;
        self.retention.committed(&batch, &pruned);
        self.metrics.rejected_pruned.inc_by(n_pruned as u64);
        let mut ids = committed.ids.into_iter();
        let mut receipts = Vec::with_capacity(batch.rows.len());
        for Row { outcome, receipt, .. } in batch.rows {
            receipts.extend(receipt);
            match outcome {
                Outcome::Reading(reading) => match ids.next().flatten() {
                    Some(id) => {
                        self.metrics.mqtt_stored.inc();
                        if self.readings.has_follower(reading.home) {
                            self.readings.publish(Reading::committed(id, &reading));
                        } else {
                            self.readings.pass(id);
                        }
                    }
                    None if committed.gone.contains(&reading.device) => {
                        self.metrics.reject(Rejection::UnknownDevice.as_str());
                    }
                    None => _ = self.metrics.mqtt_duplicate.inc(),
                },
                Outcome::CommandAnswer(..) | Outcome::ConfigAnswer(..) => {
                    committed.answered.count(&outcome, &self.metrics);
                }
                Outcome::State => _ = self.metrics.mqtt_stored.inc(),
                Outcome::Duplicate => _ = self.metrics.mqtt_duplicate.inc(),
                Outcome::Rejected(reason, _) => self.metrics.reject(reason),
            }
        }
        for command in &committed.answered.commands {
            self.metrics.enter_command(command.status.as_str());
        }
        self.expectations.update(&committed.answered.commands);
        commands::publish(&self.commands, committed.answered.commands);
        device_config::publish(&self.configs, committed.answered.configs);
        // Of those that never counted as gone the next regular look of the outboxes takes note.
        if batch.states.iter().any(|change| change.is_sign_of_life && change.is_news) {
            self.outboxes.iter().for_each(Wake::wake);
        }
        for state in committed.states {
            let change = batch.states.iter().find(|change| change.device == state.device);
            if let Some(change) = change.filter(|change| change.is_news) {
                self.states.publish(change.home, Arc::new(state));
            }
        }
        self.acks.send(receipts);
    }
}
