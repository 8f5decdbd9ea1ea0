//! Publishes whose outcome is not recorded yet.

use std::collections::HashSet;

use tokio::task::{JoinError, JoinSet};

use crate::downlink::{Downlink, OutboxMessage, PublishOutcome, PublishReport};
use crate::ids::DeviceId;

/// An attempt that has ended.
pub(super) struct Finished<K> {
    pub(super) key: K,
    pub(super) device: DeviceId,
    pub(super) report: PublishReport,
    /// The epoch of the connection that carried the message.
    link_epoch: u64,
}

pub(super) struct PendingPublishes<K> {
    attempts: JoinSet<Finished<K>>,
    /// Attempts whose outcome is still to be recorded.
    finished: Vec<Finished<K>>,
    /// The devices of both.
    devices: HashSet<DeviceId>,
}

impl<K> Default for PendingPublishes<K> {
    fn default() -> Self {
        Self { attempts: JoinSet::new(), finished: Vec::new(), devices: HashSet::new() }
    }
}

impl<K: Clone + Send + 'static> PendingPublishes<K> {
    pub(super) fn len(&self) -> usize {
        self.devices.len()
    }

    pub(super) fn devices(&self) -> impl Iterator<Item = DeviceId> {
        self.devices.iter().copied()
    }

    pub(super) fn start(&mut self, downlink: &dyn Downlink, outgoing: OutboxMessage<K>, link_epoch: u64) {
        let OutboxMessage { key, device, message } = outgoing;
        self.devices.insert(device);
        let report = downlink.publish(message);
        self.attempts.spawn(async move { Finished { key, device, report: report.await, link_epoch } });
    }

    /// Waits for the next attempt to end; `None` where there is none.
    pub(super) async fn wait_for_next(&mut self) -> Option<()> {
        let finished = self.attempts.join_next().await?;
        self.add_finished(finished);
        Some(())
    }

    /// Collects every attempt that has ended by now.
    pub(super) fn collect_finished(&mut self) {
        while let Some(finished) = self.attempts.try_join_next() {
            self.add_finished(finished);
        }
    }

    fn add_finished(&mut self, finished: Result<Finished<K>, JoinError>) {
        match finished {
            Ok(finished) => self.finished.push(finished),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    pub(super) fn has_finished(&self) -> bool {
        !self.finished.is_empty()
    }

    /// Attempts to record. One that an earlier connection carried counts as unknown: the broker may have lost
    /// the message since, and the loss may be handled already.
    pub(super) fn unrecorded(&mut self, current_epoch: u64) -> &[Finished<K>] {
        for finished in &mut self.finished {
            let is_accepted =
                matches!(finished.report.outcome, PublishOutcome::Confirmed | PublishOutcome::NoSubscribers);
            if is_accepted && finished.link_epoch != current_epoch {
                finished.report = PublishOutcome::Unknown.into();
            }
        }
        &self.finished
    }

    /// The outcomes are recorded: their devices are free.
    pub(super) fn take_recorded(&mut self) -> Vec<Finished<K>> {
        let recorded = std::mem::take(&mut self.finished);
        for finished in &recorded {
            self.devices.remove(&finished.device);
        }
        recorded
    }
}
