//! What an earlier start left behind: a running server, or the files of one that has ended.
//!
//! A running server is stopped and never adopted, because it is not a child of this process.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::PostgresError;
use super::cluster::{Cluster, at, run};

/// How long backends may take to notice that their server has ended.
const EXIT_TIMEOUT: Duration = Duration::from_secs(10);

/// Stops an orphan and removes its files, so that a fresh server can start.
pub(super) fn clear(cluster: &Cluster) -> Result<(), PostgresError> {
    let data = cluster.data();
    let pid_file = data.join("postmaster.pid");
    if !pid_file.exists() && cluster.socket_files().iter().all(|file| !file.exists()) {
        return Ok(());
    }
    if !Path::new("/proc/self").exists() {
        // Without /proc only pg_ctl can tell.
        if status(cluster).status().is_ok_and(|status| status.success()) {
            return stop(cluster);
        }
        return Ok(());
    }
    if is_alive(&pid_file, &data) {
        stop(cluster)?;
    }
    // The server may have ended while its backends still write to the data.
    let deadline = Instant::now() + EXIT_TIMEOUT;
    while has_process_in(&data) {
        if Instant::now() > deadline {
            return Err(PostgresError::Orphan(data));
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    // Where PID 1 does not reap, a killed server is a zombie that still accepts signals: pg_ctl reports it as
    // running and PostgreSQL refuses its files. No process uses them, so they are removed.
    for file in [pid_file].iter().chain(&cluster.socket_files()) {
        if file.exists() {
            fs::remove_file(file).map_err(at(file))?;
        }
    }
    Ok(())
}

/// Whether the pid file names a live process whose working directory is the data directory. The pid alone is not
/// enough: another process may have it by now.
fn is_alive(pid_file: &Path, data: &Path) -> bool {
    let text = fs::read_to_string(pid_file).unwrap_or_default();
    let Some(pid) = text.lines().next().and_then(|line| line.trim().parse::<u32>().ok()) else { return false };
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the command's name, which may contain brackets.
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
    state.is_some_and(|state| state != 'Z')
        && fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|folder| folder == *data)
}

fn has_process_in(data: &Path) -> bool {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|process| fs::read_link(process.path().join("cwd")).ok()).any(|folder| folder == *data)
}

fn status(cluster: &Cluster) -> Command {
    let mut command = cluster.install().tool("pg_ctl");
    command.arg("status").arg("-D").arg(cluster.data());
    command
}

fn stop(cluster: &Cluster) -> Result<(), PostgresError> {
    let mut command = cluster.install().tool("pg_ctl");
    command.args(["stop", "-m", "fast", "-w", "-t", "20", "-D"]).arg(cluster.data());
    run("pg_ctl stop", &mut command)
}
