//! From the database of version 0.1.0 to this one, and back.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::support::app::{Database, variables};
use super::support::mqtt::Mqtt;
use super::support::server::Server;
use super::support::services::services;
use super::support::user::User;
use super::support::{binary, eventually};

/// The last migration of version 0.1.0.
const RELEASE: &str = "2026-11-28-000076_unheard_expiry";
/// Diesel's table, as it creates it.
const APPLIED: &str = "create table __diesel_schema_migrations (
    version varchar(50) primary key not null, run_on timestamp not null default current_timestamp)";

/// The migrations by name, oldest first.
fn migrations() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut found: Vec<_> =
        std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("a migration").path()).collect();
    found.sort();
    found
}

fn name(migration: &Path) -> &str {
    migration.file_name().and_then(|name| name.to_str()).expect("a name")
}

/// A database as version 0.1.0 leaves it.
async fn of_the_release() -> Database {
    let database = Database::create().await;
    let sql = database.client().await;
    sql.batch_execute(APPLIED).await.expect("created");
    for migration in migrations().iter().filter(|migration| name(migration) <= RELEASE) {
        let up = std::fs::read_to_string(migration.join("up.sql")).expect("a migration");
        sql.batch_execute(&up).await.unwrap_or_else(|error| panic!("{}: {error}", name(migration)));
        let version: String = name(migration).split('_').next().expect("a version").replace('-', "");
        sql.execute("insert into __diesel_schema_migrations (version) values ($1)", &[&version])
            .await
            .expect("inserted");
    }
    database
}

/// Runs the program; returns its exit status and what it prints.
async fn run(database: &Database, arguments: &[&str]) -> (Option<i32>, String) {
    let mut variables = variables(&HashMap::new(), &database.url(), services().mqtt_port());
    variables.insert("LOG".to_owned(), "warn".to_owned());
    let output = binary::run(arguments, &variables).await;
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).expect("UTF-8"))
}

/// Rows of each table that both versions have under one name.
async fn counts(database: &Database) -> BTreeMap<&'static str, i64> {
    let client = database.client().await;
    let mut counts = BTreeMap::new();
    for table in [
        "users",
        "refresh_tokens",
        "homes",
        "memberships",
        "rooms",
        "devices",
        "device_credentials",
        "device_states",
        "telemetry",
        "commands",
        "device_configs",
        "retained_configs",
        "invitations",
        "rejected_messages",
        "audit_log",
    ] {
        let row = client.query_one(&format!("select count(*) from {table}"), &[]).await.expect("a count");
        counts.insert(table, row.get(0));
    }
    counts
}

/// Tables, indexes, constraints, triggers and functions.
async fn schema(database: &Database) -> String {
    let mut command = tokio::process::Command::new("pg_dump");
    let arguments = ["--schema-only", "--no-owner", "--no-comments", "-T", "telemetry_2*", "-d", &database.url()];
    let output = command.args(arguments).kill_on_drop(true).output().await.expect("pg_dump runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().filter(|line| !line.starts_with('\\')).collect::<Vec<_>>().join("\n")
}

/// What the owner of the first home sees, and what a device sends.
async fn assert_served(database: &Database) {
    let mut server = Server::start(&database.url(), services().mqtt_port(), &[]).await;
    let (status, token) = run(database, &["token", "--email", "ann@example.com"]).await;
    assert_eq!(status, Some(0), "{token}");
    let token = token.lines().find(|line| line.starts_with("eyJ")).expect("a token").to_owned();
    let ann = User::with_token(server.addr(), &token);
    let query =
        "{ me { email } auditLog(homeId: 1) { nodes { action } } home(id: 1) { name members { role } rooms { name }
        devices { nodes { key type latestTelemetry { sensors { temperature } }
            commands { nodes { correlationId status } } configHistory { nodes { version status config } } } } } }";
    let data = ann.query(query, json!({})).await;
    let home = &data["home"];
    assert_eq!((&data["me"]["email"], &home["name"]), (&json!("ann@example.com"), &json!("Main")));
    assert_eq!(home["members"].as_array().map(Vec::len), Some(2), "{home}");
    let devices = home["devices"]["nodes"].as_array().expect("devices");
    let device = |key: &str| devices.iter().find(|device| device["key"] == key).expect("the device");
    let (lamp, fan) = (device("lamp"), device("fan"));
    let temperatures = [lamp, fan].map(|device| &device["latestTelemetry"]["sensors"]["temperature"]);
    assert!(temperatures.iter().all(|temperature| temperature.is_number()), "{home}");
    assert_eq!(
        lamp["configHistory"]["nodes"][0],
        json!({"version": 2, "status": "APPLIED", "config": {"sampleRate": 20}})
    );
    assert_eq!(fan["commands"]["nodes"][0]["correlationId"], "pending");
    let actions: Vec<&Value> =
        data["auditLog"]["nodes"].as_array().expect("entries").iter().map(|entry| &entry["action"]).collect();
    assert!(actions.contains(&&json!("device.register")), "{actions:?}");

    // A reading of today gets a cursor after all others.
    let mqtt = Mqtt::connect(services().mqtt_port()).await;
    let topic = format!("{}/main/lamp/telemetry", server.prefix());
    mqtt.publish(&topic, r#"{"sensors": {"temperature": -1}}"#).await.expect("the broker accepts it");
    let sql = database.client().await;
    eventually("the reading is stored", || async {
        let newest = "select temperature from telemetry order by id desc limit 1";
        (sql.query_one(newest, &[]).await.expect("a row").get::<_, f64>(0) == -1.0).then_some(())
    })
    .await;
    assert!(server.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_of_the_last_release_is_upgraded_and_reverted() {
    let (database, empty) = (of_the_release().await, of_the_release().await);
    let of_release = schema(&empty).await;
    database.client().await.batch_execute(include_str!("data.sql")).await.unwrap();
    let before = counts(&database).await;
    assert!(before.values().all(|n| *n > 0), "{before:?}");
    assert_served(&database).await;

    // Back: nothing of the release is lost, and the readings since then stay.
    let (status, text) = run(&database, &["migrate", "--revert-to", RELEASE]).await;
    assert_eq!(status, Some(0), "{text}");
    let reverted: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("reverted ")).collect();
    let newer: Vec<_> =
        migrations().iter().map(|path| name(path).to_owned()).filter(|name| name.as_str() > RELEASE).rev().collect();
    assert_eq!(reverted, newer);
    assert_eq!(schema(&database).await, of_release);
    let after = counts(&database).await;
    for (table, n) in &before {
        let added = i64::from(*table == "telemetry");
        assert_eq!(after[table], n + added, "{table}");
    }
    // And again.
    assert_eq!(run(&database, &["migrate"]).await.0, Some(0));
    assert_eq!(run(&empty, &["migrate"]).await.0, Some(0));
    assert_eq!(schema(&database).await, schema(&empty).await);
    assert_served(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revert_names_what_it_can_not_do() {
    let database = Database::create().await;
    assert_eq!(run(&database, &["migrate"]).await.0, Some(0));
    let of_this_version = schema(&database).await;
    for unknown in ["2026-11-28-000076", "nonsense", ""] {
        let (status, text) = run(&database, &["migrate", "--revert-to", unknown]).await;
        assert!(
            status != Some(0) && text.contains("--revert-to") || text.contains("no migration"),
            "{unknown}: {text}"
        );
    }
    // A newer version has been here: only that one can revert its migrations.
    let newer = "insert into __diesel_schema_migrations (version) values ('99991231000001')";
    database.client().await.batch_execute(newer).await.unwrap();
    let (status, text) = run(&database, &["migrate", "--revert-to", RELEASE]).await;
    assert!(status == Some(1) && text.contains("99991231000001") && text.contains("newer version"), "{text}");
    assert_eq!(schema(&database).await, of_this_version);
}

/// It serves what it can. The newer version's changes may be ones that it does not notice.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_version_says_that_the_database_is_of_a_newer_one() {
    let database = Database::create().await;
    assert_eq!(run(&database, &["migrate"]).await.0, Some(0));
    let newer = "insert into __diesel_schema_migrations (version) values ('99991231000001')";
    database.client().await.batch_execute(newer).await.unwrap();
    let mut server = Server::start(&database.url(), services().mqtt_port(), &[]).await;
    let log = server.log();
    let line = log.lines().find(|line| line.contains("99991231000001")).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("WARN") && line.contains("newer version"), "{line}");
    assert!(server.stop().await.success());
    let (_, text) = run(&database, &["doctor"]).await;
    let check = text.lines().find(|line| line.contains("migrations")).unwrap();
    assert!(check.starts_with("note") && check.contains("99991231000001"), "{text}");
}
