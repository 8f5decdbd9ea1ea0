//! Every statement of the server on a database of 100,000 devices, ten million readings and a million commands: how long it
//! takes and what it reads. The folder's `cases/` says with which arguments, README.md above it what the columns are.

mod cases;
mod explain;
mod plan;
mod report;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use diesel_async::SimpleAsyncConnection;
use smarthome::db::{Connection, connect, migrate};
use smarthome::dev::postgres::Postgres;
use smarthome::settings::{DatabaseSettings, Secret};

use report::Report;

/// The fixture is not worth keeping, so nothing waits for the disk. Rows are vacuumed when they are all there, and a
/// change that is rolled back leaves nothing to a process in the background.
const SETTINGS: [&str; 5] = [
    "fsync=off",
    "max_wal_size=4GB",
    "maintenance_work_mem=256MB",
    "autovacuum=off",
    "max_parallel_maintenance_workers=0",
];

/// What is measured, and on which database.
pub(crate) struct Options {
    /// Parts of statements' names; empty for all.
    pub(crate) names: Vec<String>,
    /// A database with the fixture. None: it is made, and removed afterwards.
    pub(crate) database: Option<String>,
}

pub(crate) fn measure(options: &Options) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let entries = cases::read(root).context("read bench/at_size/cases")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let own = if options.database.is_none() { Some(Own::start()?) } else { None };
    let url =
        options.database.clone().or_else(|| own.as_ref().map(|own| own.postgres().url())).context("a database")?;
    let mut report = Report::default();
    runtime.block_on(async {
        if own.is_some() {
            fill(root, &url).await?;
        }
        let mut conn = connect(&url, None).await?;
        for entry in entries.iter().filter(|entry| is_wanted(options, &entry.name)) {
            eprintln!("-- {}", entry.name);
            explain::measure(&mut conn, entry, &mut report).await.with_context(|| entry.name.clone())?;
        }
        anyhow::Ok(())
    })?;
    report.print();
    Ok(())
}

fn is_wanted(options: &Options, name: &str) -> bool {
    options.names.is_empty() || options.names.iter().any(|part| name.contains(part.as_str()))
}

/// The schema and the rows.
async fn fill(root: &Path, url: &str) -> Result<()> {
    let settings = DatabaseSettings { url: Secret::new(url.to_owned()), pool_size: 1 };
    migrate(&settings).await.context("migrate")?;
    let mut conn = connect(url, None).await?;
    let folder = fs::read_dir(root.join("bench/at_size/fixture"))?;
    let mut files = folder.map(|file| Ok(file?.path())).collect::<Result<Vec<_>>>()?;
    files.sort();
    ensure!(!files.is_empty(), "bench/at_size/fixture has files");
    for file in files {
        run(&mut conn, &file.file_name().unwrap_or_default().to_string_lossy(), &fs::read_to_string(&file)?).await?;
    }
    run(&mut conn, "vacuum analyze", "vacuum analyze").await
}

async fn run(conn: &mut Connection, name: &str, sql: &str) -> Result<()> {
    let start = Instant::now();
    conn.batch_execute(sql).await.with_context(|| name.to_owned())?;
    eprintln!("-- {name}: {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// A PostgreSQL of the run's own, removed with it.
struct Own {
    postgres: Option<Postgres>,
    folder: PathBuf,
}

impl Own {
    fn start() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("smarthome-at-size-{}", std::process::id()));
        let postgres = Postgres::start_with(&folder, &SETTINGS).context("start PostgreSQL")?;
        Ok(Self { postgres: Some(postgres), folder })
    }

    fn postgres(&self) -> &Postgres {
        self.postgres.as_ref().expect("it is taken when this is dropped")
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.postgres.take().map(Postgres::remove) {
            eprintln!("the database of the run could not be removed: {error}");
        }
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("{}: {error}", self.folder.display());
        }
    }
}
