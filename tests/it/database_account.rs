//! The server with an ordinary account of the database: one that owns only what it creates, and one that does not own
//! the audit log, as docs/audit.md describes.

use std::process::Command;

use serde_json::json;

use super::support::app::{Database, TestApp};
use super::support::broker::folder;
use super::support::services::services;
use super::support::{eventually, unique};

/// The steps of the documentation, for a server whose account owned the whole database before.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_own_the_audit_log_can_change_neither_it_nor_its_triggers() {
    let database = Database::create().await;
    let (auditor, account) = (unique("auditor"), database.account().await);
    let app = TestApp::builder().set("DATABASE_URL", database.url_as(&account)).start_on(database).await;
    let (home, ann) = app.home().await;
    let docs = include_str!("../../docs/audit.md");
    let steps = docs.split("```sql\n").nth(1).unwrap().split("```").next().unwrap();
    let steps = steps
        .replace("auditor", &auditor)
        .replace("database smarthome ", &format!("database {} ", app.database().name()))
        .replace("to smarthome;", &format!("to {account};"));
    assert!(!steps.contains("smarthome"), "{steps}");
    app.database().client().await.batch_execute(&steps).await.unwrap();

    let sql = app.database().client_as(&account).await;
    for attack in [
        "update audit_log set actor = 'eve'",
        "delete from audit_log",
        "truncate audit_log",
        "drop table audit_log",
        "alter table audit_log disable trigger all",
        "alter table audit_log owner to current_user",
        "drop trigger audit_log_delete on audit_log",
        "drop function refuse_audit_deletion() cascade",
        "drop function refuse_audit_change() cascade",
        "drop schema public cascade",
        "alter schema public owner to current_user",
        "set session_replication_role = replica",
        "create or replace function audit_kept_for() returns interval language sql immutable as $$ select interval '0' $$",
        "create or replace function refuse_audit_deletion() returns trigger language plpgsql as $$ begin return null; end $$",
        "create temp table homes (id bigint); delete from audit_log",
    ] {
        let error = sql.batch_execute(attack).await.expect_err(attack);
        assert_eq!(error.as_db_error().unwrap().code().code(), "42501", "{attack}: {error}");
    }
    // Through a schema of its own.
    let admin = app.database().client().await;
    admin.batch_execute(&format!("create schema mine authorization {account}")).await.unwrap();
    for attack in [
        "create table mine.homes (id bigint); set search_path = mine, public; delete from audit_log",
        "create function mine.now() returns timestamptz language sql as $$ select timestamptz '3000-01-01Z' $$; \
         set search_path = mine, pg_catalog, public; delete from audit_log",
    ] {
        let error = sql.batch_execute(attack).await.expect_err(attack);
        assert_eq!(error.as_db_error().unwrap().code().code(), "42501", "{attack}: {error}");
    }

    // The server still works and may create tables: creating, changing and deleting a home is audited.
    sql.batch_execute("set search_path = public; create table later (id bigint); drop table later").await.unwrap();
    let other = ann.home().await;
    ann.query("mutation($h: ID!) { updateHome(input: {id: $h, name: \"Villa\"}) { id } }", json!({"h": home.id})).await;
    ann.query("mutation($h: ID!) { deleteHome(id: $h) }", json!({"h": other.id})).await;
    let rows = admin.query("select action from audit_log order by id", &[]).await.unwrap();
    let actions: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(actions, ["home.create", "home.update", "home.delete"]);
    app.stop().await;
}

/// The script that compose runs at the database's first start, and a server with that account.
#[tokio::test(flavor = "multi_thread")]
async fn the_account_of_compose_is_ordinary_and_sufficient() {
    let (database, account) = (Database::create().await, unique("account"));
    let folder = folder();
    let password = folder.join("password");
    std::fs::write(&password, "it's a \"secret\" \\ of $tests\n").unwrap();
    let socket = services().database_socket();
    let port = socket.extension().unwrap().to_str().unwrap().to_owned();
    let run = |password: &std::path::Path| {
        Command::new("bash")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/docker/postgres/account.sh"))
            .env("PGHOST", socket.parent().unwrap())
            .env("PGPORT", &port)
            .envs([("POSTGRES_USER", "smarthome"), ("POSTGRES_DB", database.name()), ("DATABASE_ACCOUNT", &account)])
            .env("DATABASE_PASSWORD_FILE", password)
            .output()
            .unwrap()
    };
    let absent = run(&folder.join("none"));
    assert!(!absent.status.success(), "an account without a password");
    let made = run(&password);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));

    let sql = database.client().await;
    let role = "select rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls, \
                rolpassword like 'SCRAM-SHA-256$%' from pg_authid where rolname = $1";
    let row = sql.query_one(role, &[&account]).await.unwrap();
    assert_eq!((row.get(0), row.get(1)), (false, true));
    // The server reads PostgreSQL's errors in English.
    let language = "select 'lc_messages=C' = any(s.setconfig) from pg_db_role_setting s \
                    join pg_roles r on r.oid = s.setrole where r.rolname = $1";
    assert!(sql.query_one(language, &[&account]).await.unwrap().get::<_, bool>(0));
    let owner = "select pg_get_userbyid(datdba) = $1 from pg_database where datname = current_database()";
    assert!(!sql.query_one(owner, &[&account]).await.unwrap().get::<_, bool>(0));

    let app = TestApp::builder().set("DATABASE_URL", database.url_as(&account)).start_on(database).await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "dev").await;
    app.publish(&device, "telemetry", json!({"sensors": {"temperature": 1}}).to_string()).await;
    eventually("it is stored", || async {
        let stored: i64 = sql.query_one("select count(*) from telemetry", &[]).await.unwrap().get(0);
        (stored == 1).then_some(())
    })
    .await;
    owner.query("mutation($h: ID!) { deleteHome(id: $h) }", json!({"h": home.id})).await;
    app.stop().await;
    std::fs::remove_dir_all(folder).unwrap();
}
