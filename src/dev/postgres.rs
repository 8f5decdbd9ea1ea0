//! A private PostgreSQL made of the system's binaries: no service, no port, no password, no root.
//!
//! Invariant: a cluster has at most one server, it is our child, and it does not outlive us, not
//! even after `kill -9`. Data is as safe as in production: fsync stays on unless a caller's
//! settings say otherwise.

mod cluster;
mod install;
mod orphan;
mod server;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use cluster::Cluster;
use server::Server;

/// Why the private PostgreSQL can't run. Each text says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresError {
    /// No binaries on this machine.
    #[error("PostgreSQL is not installed: apt-get install postgresql (Debian, Ubuntu) or brew install postgresql@15")]
    NotInstalled,
    /// Somebody else has the cluster.
    #[error("another process already runs the database in {}: stop it first", .0.display())]
    InUse(PathBuf),
    /// A file could not be made, read or handed over.
    #[error("{}: can't be used for the private PostgreSQL", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// One of PostgreSQL's programs failed.
    #[error("{program} failed: {output}")]
    Program {
        /// Its name.
        program: &'static str,
        /// The end of what it said.
        output: String,
    },
    /// A server of an earlier start can't be stopped.
    #[error("a PostgreSQL server of an earlier start still works in {}: stop it by hand", .0.display())]
    Orphan(PathBuf),
}

/// A running private server. Dropping it stops the server the fast way, without waiting.
pub struct Postgres {
    cluster: Cluster,
    settings: Vec<String>,
    server: Option<Server>,
    /// Held as long as we are: a second start must not stop the first one's server.
    _lock: File,
}

impl Postgres {
    /// Starts the server whose data lives under `root`, making the cluster first where there is
    /// none. Blocks for some 50 ms, or 600 ms the first time.
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

    /// The superuser's URL of the one database; the road is a socket only this user can reach.
    pub fn url(&self) -> String {
        self.cluster.url()
    }

    /// How to look inside by hand.
    pub fn psql(&self) -> String {
        format!("psql -h {} -U {} {}", self.cluster.socket_dir().display(), cluster::NAME, cluster::NAME)
    }

    /// Where the cluster really is: not under `root` where the server's user can't reach that.
    pub fn directory(&self) -> &Path {
        self.cluster.base()
    }

    /// Whether the server still runs.
    pub fn is_running(&mut self) -> bool {
        self.server.as_mut().is_some_and(Server::is_running)
    }

    /// Starts the server again after one of the ways to stop it, or after a crash.
    pub fn restart(&mut self) -> Result<(), PostgresError> {
        if self.is_running() {
            return Ok(());
        }
        self.server = None;
        orphan::clear(&self.cluster)?;
        self.server = Some(Server::start(&self.cluster, &self.settings)?);
        Ok(())
    }

    /// Stops in order: open transactions are rolled back, a checkpoint is written.
    pub fn stop(mut self) -> Result<(), PostgresError> {
        self.halt("fast")
    }

    /// Stops as [`Postgres::stop`] does and may be started again.
    pub fn stop_fast(&mut self) -> Result<(), PostgresError> {
        self.halt("fast")
    }

    /// Stops as in a crash of the server: no checkpoint, recovery at the next start.
    pub fn stop_immediate(&mut self) -> Result<(), PostgresError> {
        self.halt("immediate")
    }

    /// Stops the server and removes the cluster with all its data.
    pub fn remove(mut self) -> Result<(), PostgresError> {
        self.halt("immediate")?;
        self.cluster.remove()
    }

    fn halt(&mut self, mode: &str) -> Result<(), PostgresError> {
        match self.server.take() {
            Some(server) => server.stop(&self.cluster, mode),
            None => Ok(()),
        }
    }
}

/// Removes the cluster under `root`, data and all; refuses while a server is using it.
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
