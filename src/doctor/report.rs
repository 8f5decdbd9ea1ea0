//! The findings, and how they are printed.

use std::fmt::Write;

use serde_json::{Value, json};

/// What a check has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Ok,
    /// It works, but an operator may want to change something.
    Note,
    Fault,
    /// Something before it has failed, or it can't be known.
    NotChecked,
}

/// One check, in plain words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) status: Status,
    pub(crate) detail: String,
    /// What to do.
    pub(crate) cure: Option<String>,
}

/// Most characters of a text.
const MAX_CHARS: usize = 1_000;

/// What the broker or a file says may be of any length, and a terminal obeys control characters.
fn printable(text: &str) -> String {
    let mut cut: String = text.chars().take(MAX_CHARS).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    cut.replace(char::is_control, "?")
}

impl Check {
    fn new(name: &'static str, status: Status, detail: impl Into<String>, cure: Option<String>) -> Self {
        Self { name, status, detail: printable(&detail.into()), cure: cure.map(|cure| printable(&cure)) }
    }

    pub(crate) fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self::new(name, Status::Ok, detail, None)
    }

    pub(crate) fn note(name: &'static str, detail: impl Into<String>, cure: impl Into<String>) -> Self {
        Self::new(name, Status::Note, detail, Some(cure.into()))
    }

    pub(crate) fn fault(name: &'static str, detail: impl Into<String>, cure: impl Into<String>) -> Self {
        Self::new(name, Status::Fault, detail, Some(cure.into()))
    }

    pub(crate) fn not_checked(name: &'static str, detail: impl Into<String>) -> Self {
        Self::new(name, Status::NotChecked, detail, None)
    }
}

impl Status {
    /// In text.
    fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Fault => "FAULT",
            Self::NotChecked => "-",
        }
    }

    /// In JSON.
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Fault => "fault",
            Self::NotChecked => "notChecked",
        }
    }
}

/// The number of faults.
pub(crate) fn count_faults(checks: &[Check]) -> usize {
    checks.iter().filter(|check| check.status == Status::Fault).count()
}

/// The number of checks that could be made.
pub(crate) fn count_made(checks: &[Check]) -> usize {
    checks.iter().filter(|check| check.status != Status::NotChecked).count()
}

/// Lines for people: a status, a name, what was found; below it the cure.
pub(crate) fn text(checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or_default();
    let mut text = String::new();
    for Check { name, status, detail, cure } in checks {
        let _ = writeln!(text, "{:<5}  {name:<width$}  {detail}", status.label());
        if let Some(cure) = cure {
            let _ = writeln!(text, "{:<5}  {:<width$}  → {cure}", "", "");
        }
    }
    let verdict = match (count_faults(checks), not_checked(checks)) {
        (0, None) => "all is well".to_owned(),
        (0, Some(names)) => format!("what was checked is well; not checked: {names}"),
        (1, _) => "1 fault".to_owned(),
        (n, _) => format!("{n} faults"),
    };
    let _ = writeln!(text, "\n{verdict}");
    text
}

/// The names of checks that were not made.
fn not_checked(checks: &[Check]) -> Option<String> {
    let mut names: Vec<_> =
        checks.iter().filter(|check| check.status == Status::NotChecked).map(|check| check.name).collect();
    names.dedup();
    (!names.is_empty()).then(|| names.join(", "))
}

/// The same for programs.
pub(crate) fn json(checks: &[Check]) -> Value {
    let checks_json = checks.iter().map(|Check { name, status, detail, cure }| {
        json!({"name": name, "status": status.name(), "detail": detail, "cure": cure})
    });
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "well": count_faults(checks) == 0,
        "checks": checks_json.collect::<Vec<_>>(),
    })
}
