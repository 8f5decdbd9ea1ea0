//! What is installed: PostgreSQL's programs, `setpriv`, and a user to run the server as.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::PostgresError;

/// Folders of versioned installations that are not on the PATH. The newest version is used.
const VERSIONED: [&str; 2] = ["/usr/lib/postgresql", "/usr/local/opt"];
const PLAIN: [&str; 3] = ["/usr/pgsql/bin", "/usr/local/pgsql/bin", "/opt/homebrew/bin"];

/// PostgreSQL's programs and the user that runs them.
pub(super) struct Install {
    bin: PathBuf,
    setpriv: Option<PathBuf>,
    user: Option<User>,
}

/// An account of the passwd file. PostgreSQL refuses to run as root, so root runs it as another user.
#[derive(Clone, Copy)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Install {
    pub(super) fn find() -> Result<Self, PostgresError> {
        let bin = find_bin().ok_or(PostgresError::NotInstalled)?;
        let user = if is_root() { server_user() } else { None };
        Ok(Self { bin, setpriv: which("setpriv"), user })
    }

    /// Absent: the user of this process.
    pub(super) fn user(&self) -> Option<User> {
        self.user
    }

    /// One of PostgreSQL's tools, run as the right user, detached from the terminal.
    pub(super) fn tool(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.current_dir("/").stdin(Stdio::null()).process_group(0);
        if let Some(user) = self.user {
            command.uid(user.uid).gid(user.gid);
        }
        command
    }

    /// The server. The kernel sends it SIGINT (a fast stop) when the thread that spawned it ends. Its own process
    /// group keeps a terminal's Ctrl-C away from it, so that `dev` can drain first.
    pub(super) fn server(&self) -> Command {
        let Some(setpriv) = &self.setpriv else { return self.tool("postgres") };
        let mut command = Command::new(setpriv);
        command.current_dir("/").stdin(Stdio::null()).process_group(0);
        if let Some(user) = self.user {
            command.arg(format!("--reuid={}", user.uid)).arg(format!("--regid={}", user.gid)).arg("--clear-groups");
        }
        command.args(["--pdeathsig", "INT", "--"]).arg(self.bin.join("postgres"));
        command
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// A user of the passwd file, where initdb looks it up.
fn server_user() -> Option<User> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    ["postgres", "nobody"].into_iter().find_map(|name| {
        let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut numbers = line.split(':').skip(2);
        Some(User { uid: numbers.next()?.parse().ok()?, gid: numbers.next()?.parse().ok()? })
    })
}

fn find_bin() -> Option<PathBuf> {
    let on_path = which("initdb").and_then(|initdb| Some(fs::canonicalize(initdb).ok()?.parent()?.to_owned()));
    let versioned = VERSIONED.iter().flat_map(|folder| newest_first(Path::new(folder)));
    on_path.into_iter().chain(versioned).chain(PLAIN.iter().map(PathBuf::from)).find(|bin| is_complete(bin))
}

fn newest_first(folder: &Path) -> Vec<PathBuf> {
    let version = |path: &PathBuf| -> u32 {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.trim_start_matches("postgresql@").parse().unwrap_or(0)
    };
    let mut found: Vec<PathBuf> = fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    found.retain(|path| version(path) > 0);
    found.sort_by_key(|path| std::cmp::Reverse(version(path)));
    found.into_iter().map(|path| path.join("bin")).collect()
}

fn is_complete(bin: &Path) -> bool {
    ["initdb", "postgres", "pg_ctl"].iter().all(|program| bin.join(program).is_file())
}

/// Asks the shell, because only the settings read the environment.
fn which(program: &str) -> Option<PathBuf> {
    let output = Command::new("sh").args(["-c", "command -v \"$1\"", "sh", program]).output().ok()?;
    let path = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim_end());
    path.is_file().then_some(path)
}
