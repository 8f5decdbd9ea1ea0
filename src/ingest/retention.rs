//! How many rejected messages a home keeps. They are pruned in the batch's transaction, once per
//! [`PRUNE_INTERVAL`] messages of a home, and never many at once, because ingest waits for it.

use std::collections::HashMap;

use super::batch::Batch;
use crate::ids::HomeId;

/// Messages that a pruning leaves; up to [`PRUNE_INTERVAL`] more are stored until the next one.
pub(super) const MAX_KEPT: i64 = 10_000;
/// Messages of a home that one pruning deletes at most: more than are stored until the next, so that a backlog
/// shrinks.
pub(super) const MAX_DELETED: i64 = 2_000;
/// Messages stored for a home between two prunings.
const PRUNE_INTERVAL: usize = 1_000;
/// Homes pruned with one batch; others wait for their next message.
const MAX_HOMES: usize = 4;
/// Homes counted; beyond, all counts start again, and each home is pruned with its next message.
const MAX_COUNTED: usize = 10_000;

/// Messages stored since each home's last pruning. A home without a count is due, so that a server that starts
/// often prunes all the same.
#[derive(Default)]
pub(super) struct Retention(HashMap<HomeId, usize>);

impl Retention {
    /// The homes to prune with this batch.
    pub(super) fn homes_to_prune(&self, batch: &Batch) -> Vec<HomeId> {
        let mut homes = Vec::new();
        for message in batch.rejected() {
            let home = message.home_id;
            if self.0.get(&home).is_none_or(|n| *n >= PRUNE_INTERVAL) && !homes.contains(&home) {
                homes.push(home);
                if homes.len() == MAX_HOMES {
                    break;
                }
            }
        }
        homes
    }

    /// The batch is committed, and with it these homes were pruned.
    pub(super) fn committed(&mut self, batch: &Batch, pruned: &[HomeId]) {
        if self.0.len() >= MAX_COUNTED {
            self.0.clear();
        }
        for message in batch.rejected() {
            // A home without a count that was not pruned stays due.
            if let Some(n) = self.0.get_mut(&message.home_id) {
                *n += 1;
            }
        }
        self.0.extend(pruned.iter().map(|home| (*home, 0)));
    }
}
