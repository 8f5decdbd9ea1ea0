//! A private PostgreSQL from the system's binaries: no service, no port, no password, no root.
//!
//! Invariant: a cluster has at most one server, which is our child and ends with this process, even after
//! `kill -9`. Data is as safe as in production: fsync stays on unless a caller's settings turn it off.

mod cluster;
mod install;
mod orphan;
mod server;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use cluster::Cluster;
use server::Server;

/// Why the private PostgreSQL can't run. Each text names a remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresError {
    #[error("PostgreSQL is not installed: apt-get install postgresql (Debian, Ubuntu) or brew install postgresql@15")]
    NotInstalled,
    #[error("another process already runs the database in {}: stop it first", .0.display())]
    InUse(PathBuf),
    #[error("{}: can't be used for the private PostgreSQL", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// One of PostgreSQL's programs failed.
    #[error("{program} failed: {output}")]
    Program {
        program: &'static str,
        /// The last lines of its output.
        output: String,
    },
    #[error("a PostgreSQL server of an earlier start still runs in {}: stop it by hand", .0.display())]
    Orphan(PathBuf),
}

/// A running private server. Dropping it starts a fast shutdown without waiting for it.
pub struct Postgres {
    cluster: Cluster,
    settings: Vec<String>,
    server: Option<Server>,
    /// Locked as long as this value exists: a second start must not stop the first one's server.
    _lock: File,
}

impl Postgres {
    /// Starts the server whose data is under `root`, and creates the cluster first if there is none. Blocks for about
    /// 50 ms, or 600 ms the first time.
    pub fn start(root: &Path) -> Result<Self, PostgresError> {
        Self::start_with(root, &[])
    }

    /// As [`Postgres::start`], with server settings such as `max_connections=300`.
    pub fn start_with(root: &Path, settings: &[&str]) -> Result<Self, PostgresError> {
        let cluster = Cluster::locate(root)?;
        let lock = File::create(cluster.lock_file()).map_err(cluster::at(&cluster.lock_file()))?;
        if lock.try_lock().is_err() {
            return Err(PostgresError::InUse(cluster.base().to_owned()));
        }
        orphan::clear(&cluster)?;
        cluster.create_if_absent()?;
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let mut postgres = Self { cluster, settings, server: None, _lock: lock };
        postgres.restart()?;
        Ok(postgres)
    }

    /// The superuser's URL of the database, by a socket that only this user can reach.
    pub fn url(&self) -> String {
        self.cluster.url()
    }

    /// The command that opens psql.
    pub fn psql(&self) -> String {
        format!("psql -h {} -U {} {}", self.cluster.socket_dir().display(), cluster::NAME, cluster::NAME)
    }

    /// Where the cluster is. It is not under `root` if the server's user has no access there.
    pub fn directory(&self) -> &Path {
        self.cluster.base()
    }

    pub fn is_running(&mut self) -> bool {
        self.server.as_mut().is_some_and(Server::is_running)
    }

    /// Starts the server again after a stop or a crash.
    pub fn restart(&mut self) -> Result<(), PostgresError> {
        if self.is_running() {
            return Ok(());
        }
        self.server = None;
        orphan::clear(&self.cluster)?;
        self.server = Some(Server::start(&self.cluster, &self.settings)?);
        Ok(())
    }

    /// Rolls back open transactions, writes a checkpoint and stops.
    pub fn stop(mut self) -> Result<(), PostgresError> {
        self.stop_server("fast")
    }

    /// As [`Postgres::stop`]; the server may be started again.
    pub fn stop_fast(&mut self) -> Result<(), PostgresError> {
        self.stop_server("fast")
    }

    /// Stops as in a crash: no checkpoint, recovery at the next start.
    pub fn stop_immediate(&mut self) -> Result<(), PostgresError> {
        self.stop_server("immediate")
    }

    /// Stops the server and removes the cluster with all its data.
    pub fn remove(mut self) -> Result<(), PostgresError> {
        self.stop_server("immediate")?;
        self.cluster.remove()
    }

    fn stop_server(&mut self, mode: &str) -> Result<(), PostgresError> {
        match self.server.take() {
            Some(server) => server.stop(&self.cluster, mode),
            None => Ok(()),
        }
    }
}

/// Removes the cluster under `root` with all its data; refuses while a server uses it.
pub fn remove(root: &Path) -> Result<(), PostgresError> {
    let cluster = Cluster::locate(root)?;
    let lock = File::create(cluster.lock_file()).map_err(cluster::at(&cluster.lock_file()))?;
    if lock.try_lock().is_err() {
        return Err(PostgresError::InUse(cluster.base().to_owned()));
    }
    orphan::clear(&cluster)?;
    cluster.remove()
}

#[cfg(test)]
mod tests;
