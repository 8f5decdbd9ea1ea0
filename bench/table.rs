//! The result: one line a measurement, printed when it is there and once more at the end.

/// Names that were asked for, and what was measured.
pub(crate) struct Table {
    filter: Vec<String>,
    rows: Vec<[String; 5]>,
}

const HEAD: [&str; 5] = ["what", "measured", "limit", "ratio", "target"];

impl Table {
    pub(crate) fn new(filter: Vec<String>) -> Self {
        Self { filter, rows: Vec::new() }
    }

    /// Whether the group of measurements with this name was asked for.
    pub(crate) fn includes(&self, name: &str) -> bool {
        self.filter.is_empty() || self.filter.iter().any(|part| name.contains(part.as_str()))
    }

    /// The same, and says that it begins.
    pub(crate) fn wants(&self, name: &str) -> bool {
        let wanted = self.includes(name);
        if wanted {
            eprintln!("-- {name}");
        }
        wanted
    }

    /// A measurement beside its limit in the same run and its target; empty where there is none.
    pub(crate) fn row(&mut self, what: &str, measured: &str, limit: &str, ratio: Option<f64>, target: &str) {
        let ratio = ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
        eprintln!("   {what}: {measured}{}{limit}", if limit.is_empty() { "" } else { " beside " });
        self.rows.push([what, measured, limit, &ratio, target].map(str::to_owned));
    }

    pub(crate) fn print(&self) {
        let head = HEAD.map(str::to_owned);
        let width = |column: usize| {
            let cells = self.rows.iter().chain([&head]).map(|row| row[column].chars().count());
            cells.max().unwrap_or(0)
        };
        let widths = [0, 1, 2, 3, 4].map(width);
        let line = |row: &[String; 5]| {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!(" {cell:width$} "));
            println!("|{}|", cells.collect::<Vec<_>>().join("|"));
        };
        println!();
        line(&head);
        println!("|{}|", widths.map(|width| "-".repeat(width + 2)).join("|"));
        self.rows.iter().for_each(line);
    }
}
