//! Mosquitto's configuration file: whether sessions and messages survive a restart of the broker, and where they are stored.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::report::Check;

const NAME: &str = "persistence";

/// Also returns the folder in which the broker stores sessions and messages, if the file names it.
pub(super) fn check(path: Option<&Path>) -> (Check, Option<PathBuf>) {
    let Some(path) = path else {
        let detail = "whether the broker keeps sessions and messages over its own restart can't be seen from outside; to check it, \
                      name Mosquitto's configuration with --mosquitto-conf FILE, on the broker's machine";
        return (Check::not_checked(NAME, detail), None);
    };
    let values = match values(path) {
        Ok(values) => values,
        Err(error) => {
            let detail = format!("{}: {error}", path.display());
            return (Check::fault(NAME, detail, "name a file that this account can read"), None);
        }
    };
    // Mosquitto uses the last one.
    let last = |name: &str| values.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let check = persistence(path, last("persistence") == Some("true"));
    (check, last("persistence_location").map(PathBuf::from))
}

fn persistence(path: &Path, is_on: bool) -> Check {
    match is_on {
        true => Check::ok(NAME, "the broker keeps sessions and messages over a restart"),
        false => Check::fault(
            NAME,
            format!(
                "{} does not turn persistence on: a restart of the broker loses its sessions and messages",
                path.display()
            ),
            "add `persistence true` and a `persistence_location` (docker/mosquitto/conf.d/limits.conf), and restart the broker",
        ),
    }
}

/// Names and values of the main file and of the folders that it includes, in order.
fn values(path: &Path) -> io::Result<Vec<(String, String)>> {
    let mut values = Vec::new();
    for (name, value) in lines(path)? {
        if name == "include_dir" {
            let mut files = fs::read_dir(&value)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
            files.retain(|file| file.extension().is_some_and(|extension| extension == "conf"));
            files.sort();
            for file in files {
                // Mosquitto follows `include_dir` in the main file only.
                values.extend(lines(&file)?);
            }
        }
        values.push((name, value));
    }
    Ok(values)
}

fn lines(path: &Path) -> io::Result<Vec<(String, String)>> {
    let text = fs::read_to_string(path)?;
    let pairs = text.lines().filter_map(|line| line.trim().split_once(char::is_whitespace));
    Ok(pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
}
