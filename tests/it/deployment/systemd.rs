//! The unit for systemd.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use smarthome::settings::VARIABLES;

use crate::support::broker::folder;

const UNIT: &str = include_str!("../../../deploy/systemd/smarthome.service");
/// Of 100: what `systemd-analyze security` calls OK.
const MAX_EXPOSURE: &str = "15";

fn analyze(arguments: &[&str], unit: &Path) {
    let output = Command::new("systemd-analyze").args(arguments).arg(unit).output().expect("systemd-analyze runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && said.is_empty(),
        "{arguments:?}: {said}{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

#[test]
fn systemd_accepts_the_unit_and_its_hardening() {
    let folder = folder();
    let unit = folder.join("smarthome.service");
    // The program has to exist.
    let text = UNIT.replace("/usr/local/bin/smarthome ", &format!("{} ", env!("CARGO_BIN_EXE_smarthome")));
    assert_ne!(text, UNIT);
    std::fs::write(&unit, text).unwrap();
    analyze(&["verify", "--man=no"], &unit);
    analyze(&["security", "--no-pager", "--offline=true", &format!("--threshold={MAX_EXPOSURE}")], &unit);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn the_unit_hands_over_secrets_as_credentials() {
    let loaded: BTreeSet<_> = UNIT
        .lines()
        .filter_map(|line| line.strip_prefix("LoadCredential=")?.split_once(':'))
        .map(|(name, _)| name)
        .collect();
    let environment = UNIT.lines().filter_map(|line| line.strip_prefix("Environment="));
    let pairs: Vec<_> =
        environment.flat_map(str::split_whitespace).filter_map(|pair| pair.split_once("=%d/")).collect();
    assert_eq!(pairs.iter().map(|(_, credential)| *credential).collect::<BTreeSet<_>>(), loaded);
    for (variable, _) in pairs {
        let is_secret = VARIABLES.iter().any(|known| known.is_secret && format!("{}_FILE", known.name) == variable);
        assert!(is_secret, "{variable}");
    }
    // Exit status 2 means wrong settings.
    assert!(UNIT.contains("RestartPreventExitStatus=2\n"));
}
