//! What `explain (analyze, format json)` says. The tests read it too.

use serde::Deserialize;

/// What PostgreSQL says of an execution.
#[derive(Deserialize)]
pub(crate) struct Execution {
    #[serde(rename = "Plan")]
    pub(crate) plan: Node,
    #[serde(rename = "Execution Time")]
    pub(crate) ms: f64,
}

/// A step of a plan. Numbers of rows are averages of its loops.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Node {
    #[serde(rename = "Node Type")]
    kind: String,
    #[serde(rename = "Relation Name")]
    relation: Option<String>,
    #[serde(rename = "Actual Rows")]
    rows: f64,
    #[serde(rename = "Actual Loops")]
    loops: f64,
    #[serde(rename = "Rows Removed by Filter", default)]
    removed: f64,
    #[serde(rename = "Rows Removed by Index Recheck", default)]
    removed_later: f64,
    #[serde(rename = "Shared Hit Blocks", default)]
    hit: u64,
    #[serde(rename = "Shared Read Blocks", default)]
    read: u64,
    #[serde(default)]
    plans: Vec<Node>,
}

impl Node {
    /// Rows that the statement returns; those that it changes where it returns none.
    pub(crate) fn n_returned(&self) -> f64 {
        let changed = self.plans.first().filter(|_| self.kind == "ModifyTable" && self.rows == 0.0);
        changed.map_or(self.rows, |changed| changed.rows)
    }

    /// Pages of 8 KiB that were looked at, in memory or not.
    pub(crate) fn n_pages(&self) -> u64 {
        self.hit + self.read
    }

    /// Rows of tables that were looked at.
    pub(crate) fn n_read(&self) -> f64 {
        let of_parts: f64 = self.plans.iter().map(Self::n_read).sum();
        let is_scan = self.relation.is_some() && self.kind.contains("Scan");
        let own = if is_scan { (self.rows + self.removed + self.removed_later) * self.loops } else { 0.0 };
        of_parts + own
    }
}
