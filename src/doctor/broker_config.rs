//! The check of Mosquitto's configuration file: whether sessions and messages survive a restart of the broker.

use std::fs;
use std::io;
use std::path::Path;

use super::report::Check;

const NAME: &str = "persistence";

pub(super) fn check(path: &Path) -> Check {
    let values = match values(path) {
        Ok(values) => values,
        Err(error) => {
            return Check::fault(
                NAME,
                format!("{}: {error}", path.display()),
                "name a file that this account can read",
            );
        }
    };
    // Mosquitto uses the last one.
    let is_on = values.iter().rev().find(|(name, _)| name == "persistence").is_some_and(|(_, value)| value == "true");
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
