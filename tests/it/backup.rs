//! A backup by `pg_dump` while readings come in, and a server on the database that `pg_restore` makes of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio_postgres::Client;

use super::support::app::Database;
use super::support::broker::{Broker, folder};
use super::support::mqtt::Mqtt;
use super::support::server::Server;
use super::support::user::{Device, User};
use super::support::{eventually, until};

/// Its month has no partition when the dump begins.
const NEW_MONTH: &str = "2025-03-04T05:06:07Z";

/// Slow enough that the steps, not the load, decide how long the test takes.
const EVERY: Duration = Duration::from_millis(4);

/// Readings with the numbers 0, 1, 2, …, one after the other.
#[derive(Clone, Default)]
struct Load {
    n_acknowledged: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Load {
    /// Publishes until it is stopped. Every third reading has a time of its own, in one of several months.
    async fn publish(self, port: u16, device: Device) {
        let mqtt = Mqtt::connect(port).await;
        let (mut n, mut pace) = (0, tokio::time::interval(EVERY));
        while !self.stop.load(Ordering::Relaxed) {
            pace.tick().await;
            let mut payload = json!({"sensors": {"temperature": 21.5, "n": n}});
            if n % 3 == 0 {
                payload["timestamp"] = json!(format!("2025-{:02}-01T00:00:00.{:06}Z", 5 + n % 4, n));
            }
            mqtt.publish(&device.topic("telemetry"), payload.to_string()).await.expect("the broker accepts it");
            n += 1;
            self.n_acknowledged.store(n, Ordering::Relaxed);
        }
    }

    fn n(&self) -> u64 {
        self.n_acknowledged.load(Ordering::Relaxed)
    }

    async fn advances_by(&self, n: u64) {
        let goal = self.n() + n;
        until("more readings are published", || self.n() >= goal).await;
    }
}

/// Rows of each table, and a digest of them.
async fn contents(client: &Client) -> BTreeMap<String, (i64, i64)> {
    let tables =
        "select relname::text from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')";
    let mut contents = BTreeMap::new();
    for table in client.query(tables, &[]).await.expect("the tables") {
        let table: String = table.get(0);
        let digest = format!("select count(*), coalesce(sum(hashtext(t::text)), 0)::bigint from {table} t");
        let row = client.query_one(&digest, &[]).await.expect("its rows");
        contents.insert(table, (row.get(0), row.get(1)));
    }
    contents
}

/// Runs a program of PostgreSQL.
async fn run(program: &str, arguments: &[&str]) -> String {
    let output = tokio::process::Command::new(program).args(arguments).kill_on_drop(true).output().await;
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Everything but rows: tables, partitions, indexes, constraints, triggers, functions, comments.
async fn schema(url: &str) -> String {
    let text = run("pg_dump", &["--schema-only", "--no-owner", "-d", url]).await;
    // Newer programs write a random word there.
    text.lines().filter(|line| !line.starts_with('\\')).collect::<Vec<_>>().join("\n")
}

/// The numbers of the stored readings, sorted.
async fn numbers(client: &Client) -> Vec<i64> {
    let rows = client.query("select (extra->>'n')::bigint from telemetry where extra ? 'n' order by 1", &[]).await;
    rows.expect("the numbers").iter().map(|row| row.get(0)).collect()
}

/// Columns that take their values from a sequence must not get one again.
async fn assert_sequences_continue(client: &Client) {
    let owned = "select s.relname::text, t.relname::text, a.attname::text
        from pg_depend d join pg_class s on s.oid = d.objid and s.relkind = 'S'
        join pg_class t on t.oid = d.refobjid join pg_attribute a on a.attrelid = t.oid and a.attnum = d.refobjsubid
        where d.deptype in ('a', 'i') and t.relnamespace = 'public'::regnamespace";
    let owned = client.query(owned, &[]).await.expect("the sequences");
    assert!(owned.len() > 10, "{} sequences", owned.len());
    for row in owned {
        let (sequence, table, column): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        let next = format!("select nextval('{sequence}'), coalesce((select max({column}) from {table}), 0)::bigint");
        let row = client.query_one(&next, &[]).await.expect("the next value");
        let (next, newest): (i64, i64) = (row.get(0), row.get(1));
        assert!(next > newest, "{sequence} continues with {next}, but {table}.{column} has {newest}");
    }
}

/// Rows in many tables.
async fn fill(owner: &User, device: &Device) {
    let command =
        "mutation($d: ID!) { sendCommand(input: {deviceId: $d, type: \"BEEP\", payload: {times: 1}}) { id } }";
    owner.query(command, json!({"d": device.id})).await;
    let push = "mutation($d: ID!) { pushConfig(input: {deviceId: $d, config: {interval: 10}}) { version } }";
    owner.query(push, json!({"d": device.id})).await;
    let room = "mutation($h: ID!) { createRoom(input: {homeId: $h, name: \"K\u{fc}che\"}) { id } }";
    owner.query(room, json!({"h": device.home.id})).await;
}

/// Dumps while readings come in. Returns what the database had at the dump's moment.
async fn dump(
    database: &Database,
    load: &Load,
    device: &Device,
    broker: u16,
    file: &Path,
) -> BTreeMap<String, (i64, i64)> {
    let client = database.client().await;
    client.batch_execute("begin isolation level repeatable read read only").await.expect("a transaction");
    let snapshot: String = client.query_one("select pg_export_snapshot()", &[]).await.expect("a snapshot").get(0);
    let contents = contents(&client).await;
    load.advances_by(100).await;
    let snapshot = format!("--snapshot={snapshot}");
    run("pg_dump", &["-Fc", &snapshot, "-d", &database.url(), "-f", file.to_str().expect("a path")]).await;
    // The transaction still has the locks of a dump, and a reading needs a new partition.
    let payload = json!({"timestamp": NEW_MONTH, "sensors": {"temperature": 1}}).to_string();
    Mqtt::connect(broker).await.publish(&device.topic("telemetry"), payload).await.expect("the broker accepts it");
    let other = database.client().await;
    eventually("a reading of a new month is stored", || async {
        let find = "select from telemetry where recorded_at = $1::text::timestamptz";
        other.query_opt(find, &[&NEW_MONTH]).await.expect("an answer").map(drop)
    })
    .await;
    client.batch_execute("commit").await.expect("the end of the transaction");
    contents
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_continues_on_a_restored_dump() {
    let (broker, lost) = (Broker::start().await, Database::create().await);
    let mut first = Server::start(&lost.url(), broker.port(), &[]).await;
    let owner = User::register(first.addr()).await;
    let home = owner.home().await;
    let device = owner.device(first.prefix(), &home, "lamp").await;
    fill(&owner, &device).await;
    let load = Load::default();
    let publishing = tokio::spawn(load.clone().publish(broker.port(), device.clone()));
    let sql = lost.client().await;
    eventually("readings are stored", || async { (numbers(&sql).await.len() > 100).then_some(()) }).await;
    let folder = folder();
    let file = folder.join("smarthome.dump");
    let dumped = dump(&lost, &load, &device, broker.port(), &file).await;
    assert!(dumped["telemetry"].0 > 100 && dumped["commands"].0 == 1 && dumped["device_configs"].0 == 1, "{dumped:?}");

    // The machine is lost. The broker queues what comes from now on.
    load.advances_by(100).await;
    first.kill();
    let since = i64::try_from(load.n()).expect("small") + 1;
    load.advances_by(100).await;
    let restored = Database::create().await;
    let (url, path) = (restored.url(), file.to_str().expect("a path"));
    run("pg_restore", &["--no-owner", "--exit-on-error", "-d", &url, path]).await;
    let client = restored.client().await;
    assert_eq!(contents(&client).await, dumped);
    assert_sequences_continue(&client).await;
    let skip = include_str!("../../docs/operations.md")
        .lines()
        .find_map(|line| line.split_once(" -c \"select setval")?.1.strip_suffix('"'));
    client.batch_execute(&format!("select setval{}", skip.expect("the statement"))).await.expect("it runs");

    let same = [("MQTT_CLIENT_ID", first.prefix()), ("MQTT_TOPIC_PREFIX", first.prefix())];
    let mut second = Server::start(&url, broker.port(), &same).await;
    load.advances_by(100).await;
    load.stop.store(true, Ordering::Relaxed);
    publishing.await.expect("all are published");
    let newest = i64::try_from(load.n()).expect("small") - 1;
    let is_stored = "select from telemetry where (extra->>'n')::bigint = $1";
    let stored = || async { client.query_opt(is_stored, &[&newest]).await.expect("an answer").map(drop) };
    eventually("the newest reading is stored", stored).await;
    let stored = numbers(&client).await;
    let expected: Vec<_> = (since..=newest).collect();
    assert_eq!(stored[stored.partition_point(|n| *n < since)..], expected, "each once since the server was lost");
    let ids = "select count(*), count(distinct id) from telemetry";
    let ids = client.query_one(ids, &[]).await.expect("the ids");
    assert_eq!(ids.get::<_, i64>(0), ids.get::<_, i64>(1));

    // The account, its home and device, and all that a reading, a command and a configuration need.
    let owner = owner.at(second.addr()).signed_in_again().await;
    let query = "query($d: ID!) { device(id: $d) { latestTelemetry { sensors { temperature } }
        commands { nodes { type } } configHistory { nodes { version } } } }";
    let data = owner.query(query, json!({"d": device.id})).await;
    assert_eq!(data["device"]["latestTelemetry"]["sensors"]["temperature"], 21.5, "{data}");
    assert_eq!(data["device"]["configHistory"]["nodes"], json!([{"version": 1}]), "{data}");
    let again = "mutation($d: ID!) { pushConfig(input: {deviceId: $d, config: {interval: 20}}) { version } }";
    assert_eq!(owner.query(again, json!({"d": device.id})).await["pushConfig"]["version"], 2);
    // The lost database got a month more after the dump.
    let [old, new] = [schema(&lost.url()).await, schema(&url).await].map(|schema| without_months(&schema));
    assert_eq!(old, new);
    assert!(second.stop().await.success());
    std::fs::remove_dir_all(folder).expect("the folder");
}

/// Without the partitions, which differ by a month.
fn without_months(schema: &str) -> String {
    let blocks = schema.split("\n\n").filter(|block| !block.contains("telemetry_2"));
    blocks.collect::<Vec<_>>().join("\n\n")
}
