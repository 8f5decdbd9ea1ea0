//! What a statement costs does not grow with what it does not return. Its plan is made once for all arguments, from
//! statistics that know the average home: these tests execute it for one with 3,000 devices.
//! `bench/run statements` measures every statement.

use std::fmt::Write;
use std::path::Path;

use diesel::dsl::sql;
use diesel::sql_types::Text;
use diesel_async::RunQueryDsl;
use smarthome::db;
use smarthome::settings::{DatabaseSettings, Secret};
use tokio_postgres::SimpleQueryMessage;

use super::statements::cases;
use super::support::app::Database;

#[path = "../../bench/at_size/plan.rs"]
mod plan;

/// A statement of bench/at_size/cases, its arguments as SQL, and the most rows and pages that it may look at.
type Check = (&'static str, &'static [(&'static str, &'static str)], f64, u64);

const NONE: &str = "'{}'";

const CHECKS: &[Check] = &[
    (
        "src/commands/sql/recently_changed.sql",
        &[("homes", "'{1}'"), ("within", "'1 minute'"), ("limit", "100")],
        0.0,
        10,
    ),
    (
        "src/commands/sql/find_visible.sql",
        &[("viewer", "1"), ("ids", "'{c4ca4238-a0b9-2382-0dcc-509a6f75849b}'")],
        2.0,
        20,
    ),
    ("src/commands/store.rs count_open", &[("device", "1")], 3.0, 20),
    (
        "src/commands/sql/find_lost.sql",
        &[("before", "'2020-01-01'"), ("now", "'2020-01-01'"), ("limit", "1000")],
        0.0,
        10,
    ),
    ("src/commands/sql/expire_overdue.sql", &[("now", "now() + interval '2 days'"), ("limit", "10")], 30.0, 900),
    (
        "src/commands/sql/requeue_lost.sql",
        &[("ids", "array(select id from commands where status = 'SENT' order by id limit 1)"), ("before", "now()")],
        10.0,
        100,
    ),
    (
        "src/commands/sql/find_due.sql",
        &[
            ("after", "1"),
            ("limit", "1"),
            ("busy", "array(select n from generate_series(3001, 3250) n)"),
            ("now", "now()"),
        ],
        260.0,
        300,
    ),
    (
        "src/device_config/sql/find_due.sql",
        &[
            ("after", "50"),
            ("limit", "10"),
            ("busy", NONE),
            ("unreadable_devices", NONE),
            ("unreadable_versions", NONE),
        ],
        120.0,
        400,
    ),
    ("src/device_config/sql/claim_clearings.sql", &[("devices", "'{1, 2, 3}'")], 20.0, 100),
    ("src/devices/sql/find_devices.sql", &[("viewer", "1"), ("ids", "'{1, 2}'"), ("with_reported", "true")], 10.0, 40),
    ("src/devices/sql/find_devices_in_rooms.sql", &ROOMS, 70.0, 200),
    (
        "src/devices/sql/count_devices_in_rooms.sql",
        &[("viewer", "1"), ("rooms", "'{1}'"), ("only_online", "true")],
        70.0,
        200,
    ),
    (
        "src/devices/sql/find_named_devices.sql",
        &[("viewer", "1"), ("homes", "'{1}'"), ("keys", "'{device-7}'"), ("mac_addresses", "'{null}'")],
        10.0,
        40,
    ),
    ("src/devices/sql/page_all_devices.sql", &ALL_DEVICES, 250.0, 400),
    ("src/devices/sql/find_taken.sql", &[("home", "1"), ("keys", "'{device-7, new}'"), ("macs", "'{x}'")], 1.0, 20),
    ("src/devices/sql/find_cleanups.sql", &CLEANUPS, 300.0, 900),
    ("src/devices/sql/find_pending_accounts.sql", &ACCOUNTS, 2_500.0, 500),
    ("src/devices/sql/is_being_cleaned_up.sql", &[("home", "'home-200'"), ("device", "'device-3100'")], 3.0, 20),
    ("src/devices/credentials_store.rs still_valid", &[("digests", "array[sha256('1')]"), ("now", "now()")], 1.0, 10),
    ("src/homes/sql/record_cleanups.sql", &[("home_id", "1"), ("device_id", "7")], 3.0, 200),
    (
        "src/ingest/sql/insert_rejected_again.sql",
        &[
            ("home_ids", "'{1}'"),
            ("topics", "'{t}'"),
            ("reasons", "'{r}'"),
            ("previews", "'{p}'"),
            ("received_at", "array[now()]"),
        ],
        2.0,
        40,
    ),
    (
        "src/ingest/sql/delete_obsolete_packets.sql",
        &[
            ("client_id", "'server'"),
            ("first", "(select min(id) from committed_packets)"),
            ("last", "(select min(id) + 1 from committed_packets)"),
        ],
        4.0,
        20,
    ),
    ("src/revocation/sql/read_since.sql", &[("since", "now()")], 0.0, 10),
];

const ROOMS: [(&str, &str); 4] = [("viewer", "1"), ("rooms", "'{1}'"), ("limit", "100"), ("with_reported", "false")];
const ALL_DEVICES: [(&str, &str); 12] = [
    ("viewer", "1"),
    ("room", "0"),
    ("kinds", "'{}'"),
    ("online", "true"),
    ("battery_below", "0"),
    ("last_seen_before", "now()"),
    ("search", "'x'"),
    ("is_filtered", "false"),
    ("after_home", "1"),
    ("after", "2990"),
    ("limit", "21"),
    ("with_reported", "false"),
];
const CLEANUPS: [(&str, &str); 4] =
    [("repeat_before", "now() - interval '1 hour'"), ("has_accounts", "true"), ("last_home", "0"), ("limit", "20")];
const ACCOUNTS: [(&str, &str); 3] = [("last_removal", "''"), ("last_password", "''"), ("limit", "20")];

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_does_not_read_what_it_does_not_return() {
    let entries = cases::read(Path::new(env!("CARGO_MANIFEST_DIR"))).expect("bench/at_size/cases");
    let database = Database::create().await;
    db::migrate(&DatabaseSettings { url: Secret::new(database.url()), pool_size: 1 })
        .await
        .expect("a migrated database");
    let client = database.client().await;
    client.batch_execute(include_str!("statement_plans/rows.sql")).await.unwrap();
    client.batch_execute("vacuum analyze").await.unwrap();
    client.batch_execute(include_str!("statement_plans/deleted_rows.sql")).await.unwrap();
    client.batch_execute("set plan_cache_mode = force_generic_plan; set random_page_cost = 1.1").await.unwrap();

    let mut faults = String::new();
    for (name, arguments, max_rows, max_pages) in CHECKS {
        let entry = entries.iter().find(|entry| entry.name == *name).unwrap_or_else(|| panic!("{name} has no cases"));
        let (sql, names) = cases::numbered(&entry.sql);
        client.batch_execute(&format!("prepare checked as {sql}")).await.unwrap();
        let mut values = Vec::new();
        for parameter in names {
            let (_, value) = arguments.iter().find(|(known, _)| *known == parameter).expect(parameter);
            values.push(constant(&client, value).await);
        }
        client.batch_execute("begin").await.unwrap();
        let query = format!("explain (analyze, buffers, format json) execute checked({})", values.join(", "));
        let explained = first_value(&client, &query).await;
        client.batch_execute("rollback; deallocate checked").await.unwrap();
        let [plan::Execution { plan, ms }] = serde_json::from_str::<[_; 1]>(&explained).expect("one plan");
        let (n_rows, n_pages, n_returned) = (plan.n_read(), plan.n_pages(), plan.n_returned());
        if n_rows > *max_rows || n_pages > *max_pages {
            writeln!(faults, "{name}: {n_rows} rows and {n_pages} pages for {n_returned} rows, {ms} ms").unwrap();
        }
    }
    assert!(faults.is_empty(), "too much is read:\n{faults}");
}

/// The value of an expression, quoted: `execute` plans with it as with an argument of the server.
async fn constant(client: &tokio_postgres::Client, expression: &str) -> String {
    format!("'{}'", first_value(client, &format!("select {expression}")).await.replace('\'', "''"))
}

async fn first_value(client: &tokio_postgres::Client, query: &str) -> String {
    let messages = client.simple_query(query).await.unwrap_or_else(|error| panic!("{query}: {error:?}"));
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    rows.collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_use_one_plan_for_all_arguments_and_do_not_compile_it() {
    let database = Database::create().await;
    let mut conn = db::connect(&database.url(), None).await.expect("a connection");
    let settings = sql::<Text>("current_setting('plan_cache_mode') || ', jit ' || current_setting('jit')");
    let settings: String = diesel::select(settings).get_result(&mut conn).await.expect("settings");
    assert_eq!(settings, "force_generic_plan, jit off");
}
