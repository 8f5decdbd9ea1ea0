//! `docker/secrets.sh`: the secrets that compose.yaml names, created once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use smarthome::settings::DatabaseSettings;

use crate::support::broker::folder;

fn docker() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docker")
}

/// Runs the script in a copy of its folder. Returns each file of `secrets` with its content.
fn run(folder: &Path) -> BTreeMap<String, String> {
    let output = Command::new("sh")
        // The files are for other accounts, whatever mask the caller has.
        .args(["-c", "umask 077; exec ./secrets.sh"])
        .current_dir(folder)
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{output:?}");
    let files = fs::read_dir(folder.join("secrets")).expect("the folder").map(|file| file.expect("a file").path());
    let name = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
    files.map(|path| (name(&path), fs::read_to_string(&path).expect("a secret"))).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it exists").permissions().mode() & 0o777
}

/// The files that compose.yaml mounts.
fn named() -> BTreeSet<String> {
    let compose = fs::read_to_string(docker().join("compose.yaml")).expect("compose.yaml");
    let files = compose.split("{file: secrets/").skip(1).map(|rest| rest.split('}').next().unwrap_or_default());
    files.map(str::to_owned).collect()
}

#[test]
fn the_secrets_of_compose_are_created_once() {
    let folder = folder();
    fs::copy(docker().join("secrets.sh"), folder.join("secrets.sh")).expect("copied");
    let secrets = run(&folder);
    assert_eq!(secrets.keys().cloned().collect::<BTreeSet<_>>(), named());
    let place = folder.join("secrets");
    assert_eq!(mode(&place), 0o700, "only its owner enters the folder");
    for name in secrets.keys() {
        assert_eq!(mode(&place.join(name)), 0o644, "{name}: a container reads it by another account");
    }

    let random = ["postgres", "database", "jwt", "mqtt", "dynsec"];
    for name in random {
        let secret = secrets[name].trim_end();
        assert!(secret.len() == 64 && secret.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}: {secret}");
    }
    assert_eq!(
        random.map(|name| &secrets[name]).iter().collect::<BTreeSet<_>>().len(),
        random.len(),
        "each is its own"
    );
    assert_eq!(BASE64_STANDARD.decode(secrets["encryption"].trim_end()).expect("base64").len(), 32);
    let url = secrets["database-url"].trim_end();
    let password = secrets["database"].trim_end();
    assert_eq!(url, format!("postgres://smarthome:{password}@postgres/smarthome"));
    assert!(DatabaseSettings::read(&|name: &str| (name == "DATABASE_URL").then(|| url.to_owned())).is_ok());

    // A second run keeps what is there, and creates what is missing or was cut off.
    assert_eq!(run(&folder), secrets);
    fs::write(place.join("jwt"), "of the operator").expect("written");
    fs::write(place.join("mqtt"), "").expect("written");
    fs::remove_file(place.join("dynsec")).expect("removed");
    fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).expect("changed");
    let again = run(&folder);
    assert_eq!(again["jwt"], "of the operator");
    for name in ["mqtt", "dynsec"] {
        assert!(again[name].trim_end().len() == 64 && again[name] != secrets[name], "{name}");
    }
    for name in ["postgres", "database", "database-url", "encryption"] {
        assert_eq!(again[name], secrets[name], "{name}");
    }
    assert_eq!(mode(&place), 0o700, "the folder is private again");
    fs::remove_dir_all(folder).expect("removed");
}
