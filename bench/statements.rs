//! How many statements a database executed, by PostgreSQL's own count (`pg_stat_statements`): everything counts,
//! `begin`, `commit` and settings too.

use std::collections::{HashMap, HashSet};

use anyhow::Result;

use crate::stage::{ADMIN, Stage};

/// Calls of each statement of a database so far. Empty where PostgreSQL does not count them.
pub(crate) struct Statements(HashMap<i64, i64>);

impl Statements {
    pub(crate) fn of(stage: &Stage, database: &str) -> Result<Self> {
        if !stage.counts_statements() {
            return Ok(Self(HashMap::new()));
        }
        let query = "select queryid, sum(calls)::bigint from pg_stat_statements join pg_database on oid = dbid \
                     where datname = $1 and queryid is not null group by queryid";
        let admin = stage.connect(ADMIN)?;
        let rows = stage.runtime.block_on(admin.query(query, &[&database]))?;
        Ok(Self(rows.iter().map(|row| (row.get(0), row.get(1))).collect()))
    }

    /// Which statements were called since then.
    pub(crate) fn kinds_since(&self, earlier: &Self) -> HashSet<i64> {
        self.calls_since(earlier).filter(|(_, calls)| *calls > 0).map(|(id, _)| id).collect()
    }

    /// Calls since then, without those of statements that belong to `other` work.
    pub(crate) fn since(&self, earlier: &Self, other: &HashSet<i64>) -> u64 {
        let calls: i64 = self.calls_since(earlier).filter(|(id, _)| !other.contains(id)).map(|(_, calls)| calls).sum();
        u64::try_from(calls).unwrap_or_default()
    }

    fn calls_since<'a>(&'a self, earlier: &'a Self) -> impl Iterator<Item = (i64, i64)> + 'a {
        self.0.iter().map(|(id, calls)| (*id, calls - earlier.0.get(id).unwrap_or(&0)))
    }
}
