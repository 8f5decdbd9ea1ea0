//! The table, and what it should not have: a statement that takes long for no reason.

use super::cases::Case;

/// A statement that takes longer says why.
const LONG_MS: f64 = 5.0;

/// What a statement takes with the arguments of a case.
pub(super) struct Figures {
    /// Returned or changed.
    pub(super) rows: f64,
    /// Looked at in tables.
    pub(super) read: f64,
    pub(super) ms: f64,
    /// Pages of 8 KiB that were looked at.
    pub(super) buffers: u64,
}

/// See the module.
#[derive(Default)]
pub(super) struct Report {
    lines: Vec<String>,
    unexplained: Vec<String>,
    n_long: usize,
}

impl Report {
    pub(super) fn add(&mut self, statement: &str, case: &Case, figures: &Figures) {
        let Figures { rows, read, ms, buffers } = figures;
        let statement = statement.strip_prefix("src/").unwrap_or(statement);
        let what = format!("{statement}: {}: {ms:.2} ms", case.name);
        eprintln!("   {what}, {rows} rows, {buffers} pages");
        let is_long = *ms > LONG_MS;
        self.n_long += usize::from(is_long);
        if is_long && case.why.is_none() {
            self.unexplained.push(what);
        }
        let why = case.why.as_deref().filter(|_| is_long).unwrap_or_default();
        self.lines.push(format!("| {statement} | {} | {rows} | {read} | {ms:.2} | {buffers} | {why} |", case.name));
    }

    pub(super) fn print(&self) {
        println!("| statement | case | rows | rows read | ms | pages | why longer than {LONG_MS} ms |");
        println!("|---|---|---:|---:|---:|---:|---|");
        self.lines.iter().for_each(|line| println!("{line}"));
        println!("\n{} cases, {} of them longer than {LONG_MS} ms.", self.lines.len(), self.n_long);
        if !self.unexplained.is_empty() {
            println!("\nLonger, and nothing says why:\n");
            self.unexplained.iter().for_each(|what| println!("* {what}"));
        }
    }
}
