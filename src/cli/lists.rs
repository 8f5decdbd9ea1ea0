//! Lists for operators: accounts, homes, devices. They need only the database.

use std::io;

use super::{database, output};
use crate::settings::{DatabaseSettings, Environment};
use crate::{devices, homes, users};
use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

/// Rows that are read and printed at once.
const PAGE: i64 = 1_000;

/// How a list is printed.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Format {
    /// Print a JSON array of objects instead of columns.
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
pub(crate) enum Home {
    /// List all homes: id, key, owners, numbers of members and devices.
    List {
        #[command(flatten)]
        format: Format,
    },
}

#[derive(Subcommand)]
pub(crate) enum Device {
    /// List all devices, or those of one home: id, home, key, type, when each was last seen.
    List {
        /// The key of the home.
        #[arg(long, value_name = "KEY")]
        home: Option<String>,
        #[command(flatten)]
        format: Format,
    },
}

pub(super) async fn users(format: Format) -> anyhow::Result<()> {
    let pool = database::open(&DatabaseSettings::read(&Environment)?).await?;
    let mut list = List::begin(format, &["id", "email", "name", "homes", "createdAt"]);
    let mut after = None;
    loop {
        let page = users::list_users(&pool, after, PAGE).await?;
        after = page.last().map(|user| user.id);
        let rows = page.iter().map(|user| {
            json!([user.id.to_string(), user.email, user.name, user.n_homes, output::time(user.created_at)])
        });
        if !list.print(rows)? {
            return list.end();
        }
    }
}

impl Home {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let Self::List { format } = self;
        let pool = database::open(&DatabaseSettings::read(&Environment)?).await?;
        let columns = ["id", "key", "name", "owners", "members", "devices", "timezone", "createdAt"];
        let mut list = List::begin(format, &columns);
        let mut after = None;
        loop {
            let page = homes::list_homes(&pool, after, PAGE).await?;
            after = page.last().map(|home| home.id);
            let rows = page.iter().map(|home| {
                let (id, created_at) = (home.id.to_string(), output::time(home.created_at));
                json!([id, home.key, home.name, home.owners, home.n_members, home.n_devices, home.timezone, created_at])
            });
            if !list.print(rows)? {
                return list.end();
            }
        }
    }
}

impl Device {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let Self::List { home, format } = self;
        let pool = database::open(&DatabaseSettings::read(&Environment)?).await?;
        if let Some(key) = &home
            && !homes::has_home(&pool, key).await?
        {
            bail!("no such home: {key}");
        }
        let columns = ["id", "home", "key", "name", "type", "online", "lastSeenAt", "firmwareVersion", "createdAt"];
        let mut list = List::begin(format, &columns);
        let mut after = None;
        loop {
            let page = devices::list_devices(&pool, home.as_deref(), after, PAGE).await?;
            after = page.last().map(|device| (device.home, device.id));
            let rows = page.iter().map(|device| {
                let last_seen_at = device.last_seen_at.map(output::time);
                json!([
                    device.id.to_string(),
                    device.home_key,
                    device.key,
                    device.name,
                    device.device_type,
                    device.online,
                    last_seen_at,
                    device.firmware_version,
                    output::time(device.created_at),
                ])
            });
            if !list.print(rows)? {
                return list.end();
            }
        }
    }
}

/// A list that is printed page by page.
struct List<'a> {
    format: Format,
    columns: &'a [&'static str],
    /// Characters of each column; they grow with later pages.
    widths: Vec<usize>,
    n_printed: usize,
}

impl<'a> List<'a> {
    fn begin(Format { json }: Format, columns: &'a [&'static str]) -> Self {
        Self { format: Format { json }, columns, widths: vec![0; columns.len()], n_printed: 0 }
    }

    /// Prints a page, each row an array; returns whether another one is to follow.
    fn print(&mut self, rows: impl Iterator<Item = Value>) -> io::Result<bool> {
        let rows: Vec<Vec<Value>> =
            rows.map(|row| if let Value::Array(cells) = row { cells } else { Vec::new() }).collect();
        let n_rows = rows.len();
        let text = if self.format.json { self.objects(rows) } else { self.lines(&rows) };
        self.n_printed += n_rows;
        Ok(output::print(&text)? && i64::try_from(n_rows) == Ok(PAGE))
    }

    fn end(&self) -> anyhow::Result<()> {
        if self.format.json {
            let text = if self.n_printed == 0 { "[]\n" } else { "\n]\n" };
            output::print(text)?;
        }
        Ok(())
    }

    fn objects(&self, rows: Vec<Vec<Value>>) -> String {
        let mut text = String::new();
        for (n, row) in rows.into_iter().enumerate() {
            let names = self.columns.iter().map(|name| (*name).to_owned());
            let object: Map<String, Value> = names.zip(row).collect();
            text.push_str(if self.n_printed + n == 0 { "[\n" } else { ",\n" });
            text.push_str(&Value::Object(object).to_string());
        }
        text
    }

    fn lines(&mut self, rows: &[Vec<Value>]) -> String {
        let head = (self.n_printed == 0).then(|| self.columns.iter().map(|name| (*name).to_owned()).collect());
        let lines: Vec<Vec<String>> =
            head.into_iter().chain(rows.iter().map(|row| row.iter().map(text).collect())).collect();
        for line in &lines {
            for (width, cell) in self.widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let padded = lines.iter().map(|line| {
            let cells = line.iter().zip(&self.widths).map(|(cell, width)| format!("{cell:<width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
        });
        padded.collect()
    }
}

fn text(cell: &Value) -> String {
    match cell {
        Value::Null => "-".to_owned(),
        Value::Bool(is_so) => if *is_so { "yes" } else { "no" }.to_owned(),
        // A name has no line breaks, but a terminal obeys other control characters too.
        Value::String(text) => text.replace(char::is_control, "?"),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}
