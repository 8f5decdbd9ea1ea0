//! Every statement kept in a `.sql` file is valid for the migrated schema.

use std::fs;
use std::path::{Path, PathBuf};

use smarthome::db;
use smarthome::settings::{DatabaseSettings, Secret};

use super::support::app::Database;
use cases::numbered;

#[path = "../../bench/at_size/cases.rs"]
pub(super) mod cases;

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

async fn migrated() -> (Database, tokio_postgres::Client) {
    let database = Database::create().await;
    let settings = DatabaseSettings { url: Secret::new(database.url()), pool_size: 1 };
    db::migrate(&settings).await.expect("a migrated database");
    let client = database.client().await;
    (database, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_sql_file_can_be_prepared_and_explained() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = Vec::new();
    files(&root.join("src"), &mut all);
    let statements = all.iter().filter(|path| path.extension().is_some_and(|extension| extension == "sql"));

    let (_database, client) = migrated().await;
    client.batch_execute("set plan_cache_mode = force_generic_plan").await.unwrap();

    let (mut faults, mut n_checked) = (Vec::new(), 0);
    for path in statements {
        let name = path.strip_prefix(root).unwrap().display();
        let text = fs::read_to_string(path).unwrap();
        let (sql, names) = numbered(&text);
        let nulls =
            if names.is_empty() { String::new() } else { format!("({})", vec!["null"; names.len()].join(", ")) };
        for step in [format!("prepare checked as {sql}"), format!("explain execute checked{nulls}")] {
            if let Err(error) = client.batch_execute(&step).await {
                let message = error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string);
                faults.push(format!("{name}: {message}"));
                break;
            }
        }
        client.batch_execute("deallocate all").await.unwrap();
        n_checked += 1;
    }
    assert!(faults.is_empty(), "{} of {n_checked} statements are not valid:\n{}", faults.len(), faults.join("\n"));
    assert!(n_checked > 0, "no .sql file was found");
}

#[tokio::test(flavor = "multi_thread")]
async fn resolving_an_address_does_not_read_the_other_devices_of_the_home() {
    let (_database, client) = migrated().await;
    let (sql, _) = numbered(include_str!("../../src/devices/sql/resolve_addresses.sql"));
    // Without statistics, as after a first start.
    client
        .batch_execute(&format!(
            "set plan_cache_mode = force_generic_plan;
            set random_page_cost = 1.1;
            insert into homes (key, name) values ('home', 'Home');
            insert into devices (home_id, key, name, type, mqtt_client_id)
            select h.id, 'device-' || n, 'Device', 'OTHER', 'client-' || n from homes h, generate_series(1, 2000) n;
            prepare resolve as {sql}"
        ))
        .await
        .unwrap();
    for address in [
        "'{null}', '{home}', '{1}', '{null}', '{null}', '{device-1000}'",
        "'{1}', '{null}', '{1}', '{1000}', '{null}', '{null}'",
        "'{1}', '{null}', '{1}', '{null}', '{24:6F:28:AE:52:7C}', '{null}'",
    ] {
        let plan = explain(&client, &format!("resolve({address})")).await;
        let n_removed: u64 = plan
            .lines()
            .filter_map(|line| line.split_once("Rows Removed by ")?.1.split_once(": ")?.1.trim().parse::<u64>().ok())
            .sum();
        assert!(n_removed < 10, "{address}: rows are read and thrown away:\n{plan}");
    }
    // A thousand addresses in one home.
    let column = |item: &str| format!("'{{{}}}'", vec![item; 1_000].join(","));
    let keys: Vec<String> = (1..=1_000).map(|n| format!("device-{n}")).collect();
    let (homes, nulls, keys) = (column("1"), column("null"), keys.join(","));
    let addresses = format!("'{{null}}', '{{home}}', {homes}, {nulls}, {nulls}, '{{{keys}}}'");
    let plan = explain(&client, &format!("resolve({addresses})")).await;
    let of_homes: Vec<&str> = plan.lines().filter(|line| line.contains(" on homes")).collect();
    let is_once = |line: &&str| line.contains("loops=1)") || line.contains("never executed");
    assert!(!of_homes.is_empty() && of_homes.iter().all(is_once), "the home is looked up again and again:\n{plan}");
}

/// As a function that is called it would read and copy all devices of the home for each page.
#[tokio::test(flavor = "multi_thread")]
async fn the_filter_of_devices_is_inlined() {
    let (_database, client) = migrated().await;
    client.batch_execute("set plan_cache_mode = force_generic_plan").await.unwrap();
    for list in [
        include_str!("../../src/devices/sql/newest_devices.sql"),
        include_str!("../../src/devices/sql/page_all_devices.sql"),
        include_str!("../../src/devices/sql/page_devices.sql"),
        include_str!("../../src/devices/sql/sort_devices.sql"),
        include_str!("../../src/telemetry/sql/page_latest.sql"),
        include_str!("../../src/telemetry/sql/page_latest_without_states.sql"),
    ] {
        let (sql, names) = numbered(list);
        client.batch_execute(&format!("prepare list as {sql}")).await.unwrap();
        let plan = explain(&client, &format!("list({})", vec!["null"; names.len()].join(", "))).await;
        client.batch_execute("deallocate list").await.unwrap();
        assert!(list.contains("from filtered_devices("), "a list has another filter:\n{list}");
        assert!(plan.contains(" on devices d") && !plan.contains("Function Scan"), "{plan}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_the_newest_devices_does_not_read_the_others() {
    let (_database, client) = migrated().await;
    let (newest, names) = numbered(include_str!("../../src/devices/sql/newest_devices.sql"));
    client
        .batch_execute(&format!(
            "set plan_cache_mode = force_generic_plan;
            set random_page_cost = 1.1;
            insert into homes (key, name) values ('home', 'Home');
            insert into users (email, name, password_hash) values ('ann@test.example', 'Ann', '');
            insert into memberships (home_id, user_id, role) select h.id, u.id, 'OWNER' from homes h, users u;
            insert into devices (home_id, key, name, type, mqtt_client_id)
            select h.id, 'device-' || n, 'Device', 'OTHER', 'client-' || n from homes h, generate_series(1, 2000) n;
            analyze;
            prepare newest as {newest}"
        ))
        .await
        .unwrap();
    let arguments = names.iter().map(|name| match *name {
        "viewer" => "1",
        "homes" => "'{1}'",
        "is_filtered" => "false",
        "before" => "9223372036854775807",
        "limit" => "10",
        _ => "null",
    });
    let values = arguments.collect::<Vec<_>>().join(", ");
    let plan = explain(&client, &format!("newest({values})")).await;
    assert_eq!(most_rows(&plan), 10, "{plan}");
}

/// Statistics know the average device. A plan for it may not read all readings of a device that has many.
#[tokio::test(flavor = "multi_thread")]
async fn reading_the_newest_readings_does_not_read_the_older_ones() {
    let (_database, client) = migrated().await;
    let (history, _) = numbered(include_str!("../../src/telemetry/sql/history.sql"));
    let (device_history, _) = numbered(include_str!("../../src/telemetry/sql/device_history.sql"));
    let (latest, _) = numbered(include_str!("../../src/telemetry/sql/latest.sql"));
    client
        .batch_execute(&format!(
            "set plan_cache_mode = force_generic_plan;
            create table telemetry_of_the_test partition of telemetry
            for values from ('2026-01-01 00:00Z') to ('2026-02-01 00:00Z');
            insert into telemetry (home_id, device_id, recorded_at, received_at, dedup, device_clock)
            select 1, d, timestamptz '2026-01-02 00:00Z' + n * interval '1 second', now(), n, true
            from generate_series(1, 2000) d, generate_series(1, case d when 1000 then 5000 else 5 end) n;
            insert into homes (id, key, name) values (1, 'home', 'Home');
            insert into users (email, name, password_hash) values ('ann@test.example', 'Ann', '');
            insert into memberships (home_id, user_id, role) select 1, id, 'OWNER' from users;
            insert into devices (id, home_id, key, name, type) values (1000, 1, 'device', 'Device', 'OTHER');
            analyze telemetry;
            prepare history as {history};
            prepare device_history as {device_history};
            prepare latest as {latest}"
        ))
        .await
        .unwrap();
    for (execution, n_wanted) in [
        ("history(false, '{1000}', '-infinity', 'infinity', 'infinity', 9223372036854775807, 100, 108)", 100),
        ("device_history(1000, 1, false, '-infinity', 'infinity', 'infinity', 9223372036854775807, 100, 108)", 101),
        ("latest('{1000}')", 1),
    ] {
        let plan = explain(&client, execution).await;
        let n_read = most_rows(&plan);
        assert!((n_wanted..n_wanted + 10).contains(&n_read), "{execution}: {n_read} rows are read:\n{plan}");
    }
}

/// With `home_id = $1` a plan for any values expects few readings behind the cursor. Where there are many months, also
/// empty ones, PostgreSQL then reads and sorts all that follow.
#[tokio::test(flavor = "multi_thread")]
async fn resuming_does_not_read_all_that_follows_where_there_are_many_months() {
    let (_database, client) = migrated().await;
    let (of_home, _) = numbered(include_str!("../../src/telemetry/sql/read_after.sql"));
    let (of_device, _) = numbered(include_str!("../../src/telemetry/sql/read_after_of_device.sql"));
    let (scan_end, _) = numbered(include_str!("../../src/telemetry/sql/find_scan_end.sql"));
    let months = months(77);
    client
        .batch_execute(&format!(
            "set plan_cache_mode = force_generic_plan;
            set random_page_cost = 1.1;
            {months}
            insert into telemetry (home_id, device_id, recorded_at, received_at, dedup, device_clock)
            select case n % 2 when 0 then 1 else 2 + n % 1000 end, 1,
                timestamptz '2026-02-02Z' + n * interval '1 second', now(), n, true
            from generate_series(1, 80000) n;
            prepare of_home as {of_home};
            prepare of_device as {of_device};
            prepare scan_end as {scan_end}"
        ))
        .await
        .unwrap();
    client.batch_execute("vacuum analyze telemetry").await.unwrap();
    for (execution, n_wanted) in
        [("of_home(1, 0, 500)", 500), ("scan_end(1, 0)", 20_000), ("of_device(1, 0, 10000, 1, 500)", 5_000)]
    {
        let plan = explain(&client, execution).await;
        let n_read = most_rows(&plan);
        assert!((500..=n_wanted).contains(&n_read), "{execution}: {n_read} rows are read:\n{plan}");
    }
}

/// The index of a device's readings has those before the cursor too, however many there are.
#[tokio::test(flavor = "multi_thread")]
async fn resuming_a_device_does_not_read_its_past() {
    let (_database, client) = migrated().await;
    let (of_device, _) = numbered(include_str!("../../src/telemetry/sql/read_after_of_device.sql"));
    let months = months(6);
    client
        .batch_execute(&format!(
            "set plan_cache_mode = force_generic_plan;
            {months}
            insert into telemetry (home_id, device_id, recorded_at, received_at, dedup, device_clock)
            select 1, 1 + n % 200, timestamptz '2020-01-01Z' + n * interval '2 minutes', now(), n, true
            from generate_series(1, 100000) n;
            prepare of_device as {of_device}"
        ))
        .await
        .unwrap();
    client.batch_execute("vacuum analyze telemetry").await.unwrap();
    let plan = explain(&client, "of_device(1, 90000, 95000, 1, 500)").await;
    assert!(!plan.contains("_pkey"), "{plan}");
    assert_eq!(most_rows(&plan), 25, "{plan}");
}

/// SQL that makes the partitions of so many months, from January 2020.
fn months(n: u32) -> String {
    format!(
        "do $$ begin
            for n in 0..{} loop
                execute format('create table telemetry_of_month_%s partition of telemetry for values from (%L) to (%L)',
                    n, timestamptz '2020-01-01Z' + n * interval '1 month',
                    timestamptz '2020-01-01Z' + (n + 1) * interval '1 month');
            end loop;
        end $$;",
        n - 1
    )
}

/// The plan of a prepared statement after its execution.
async fn explain(client: &tokio_postgres::Client, execution: &str) -> String {
    let rows = client.query(&format!("explain (analyze, buffers) execute {execution}"), &[]).await.expect("a plan");
    rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>().join("\n")
}

/// The rows of the step of a plan that returned most.
fn most_rows(plan: &str) -> u64 {
    let rows = |line: &str| line.rsplit_once("rows=")?.1.split_once(' ')?.0.parse().ok();
    plan.lines().filter_map(rows).max().expect("a step")
}

#[test]
fn every_sql_file_is_used() {
    let mut all = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut all);
    for path in all.iter().filter(|path| path.extension().is_some_and(|extension| extension == "sql")) {
        let folder = path.parent().unwrap();
        assert_eq!(
            folder.file_name().unwrap(),
            "sql",
            "{}: statements are in a folder `sql` of their feature",
            path.display()
        );
        let quoted = format!("sql/{}\"", path.file_name().unwrap().display());
        let feature = folder.parent().unwrap();
        let is_used = all.iter().any(|source| {
            source.extension().is_some_and(|extension| extension == "rs")
                && source.starts_with(feature)
                && fs::read_to_string(source).unwrap().contains(&quoted)
        });
        assert!(is_used, "{} is named by no Rust file of its feature", path.display());
    }
}

/// `bench/run statements` measures each on a large database.
#[test]
fn every_sql_file_has_cases_for_its_measurement() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let entries = cases::read(root).expect("bench/at_size/cases");
    let mut all = Vec::new();
    files(&root.join("src"), &mut all);
    for path in all.iter().filter(|path| path.extension().is_some_and(|extension| extension == "sql")) {
        let name = path.strip_prefix(root).unwrap().to_string_lossy();
        assert!(entries.iter().any(|entry| entry.name == name), "{name} has no cases in bench/at_size/cases");
    }
    for entry in &entries {
        let (name, (_, mut wanted)) = (&entry.name, numbered(&entry.sql));
        let path = name.split(' ').next().unwrap();
        assert!(root.join(path).is_file() && !entry.sql.is_empty(), "{name}: no such statement");
        assert!(entry.is_file() || name.contains(' '), "{name}: the function is not named");
        assert!(!entry.cases.is_empty(), "{name} has no cases");
        wanted.sort_unstable();
        for case in &entry.cases {
            let mut given: Vec<_> = case.arguments.iter().map(|(name, _)| name.as_str()).collect();
            given.sort_unstable();
            assert_eq!(given, wanted, "the arguments of {name}, {}", case.name);
            assert!(case.why.as_ref().is_none_or(|why| !why.is_empty()), "{name}, {}: why?", case.name);
        }
    }
}

#[test]
fn a_name_gets_one_number() {
    let numbered = numbered("select :a::text, :b where x = :a;\n");
    assert_eq!(numbered, ("select $1::text, $2 where x = $1".to_owned(), vec!["a", "b"]));
}
