//! Databases, clocks and disks with a fault.

use std::os::unix::fs::MetadataExt;
use std::process::Command;

use smarthome::settings::{Environment, Source};

use super::{examine, migrated, report, variables};
use crate::support::app::Database;
use crate::support::broker::{Broker, folder};
use crate::support::installation::SERVER;
use crate::support::ports::free_port;
use crate::support::services::services;

async fn broker() -> (Broker, String) {
    let broker = Broker::with_accounts(&[SERVER]).await;
    let url = format!("mqtt://127.0.0.1:{}", broker.port());
    (broker, url)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_absent_or_refuses_the_account() {
    let (_broker, url) = broker().await;
    let away = format!("postgres://smarthome@127.0.0.1:{}/smarthome", free_port());
    let report = examine(&variables(&away, &url), &[]).await;
    report.assert_fault("database", "Connection refused", "start PostgreSQL");
    assert_eq!(report.check("clock")["status"], "notChecked");
    assert_eq!(report.check("roundTrip")["status"], "ok", "the other checks go on");

    let absent = services().database_url("smarthome_absent");
    examine(&variables(&absent, &url), &[]).await.assert_fault("database", "does not exist", "createdb");
    let database = Database::create().await;
    let nobody = database.url_as("nobody_here");
    examine(&variables(&nobody, &url), &[]).await.assert_fault("database", "nobody_here", "user and password");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_migrations() {
    let (_broker, url) = broker().await;
    let database = migrated().await;
    let forget =
        "delete from __diesel_schema_migrations where version = (select max(version) from __diesel_schema_migrations)";
    database.client().await.batch_execute(forget).await.unwrap();
    let report = examine(&variables(&database.url(), &url), &[]).await;
    report.assert_fault("migrations", "1 are missing", "smarthome migrate");
    let empty = Database::create().await;
    let report = examine(&variables(&empty.url(), &url), &[]).await;
    report.assert_fault("migrations", "__diesel_schema_migrations", "smarthome migrate");
}

/// The database's clock, as its account sees it, is ten minutes ahead.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_ten_minutes_off() {
    let (_broker, url) = broker().await;
    let database = Database::create().await;
    let account = database.account().await;
    crate::support::installation::smarthome(&["migrate"], &database.url_as(&account));
    let ahead = format!(
        "create schema ahead;
        create function ahead.clock_timestamp() returns timestamptz language sql
        as $$ select pg_catalog.clock_timestamp() + interval '10 minutes' $$;
        grant usage on schema ahead to {account};
        alter role {account} set search_path = ahead, pg_catalog, public"
    );
    database.client().await.batch_execute(&ahead).await.unwrap();
    let report = examine(&variables(&database.url_as(&account), &url), &[]).await;
    report.assert_fault("clock", "600 s behind the database's", "NTP");
}

/// A file system of its own, in a name space of its own: only the doctor sees it.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_nearly_full() {
    let unshare = ["--map-root-user", "--mount"];
    if !Command::new("unshare").args(unshare).arg("true").status().is_ok_and(|status| status.success()) {
        let is_root = std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
        assert!(!is_root || Environment.get("CI").is_none(), "in CI root must be able to create a name space");
        eprintln!("NOT TESTED: `smarthome doctor --disk`, because this account may not create a name space");
        return;
    }
    let (_broker, url) = broker().await;
    let (database, folder) = (migrated().await, folder());
    // In the name space this account may not enter the folder of the database's socket.
    let database_url = services().database_url_by_tcp("127.0.0.1", database.name()) + "?sslmode=disable";
    let disk = folder.to_str().unwrap();
    for (kib, is_full) in [(1000, true), (100, false)] {
        let script = "mount -t tmpfs -o size=1024k none \"$1\" && head -c \"$2\"k /dev/zero > \"$1\"/data && \
                      exec \"$3\" doctor --json --disk \"$1\"";
        let mut command = tokio::process::Command::new("unshare");
        command.args(unshare).args(["sh", "-c", script, "sh", disk, &kib.to_string(), env!("CARGO_BIN_EXE_smarthome")]);
        command.env_clear().env("PATH", "/usr/bin:/bin").envs(variables(&database_url, &url)).kill_on_drop(true);
        let report = report(&mut command).await;
        match is_full {
            true => report.assert_fault("disk", disk, "free some"),
            false => report.assert_well(),
        }
    }
    examine(&variables(&database_url, &url), &["--disk", "/no/such/folder"]).await.assert_fault(
        "disk",
        "/no/such/folder",
        "--disk",
    );
    std::fs::remove_dir_all(folder).unwrap();
}

/// Folders in which this installation stores nothing say nothing about it.
#[tokio::test(flavor = "multi_thread")]
async fn the_disks_are_those_of_this_installation() {
    let (broker, url) = broker().await;
    let database = migrated().await;
    let configuration = broker.folder().join("mosquitto.conf").display().to_string();
    let folder: String = database.client().await.query_one("show data_directory", &[]).await.unwrap().get(0);
    let report = examine(&variables(&database.url(), &url), &["--mosquitto-conf", &configuration]).await;
    report.assert_well();
    let details = report.details("disk");
    assert_eq!(details.len(), 2, "{details:?}");
    assert!(details[0].starts_with(&format!("{folder} (PostgreSQL): ")), "{details:?}");
    assert!(details[1].starts_with(&format!("{}/ (Mosquitto): ", broker.folder().display())), "{details:?}");

    // An account that may not know the folder, and a broker without its file: the usual folder, with a condition.
    let account = database.account().await;
    let report = examine(&variables(&database.url_as(&account), &url), &[]).await;
    for (usual, service) in [("/var/lib/postgresql", "PostgreSQL"), ("/var/lib/mosquitto", "Mosquitto")] {
        let condition =
            format!("{usual} (if {service} stores its data there; otherwise name its folder with --disk): ");
        let is_there = std::path::Path::new(usual).exists();
        let details = report.details("disk");
        assert_eq!(details.iter().any(|detail| detail.starts_with(&condition)), is_there, "{details:?}");
    }
    // Folders that were named are enough.
    let report = examine(&variables(&database.url_as(&account), &url), &["--disk", "/tmp"]).await;
    let details = report.details("disk");
    assert!(details.len() == 1 && details[0].starts_with("/tmp: "), "{details:?}");

    let elsewhere = variables("postgres://me@db.test.invalid/home", "mqtt://mqtt.test.invalid");
    let report = examine(&elsewhere, &[]).await;
    assert_eq!(report.check("disk")["status"], "notChecked", "{:#}", report.check("disk"));
    assert!(report.details("disk")[0].contains("--disk"));
}

/// Nobody can ask a broker for it.
#[tokio::test(flavor = "multi_thread")]
async fn the_check_of_persistence_says_when_it_was_skipped_and_how_to_have_it() {
    let (broker, url) = broker().await;
    let database = migrated().await;
    let mut variables = variables(&database.url(), &url);
    let skipped = examine(&variables, &[]).await;
    skipped.assert_well();
    assert_eq!(skipped.check("persistence")["status"], "notChecked");
    assert!(skipped.details("persistence")[0].contains("--mosquitto-conf FILE"), "{skipped:?}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_smarthome"));
    let output = command.arg("doctor").env_clear().envs(&variables).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let is_well = text.ends_with("\nwhat was checked is well; not checked: persistence\n");
    assert_eq!(is_well, skipped.is_well(), "{text}");

    // The file does not need the broker's settings.
    variables.insert("MQTT_BROKER_URL".to_owned(), "no URL".to_owned());
    let configuration = broker.folder().join("mosquitto.conf").display().to_string();
    let report = examine(&variables, &["--mosquitto-conf", &configuration]).await;
    assert_eq!(report.check("persistence")["status"], "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_settings_do_not_stop_the_other_checks() {
    let (_broker, url) = broker().await;
    let database = migrated().await;
    let mut variables = variables(&database.url(), &url);
    variables.remove("JWT_SECRET");
    variables.insert("GRAPHIQL".to_owned(), "yes".to_owned());
    let report = examine(&variables, &[]).await;
    report.assert_fault("settings", "JWT_SECRET", "smarthome serve --help");
    assert!(report.check("settings")["detail"].as_str().unwrap().contains("GRAPHIQL"));
    assert_eq!((&report.check("roundTrip")["status"], &report.check("clock")["status"]), (&"ok".into(), &"ok".into()));
    variables.clear();
    let report = examine(&variables, &[]).await;
    report.assert_fault("settings", "DATABASE_URL", "smarthome serve --help");
}

/// Values that can be read, and name what `serve` refuses.
#[tokio::test(flavor = "multi_thread")]
async fn settings_with_which_the_server_would_not_start() {
    let (_broker, url) = broker().await;
    let database = migrated().await;
    let mut variables = variables(&database.url(), &url);
    variables.remove("JWT_SECRET");
    for (name, value) in [("JWT_PRIVATE_KEY", "no key"), ("MQTT_PROVISIONING", "embedded")] {
        variables.insert(name.to_owned(), value.to_owned());
    }
    let report = examine(&variables, &[]).await;
    report.assert_fault("settings", "JWT_PRIVATE_KEY: ", "smarthome serve --help");
    assert!(report.check("settings")["detail"].as_str().unwrap().contains("MQTT_PROVISIONING: "));
}

/// Mosquitto follows `include_dir` in its main file only.
#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_includes_itself() {
    let (_broker, url) = broker().await;
    let (database, folder) = (migrated().await, folder());
    let text = format!("persistence false\ninclude_dir {}\n", folder.display());
    std::fs::write(folder.join("mosquitto.conf"), text).unwrap();
    let arguments = ["--mosquitto-conf", &folder.join("mosquitto.conf").display().to_string()].map(str::to_owned);
    let arguments = arguments.each_ref().map(String::as_str);
    let variables = variables(&database.url(), &url);
    examine(&variables, &arguments).await.assert_fault("persistence", "restart", "persistence true");
    std::fs::write(folder.join("other.conf"), "persistence true").unwrap();
    examine(&variables, &arguments).await.assert_well();
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_from_elsewhere_is_short_and_has_no_control_characters() {
    let long = format!("/no\x1b[31m{}", "/such".repeat(2_000));
    let mut command = Command::new(env!("CARGO_BIN_EXE_smarthome"));
    let output = command.args(["doctor", "--disk", &long]).env_clear().output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find(|line| line.contains("/no")).expect("the folder");
    assert!(!text.contains('\x1b') && line.chars().count() < 1_100, "{line}");
}
