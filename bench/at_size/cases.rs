//! The list of statements and the arguments that each is tried with: the files in `cases/`. The tests read it too.
//!
//! `== src/commands/sql/claim.sql` begins a statement that is in that file. `== src/users/store.rs by_email` begins one that
//! Diesel builds there; its text follows. `-- 512 devices` begins a case; below it are its arguments, each an SQL expression
//! by the parameter's name, and `why: …` where it takes more than 5 ms.

use std::path::Path;
use std::{fs, io};

pub(crate) use smarthome::db::numbered;

/// A statement and its cases.
pub(crate) struct Entry {
    /// The file, from the root of the project; for a statement that Diesel builds also its function.
    pub(crate) name: String,
    pub(crate) sql: String,
    pub(crate) cases: Vec<Case>,
}

/// Arguments of a statement.
#[derive(Default)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// Names of parameters and SQL expressions.
    pub(crate) arguments: Vec<(String, String)>,
    /// Why it takes long.
    pub(crate) why: Option<String>,
}

/// The whole list. `root` is the project's folder.
pub(crate) fn read(root: &Path) -> io::Result<Vec<Entry>> {
    let folder = fs::read_dir(root.join("bench/at_size/cases"))?;
    let mut files = folder.map(|file| Ok(file?.path())).collect::<io::Result<Vec<_>>>()?;
    files.sort();
    let mut entries = Vec::new();
    for file in files {
        entries.extend(parse(&fs::read_to_string(file)?));
    }
    for entry in entries.iter_mut().filter(|entry| entry.is_file()) {
        entry.sql = fs::read_to_string(root.join(&entry.name))?;
    }
    Ok(entries)
}

fn parse(text: &str) -> Vec<Entry> {
    let mut entries = Vec::<Entry>::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(name) = line.strip_prefix("== ") {
            entries.push(Entry { name: name.to_owned(), sql: String::new(), cases: Vec::new() });
            continue;
        }
        let entry = entries.last_mut().expect("a file begins with the name of a statement");
        if let Some(name) = line.strip_prefix("-- ") {
            entry.cases.push(Case { name: name.to_owned(), ..Case::default() });
        } else if let Some(case) = entry.cases.last_mut() {
            match line.split_once(": ").expect("a name and a value") {
                ("why", why) => case.why = Some(why.to_owned()),
                (name, value) => case.arguments.push((name.to_owned(), value.to_owned())),
            }
        } else {
            entry.sql += line;
            entry.sql.push('\n');
        }
    }
    entries
}

impl Entry {
    /// Whether its text is a file of the server.
    pub(crate) fn is_file(&self) -> bool {
        self.name.ends_with(".sql")
    }
}
