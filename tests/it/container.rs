//! What the image and compose.yaml rely on.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use smarthome::settings::HttpSettings;

use crate::support::app::Database;
use crate::support::broker::folder;
use crate::support::installation;

fn shipped(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("a file")
}

/// The text behind the first occurrence of `word`, to the end of its value.
fn after<'a>(text: &'a str, word: &str) -> &'a str {
    let rest = text.split_once(word).unwrap_or_else(|| panic!("no {word}")).1;
    rest.split(['\n', ',', '}']).next().expect("the rest of its line").trim()
}

#[test]
fn compose_trusts_the_gateway_that_a_proxy_on_the_host_uses() {
    let compose = shipped("docker/compose.yaml");
    let gateway = after(&compose, "gateway: ");
    assert_eq!(after(&compose, "TRUSTED_PROXIES: ${TRUSTED_PROXIES:-"), gateway);
    let http = HttpSettings::read(&|name: &str| (name == "TRUSTED_PROXIES").then(|| gateway.to_owned()));
    assert!(http.is_ok(), "{http:?}");
    // Published elsewhere, every client would come through the gateway.
    assert!(compose.contains("ports: [\"127.0.0.1:4000:4000\"]"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_prompt_does_not_echo_without_stty() {
    let database = Database::create().await;
    installation::smarthome(&["migrate"], &database.url());
    let create = concat!(env!("CARGO_BIN_EXE_smarthome"), " user create --email a@example.com --name A");
    let mut terminal = Command::new("/usr/bin/script")
        .args(["--quiet", "--return", "--command", create, "/dev/null"])
        .env("DATABASE_URL", database.url())
        .env("JWT_SECRET", "x".repeat(32))
        // The image contains no other program.
        .env("SHELL", "/bin/sh")
        .env("PATH", "")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let terminal = terminal.as_mut().expect("util-linux is there");
    let (mut keyboard, mut screen) = (terminal.stdin.take().expect("piped"), terminal.stdout.take().expect("piped"));
    let mut shown = Vec::new();
    while !shown.ends_with(b"Password: ") {
        let mut byte = [0];
        screen.read_exact(&mut byte).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&shown)));
        shown.push(byte[0]);
    }
    keyboard.write_all(b"correct horse battery\n").expect("typed");
    screen.read_to_end(&mut shown).expect("the rest");
    let shown = String::from_utf8_lossy(&shown);
    assert!(terminal.wait().expect("an end").success() && shown.contains("created user"), "{shown}");
    assert!(!shown.contains("horse"), "{shown}");
}

/// Runs a linter; returns its exit status and what it says.
fn lint(program: &str, arguments: &[&str]) -> (bool, String) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(root.join(program)).args(arguments).current_dir(root).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}: `make clients` installs it"));
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn the_linter_of_dockerfiles_has_no_complaint() {
    const HADOLINT: &str = "tests/python/.venv/bin/hadolint";
    assert_eq!(lint(HADOLINT, &["docker/Dockerfile"]), (true, String::new()));
    let folder = folder();
    let bad = folder.join("Dockerfile");
    std::fs::write(&bad, "FROM debian\nRUN apt-get install curl\n").expect("written");
    assert!(!lint(HADOLINT, &[bad.to_str().expect("a path")]).0, "it judges");
    std::fs::remove_dir_all(folder).expect("removed");
}

/// Its first rule is the schema of the Compose specification. `dclint.json` leaves out rules of order and of quotes, and the one
/// against ports on all addresses: those of MQTT are for the network, and that of HTTP has a test above.
#[test]
fn the_linter_of_compose_files_has_no_complaint() {
    const DCLINT: &str = "tests/node/node_modules/.bin/dclint";
    const STRICT: [&str; 4] = ["--config", "tests/node/dclint.json", "--max-warnings", "0"];
    let (is_good, complaints) = lint(DCLINT, &[&STRICT[..], &["docker/compose.yaml"]].concat());
    assert!(is_good, "{complaints}");
    let folder = folder();
    let bad = folder.join("compose.yaml");
    std::fs::write(&bad, shipped("docker/compose.yaml").replace("restart:", "restrat:")).expect("written");
    let (is_good, complaints) = lint(DCLINT, &[&STRICT[..], &[bad.to_str().expect("a path")]].concat());
    assert!(!is_good && complaints.contains("additional properties"), "{complaints}");
    std::fs::remove_dir_all(folder).expect("removed");
}
