//! What `serve` and the commands say when they can't start: the cause, in one line.

use std::collections::HashMap;
use std::process::Output;

use crate::support::app::{Database, variables};
use crate::support::binary::{binary, run};
use crate::support::server::Server;
use crate::support::services::services;
use crate::support::{soon, unique, until};

/// The line that a command with unusable settings prints, without log lines.
#[track_caller]
fn refused(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    let errors: Vec<_> = text.lines().filter(|line| !line.contains(" INFO ")).collect();
    assert_eq!(errors.len(), 1, "{text}");
    errors[0].to_owned()
}

/// An account that PostgreSQL asks for its password, and the URL with this one.
async fn account(database: &Database, password: &str) -> String {
    let account = unique("account");
    let group =
        "do $$ begin create role with_password; exception when duplicate_object or unique_violation then end $$";
    let sql = database.client().await;
    sql.batch_execute(group).await.expect("the group");
    let role = format!("create role {account} login password 'right' in role with_password");
    sql.batch_execute(&role).await.expect("the account");
    let url = services().database_url_by_tcp("127.0.0.1", database.name()) + "?sslmode=disable";
    url.replacen("//smarthome@", &format!("//{account}:{password}@"), 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_database_account_ends_the_start_with_its_cause() {
    let database = Database::create().await;
    let wrong = account(&database, "canary").await;
    let absent = services().database_url("smarthome_absent");
    let nobody = database.url_as("nobody_here");
    for (url, causes) in [
        (&wrong, ["password authentication failed for user", "28P01"]),
        (&absent, ["database \"smarthome_absent\" does not exist", "3D000"]),
        (&nobody, ["role \"nobody_here\" does not exist", "28000"]),
    ] {
        let variables = variables(&HashMap::new(), url, services().mqtt_port());
        let create = ["user", "create", "--email", "a@example.com", "--name", "A"];
        for arguments in [&["serve"][..], &["serve", "--no-migrate"], &["migrate"], &create] {
            let line = refused(&run(arguments, &variables).await);
            assert!(line.starts_with("error: DATABASE_URL: "), "{line}");
            assert!(causes.iter().all(|cause| line.contains(cause)), "{line}");
            assert!(!line.contains("canary"), "{line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_waited_for_and_its_cause_is_logged() {
    let mut server = Server::prepare("postgres://127.0.0.1:1/smarthome", services().mqtt_port(), &[]);
    server.spawn();
    until("the log has the cause", || {
        let log = server.log();
        log.lines().any(|line| line.contains("waiting for it") && line.contains("Connection refused"))
    })
    .await;
    assert!(server.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn all_unusable_settings_are_named_at_once() {
    let output = run(&["serve"], &HashMap::from([("GRAPHIQL".to_owned(), "yes".to_owned())])).await;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    let lines: Vec<_> = text.lines().collect();
    for name in ["DATABASE_URL", "MQTT_BROKER_URL", "JWT_SECRET", "GRAPHIQL"] {
        let of_name = lines.iter().filter(|line| line.starts_with(&format!("error: {name}: "))).count();
        assert_eq!(of_name, 1, "{name} in {text}");
    }
    assert_eq!(lines.len(), 4, "{text}");

    // Values that look right, and name files that are not.
    let overrides = [
        ("MQTT_CA_FILE", "/no/such/file"),
        ("JWT_PRIVATE_KEY", "no key"),
        ("MQTT_PROVISIONING", "embedded"),
        ("HTTP_TLS_CERT_FILE", "/no/such/file"),
        ("HTTP_TLS_KEY_FILE", "/no/such/file"),
    ];
    let overrides = overrides.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let absent = services().database_url("smarthome_absent");
    let mut variables = variables(&HashMap::from(overrides), &absent, services().mqtt_port());
    variables.remove("JWT_SECRET");
    variables.insert("MQTT_BROKER_URL".to_owned(), "mqtts://localhost".to_owned());
    let output = run(&["serve"], &variables).await;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    for name in ["MQTT_CA_FILE", "JWT_PRIVATE_KEY", "MQTT_PROVISIONING", "HTTP_TLS_CERT_FILE"] {
        assert!(text.lines().any(|line| line.starts_with(&format!("error: {name}: "))), "{name} in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_help_of_serve_lists_every_variable() {
    let output = run(&["serve", "--help"], &HashMap::new()).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for variable in smarthome::settings::VARIABLES {
        let line = text.lines().find(|line| line.trim_start().starts_with(variable.name));
        let line = line.unwrap_or_else(|| panic!("{} is not listed in {text}", variable.name));
        assert!(line.contains(variable.meaning), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_line_of_the_log_says_what_starts() {
    let database = Database::create().await;
    let url = account(&database, "right").await;
    let mut server = Server::prepare(&url, services().mqtt_port(), &[("GRAPHIQL", "on")]);
    server.spawn();
    until("the log has a line", || server.log().contains('\n')).await;
    let log = server.log();
    let line = log.lines().next().unwrap();
    let broker = format!("broker=mqtt://127.0.0.1:{}", services().mqtt_port());
    for part in
        ["smarthome starts", env!("CARGO_PKG_VERSION"), "database=\"127.0.0.1:", &broker, server.prefix(), "GraphiQL"]
    {
        assert!(line.contains(part), "{part} in {line}");
    }
    assert!(!line.contains("right"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_waits_for_another_ones_migration_says_so() {
    let database = Database::create().await;
    let sql = database.client().await;
    sql.batch_execute("select pg_advisory_lock(7001)").await.unwrap();
    let mut server = Server::prepare(&database.url(), services().mqtt_port(), &[]);
    server.spawn();
    until("the log says so", || server.log().contains("another process migrates the database")).await;
    drop(sql);
    server.ready().await;
    assert!(server.stop().await.success());
}

/// As of `smarthome … | head -1`.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_closes_the_pipe_is_no_error() {
    let database = Database::create().await;
    let variables = variables(&HashMap::new(), &database.url(), services().mqtt_port());
    let create = [
        "user",
        "create",
        "--email",
        "a@example.com",
        "--name",
        "A",
        "--password-file",
        "/proc/sys/kernel/random/boot_id",
    ];
    let export = std::env::temp_dir().join(unique("smarthome-export"));
    let export = ["mqtt", "export", "--dir", export.to_str().unwrap()];
    for arguments in [
        &["migrate"][..],
        &["migrate"],
        &["schema"],
        &create,
        &["token", "--email", "a@example.com"],
        &["user", "list"],
        &["home", "list", "--json"],
        &["device", "list"],
        &export,
        &["doctor", "--json"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = tokio::process::Command::from(binary(arguments));
        command.envs(&variables).stdout(writer).kill_on_drop(true);
        let output = soon("the program ends", command.output()).await.expect("the binary runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        // The doctor may find that the disk of this machine is nearly full.
        assert!(output.status.success() || text.contains("checks found a fault"), "{arguments:?}: {text}");
    }
    std::fs::remove_dir_all(export[3]).unwrap();
}
