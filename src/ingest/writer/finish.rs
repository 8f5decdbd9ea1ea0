//! What follows a commit: subscribers hear of it, counters count it, the broker is told.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{Committed, Writer};
use crate::commands;
use crate::device_config;
use crate::ids::{DeviceId, HomeId};
use crate::ingest::batch::{Batch, Outcome, Row};
use crate::mqtt::Receipt;
use crate::outbox::Wake;
use crate::telemetry::Reading;

/// What a commit left undone.
pub(super) struct Gone {
    /// Devices that are no more.
    pub(super) devices: HashSet<DeviceId>,
    /// Their messages.
    pub(super) rows: Vec<Row>,
}

impl Writer {
    /// After the commit: hubs and counters. Adds the receipts in the order in which the messages came, and
    /// returns those messages that were of no device any more, with which nothing is done yet.
    pub(super) fn finish(&mut self, batch: Batch, committed: Committed, receipts: &mut Vec<Receipt>) -> Gone {
        let mut gone = Gone { devices: committed.gone, rows: Vec::new() };
        let is_gone = |row: &Row, gone: &Gone| row.device.is_some_and(|device| gone.devices.contains(&device));
        let n_packets = batch.rows.iter().filter(|row| row.packet.is_some() && !is_gone(row, &gone)).count();
        let session = self.session.as_mut().expect("begun");
        session.committed(batch.lost.is_some(), committed.session_row, n_packets);
        if let Some(loss) = batch.lost {
            self.acknowledged_losses.send_replace(loss.number);
        }
        let (pruned, n_pruned) = committed.pruned;
        self.retention.committed(&batch, &pruned);
        self.metrics.rejected_pruned.inc_by(n_pruned as u64);
        let mut ids = committed.ids.into_iter();
        receipts.reserve(batch.rows.len());
        for mut row in batch.rows {
            receipts.extend(row.receipt.take());
            let id = if matches!(row.outcome, Outcome::Reading(_)) { ids.next().flatten() } else { None };
            if is_gone(&row, &gone) {
                gone.rows.push(row);
                continue;
            }
            match row.outcome {
                Outcome::Reading(reading) => match id {
                    Some(id) => {
                        self.metrics.mqtt_stored.inc();
                        if self.readings.has_subscriber(reading.home) {
                            self.readings.publish(Reading::committed(id, &reading));
                        } else {
                            self.readings.advance(id);
                        }
                    }
                    None => _ = self.metrics.mqtt_duplicate.inc(),
                },
                Outcome::CommandAnswer(..) | Outcome::ConfigAnswer(..) => {
                    committed.answered.count(&row.outcome, &self.metrics);
                }
                Outcome::State => _ = self.metrics.mqtt_stored.inc(),
                Outcome::Duplicate => _ = self.metrics.mqtt_duplicate.inc(),
                Outcome::Rejected(reason, _) => self.metrics.count_rejected(reason),
            }
        }
        for command in &committed.answered.commands {
            self.metrics.count_command(command.status.as_str());
        }
        self.expectations.update(&committed.answered.commands);
        commands::publish(&self.commands, committed.answered.commands);
        device_config::publish(&self.configs, committed.answered.configs);
        // Of those that never counted as gone the next regular look of the outboxes takes note.
        if batch.states.iter().any(|change| change.is_sign_of_life && change.is_news) {
            self.outboxes.iter().for_each(Wake::wake);
        }
        let news = batch.states.iter().filter(|change| change.is_news);
        let news: HashMap<DeviceId, HomeId> = news.map(|change| (change.device, change.home)).collect();
        for state in committed.states {
            if let Some(home) = news.get(&state.device) {
                self.states.publish(*home, Arc::new(state));
            }
        }
        gone
    }
}
