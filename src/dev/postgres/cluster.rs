//! The files of a cluster, and how it is created. A partly created cluster is never used.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use sha2::{Digest, Sha256};

use super::PostgresError;
use super::install::{Install, User};

/// The name of the superuser and of the database.
pub(super) const NAME: &str = "smarthome";
/// The folder under root, if the server's user has no access to the project's folder.
const ROOT_FOLDER: &str = "/var/lib/smarthome-dev";
/// Most bytes of a Unix socket's path.
const MAX_SOCKET_PATH: usize = 107;
const SOCKET_FILE: &str = ".s.PGSQL.5432";

pub(super) struct Cluster {
    install: Install,
    base: PathBuf,
    socket_dir: PathBuf,
}

impl Cluster {
    /// Finds the binaries and creates the folders, each accessible to the server's user only.
    pub(super) fn locate(root: &Path) -> Result<Self, PostgresError> {
        let install = Install::find()?;
        fs::create_dir_all(root).map_err(at(root))?;
        let root = fs::canonicalize(root).map_err(at(root))?;
        let digest = Sha256::digest(root.as_os_str().as_encoded_bytes());
        let hash: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        let base = if install.user().is_some() && !is_accessible_to_others(&root) {
            fs::create_dir_all(ROOT_FOLDER).map_err(at(Path::new(ROOT_FOLDER)))?;
            Path::new(ROOT_FOLDER).join(&hash)
        } else {
            root.join("postgres")
        };
        private_dir(&base, install.user())?;
        let mut socket_dir = base.join("socket");
        if socket_dir.join(SOCKET_FILE).as_os_str().len() > MAX_SOCKET_PATH {
            socket_dir = PathBuf::from(format!("/tmp/smarthome-{hash}"));
        }
        private_dir(&socket_dir, install.user())?;
        Ok(Self { install, base, socket_dir })
    }

    pub(super) fn base(&self) -> &Path {
        &self.base
    }

    pub(super) fn data(&self) -> PathBuf {
        self.base.join("data")
    }

    pub(super) fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    pub(super) fn lock_file(&self) -> PathBuf {
        self.base.join("lock")
    }

    pub(super) fn log_file(&self) -> PathBuf {
        self.base.join("postgres.log")
    }

    pub(super) fn socket_files(&self) -> [PathBuf; 2] {
        [self.socket_dir.join(SOCKET_FILE), self.socket_dir.join(format!("{SOCKET_FILE}.lock"))]
    }

    pub(super) fn url(&self) -> String {
        let host = self.socket_dir.to_string_lossy();
        let host = percent_encoding::utf8_percent_encode(&host, percent_encoding::NON_ALPHANUMERIC);
        format!("postgres://{NAME}@{host}/{NAME}")
    }

    pub(super) fn install(&self) -> &Install {
        &self.install
    }

    /// initdb into `data.new` with the database in it, then one rename.
    pub(super) fn create_if_absent(&self) -> Result<(), PostgresError> {
        if self.data().join("PG_VERSION").exists() {
            return Ok(());
        }
        let new = self.base.join("data.new");
        if new.exists() {
            fs::remove_dir_all(&new).map_err(at(&new))?;
        }
        let mut initdb = self.install.tool("initdb");
        initdb.arg("-D").arg(&new).args([
            "-U",
            NAME,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "--lc-messages=C",
        ]);
        run("initdb", &mut initdb)?;
        // Single-user mode creates the database without a server.
        let mut single = self.install.tool("postgres");
        single.args(["--single", "-D"]).arg(&new).arg("postgres").stdin(Stdio::piped());
        let mut child = single.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(at(&new))?;
        let mut input = child.stdin.take().expect("its input is a pipe");
        io::Write::write_all(&mut input, format!("create database {NAME};\n").as_bytes()).map_err(at(&new))?;
        drop(input);
        check("postgres --single", &child.wait_with_output().map_err(at(&new))?)?;
        fs::rename(&new, self.data()).map_err(at(&new))
    }

    /// Removes everything; the server must be stopped.
    pub(super) fn remove(&self) -> Result<(), PostgresError> {
        for folder in [&self.socket_dir, &self.base] {
            if folder.exists() {
                fs::remove_dir_all(folder).map_err(at(folder))?;
            }
        }
        Ok(())
    }
}

/// Whether other users may enter every folder down to `path`.
fn is_accessible_to_others(path: &Path) -> bool {
    path.ancestors().all(|folder| fs::metadata(folder).is_ok_and(|meta| meta.mode() & 0o001 != 0))
}

fn private_dir(path: &Path, user: Option<User>) -> Result<(), PostgresError> {
    let made = DirBuilder::new().mode(0o700).create(path);
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(at(path)(error)),
        _ => {}
    }
    // In a folder such as /tmp another user could have created it first.
    let meta = fs::symlink_metadata(path).map_err(at(path))?;
    if !meta.is_dir() {
        return Err(at(path)(io::Error::other("is not a folder")));
    }
    if let Some(user) = user {
        if ![0, user.uid].contains(&meta.uid()) {
            return Err(at(path)(io::Error::other("belongs to another user")));
        }
        chown(path, Some(user.uid), Some(user.gid)).map_err(at(path))?;
    }
    // Fails if it belongs to another user.
    fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(at(path))
}

/// Adds the file to an input/output error.
pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> PostgresError {
    let path = path.to_owned();
    move |source| PostgresError::File { path, source }
}

/// Runs a program; its output is used only for the error.
pub(super) fn run(program: &'static str, command: &mut Command) -> Result<(), PostgresError> {
    let output = command.output().map_err(|source| at(Path::new(program))(source))?;
    check(program, &output)
}

fn check(program: &'static str, output: &Output) -> Result<(), PostgresError> {
    if output.status.success() {
        return Ok(());
    }
    let output_text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    Err(PostgresError::Program { program, output: last_lines(&String::from_utf8_lossy(&output_text)) })
}

/// The last lines of a program's output, which contain the reason.
pub(super) fn last_lines(text: &str) -> String {
    const KEPT: usize = 5;
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(KEPT)..].join("; ")
}
