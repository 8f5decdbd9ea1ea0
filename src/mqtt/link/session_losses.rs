//! Losses of the session that the broker keeps for the server.

use chrono::{DateTime, Utc};
use tokio::sync::watch;

use crate::mqtt::received_message::SessionLoss;

pub(super) struct SessionLosses {
    count: u64,
    /// The last loss that ingest has recorded in the database.
    recorded_losses: watch::Receiver<u64>,
    /// When the link was last up: messages published before that may be lost with the session.
    pub(super) last_connected_at: DateTime<Utc>,
}

impl SessionLosses {
    /// Counts on from the losses of the links before. Also returns the sender by which ingest reports the number of the last
    /// loss it has recorded.
    pub(super) fn new(count: u64, now: DateTime<Utc>) -> (Self, watch::Sender<u64>) {
        let (record, recorded_losses) = watch::channel(count);
        (Self { count, recorded_losses, last_connected_at: now }, record)
    }

    /// Sessions that the broker has lost since the start.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn add(&mut self) -> SessionLoss {
        self.count += 1;
        SessionLoss { number: self.count, before: self.last_connected_at }
    }

    /// Whether ingest has yet to record a loss.
    pub(super) fn is_recovering(&self) -> bool {
        *self.recorded_losses.borrow() < self.count
    }

    /// Waits until ingest has recorded the last loss; for ever where there is none to record. Cancel safe.
    pub(super) async fn recovered(&mut self) {
        if !self.is_recovering() {
            return std::future::pending().await;
        }
        // Earlier losses that are recorded meanwhile say nothing about the present session.
        while self.is_recovering() {
            if self.recorded_losses.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}
