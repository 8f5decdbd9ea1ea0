//! How many rejected messages a home keeps: pruned beside the insert, every so many, and never much at
//! once, because ingest waits for it.

use std::collections::HashMap;

use super::batch::Batch;
use crate::ids::HomeId;

/// Messages a home keeps after each turn; up to [`TURN`] more may stand between two of them.
pub(super) const MAX_KEPT: i64 = 10_000;
/// Messages deleted in one turn of a home, at most: more than come between two, so that a backlog shrinks.
pub(super) const MAX_DELETED: i64 = 2_000;
/// Messages kept for a home from one turn to the next.
const TURN: usize = 1_000;
/// Homes pruned with one batch; others wait for their next message.
const MAX_HOMES: usize = 4;
/// Homes counted; beyond, all start anew and have their turn with their next message.
const MAX_COUNTED: usize = 10_000;

/// Messages kept since each home's last turn. A home that is not known has its turn: a server that
/// starts often prunes all the same.
#[derive(Default)]
pub(super) struct Retention(HashMap<HomeId, usize>);

impl Retention {
    /// The homes whose turn it is with this batch.
    pub(super) fn due(&self, batch: &Batch) -> Vec<HomeId> {
        let mut due = Vec::new();
        for message in batch.rejected() {
            let home = message.home_id;
            if self.0.get(&home).is_none_or(|n| *n >= TURN) && !due.contains(&home) {
                due.push(home);
                if due.len() == MAX_HOMES {
                    break;
                }
            }
        }
        due
    }

    /// The batch is committed, and these homes had their turn with it.
    pub(super) fn committed(&mut self, batch: &Batch, pruned: &[HomeId]) {
        if self.0.len() >= MAX_COUNTED {
            self.0.clear();
        }
        for message in batch.rejected() {
            // One that is not known and has not had its turn stays due.
            if let Some(n) = self.0.get_mut(&message.home_id) {
                *n += 1;
            }
        }
        self.0.extend(pruned.iter().map(|home| (*home, 0)));
    }
}
