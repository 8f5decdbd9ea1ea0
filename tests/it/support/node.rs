//! Scripts of `tests/node`, clients of `tests/python`, and the examples of `examples/clients`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use tokio::process::Command;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/node");
const EXAMPLES_FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/clients");
const PYTHON_FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python");

/// Runs a script of `tests/node`.
pub async fn node(script: &str, arguments: &[&str]) -> Output {
    node_within(script, arguments, Duration::from_secs(60)).await
}

/// As [`node`], with a limit of its own.
pub async fn node_within(script: &str, arguments: &[&str], limit: Duration) -> Output {
    run(&mut node_command(script, arguments).await, limit).await
}

/// Node with a script: one of `tests/node`, or one at an absolute path.
pub async fn node_command(script: impl AsRef<Path>, arguments: &[&str]) -> Command {
    let mut command = Command::new("node");
    command.current_dir(install_node().await).arg(script.as_ref()).args(arguments);
    command
}

/// Runs a script of `tests/python`, in a virtual environment with its packages.
pub async fn python(script: &str, arguments: &[&str]) -> Output {
    run(&mut python_command(script, arguments).await, Duration::from_secs(60)).await
}

/// Python with a script: one of `tests/python`, or one at an absolute path.
pub async fn python_command(script: impl AsRef<Path>, arguments: &[&str]) -> Command {
    let mut command = Command::new(python_program("python").await);
    command.current_dir(PYTHON_FOLDER).arg(script.as_ref()).args(arguments);
    command
}

/// `tests/node`, with its packages.
async fn install_node() -> &'static Path {
    npm(FOLDER).await
}

/// `examples/clients`, with its packages.
pub async fn install_examples() -> &'static Path {
    npm(EXAMPLES_FOLDER).await
}

async fn npm(folder: &'static str) -> &'static Path {
    let path = Path::new(folder);
    let installed = path.join("node_modules/.package-lock.json");
    install_once(path.join("package-lock.json"), installed, || {
        let mut command = Command::new("npm");
        command.args(["ci", "--no-audit", "--no-fund", "--silent"]).current_dir(folder);
        vec![command]
    })
    .await;
    path
}

/// A program of the virtual environment of `tests/python`.
pub async fn python_program(name: &str) -> PathBuf {
    install_python().await.join(".venv/bin").join(name)
}

/// `tests/python`, with the virtual environment `.venv`.
async fn install_python() -> &'static Path {
    let folder = Path::new(PYTHON_FOLDER);
    let (list, stamp) = (folder.join("requirements.txt"), folder.join(".venv/installed"));
    install_once(list, stamp, || {
        let in_folder = |program: &str, arguments: &[&str]| {
            let mut command = Command::new(program);
            command.args(arguments).current_dir(PYTHON_FOLDER);
            command
        };
        let quiet = ["-q", "--disable-pip-version-check", "--no-input"];
        vec![
            in_folder("python3", &["-m", "venv", ".venv"]),
            in_folder(".venv/bin/pip", &[&["install"], &quiet[..], &["-r", "requirements.txt"]].concat()),
            in_folder("touch", &[".venv/installed"]),
        ]
    })
    .await;
    folder
}

/// Runs a command to its end, or fails the test.
pub async fn run(command: &mut Command, limit: Duration) -> Output {
    let output = command.kill_on_drop(true).output();
    tokio::time::timeout(limit, output).await.expect("the script ends in time").expect("the program is installed")
}

/// Runs commands that install packages, if their list is newer than what is installed. `make test` has done it; a single
/// test may be the first. Tests in other processes wait.
pub async fn install_once(list: PathBuf, installed: PathBuf, commands: impl FnOnce() -> Vec<Command>) {
    let is_current = {
        let modified = |path: &Path| path.metadata().and_then(|file| file.modified()).ok();
        move || modified(&installed).is_some_and(|at| Some(at) >= modified(&list))
    };
    if is_current() {
        return;
    }
    let lock = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages.lock");
    let lock = File::create(lock).expect("a lock file");
    let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await;
    let _lock = lock.expect("no panic").expect("a lock");
    if is_current() {
        return;
    }
    for mut command in commands() {
        let output = command.output().await.expect("the package manager is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
