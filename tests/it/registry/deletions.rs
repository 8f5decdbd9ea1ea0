//! Deletions: one transaction decides and checks the permission; large tables are purged after it.

use serde_json::json;
use smarthome::commands::{CommandOutbox, ReturnedDevices};
use smarthome::db;
use smarthome::device_config::ConfigOutbox;
use smarthome::homes::resume_deletions;
use smarthome::ids::DeviceId;
use smarthome::outbox::Outbox;

use super::{Graph, Person, number, text};
use crate::support::app::TestApp;
use crate::support::eventually;

const DELETE_HOME: &str = "mutation($x: ID!) { deleteHome(id: $x) }";
const DELETE_DEVICE: &str = "mutation($x: ID!) { deleteDevice(id: $x) }";

/// PostgreSQL searches the referring rows when a row is deleted. Without an index it scans the whole table.
#[tokio::test(flavor = "multi_thread")]
async fn every_foreign_key_has_an_index() {
    let graph = Graph::start().await;
    // A partial index counts only if its condition is that the column is not null.
    let without = "select c.conrelid::regclass || ': ' || c.conname from pg_constraint c
        where c.contype = 'f' and not exists (select from pg_index i where i.indrelid = c.conrelid
            and (i.indpred is null or pg_get_expr(i.indpred, i.indrelid) in (
                select '(' || a.attname || ' IS NOT NULL)' from pg_attribute a
                where a.attrelid = c.conrelid and a.attnum = any(c.conkey)))
            and (select array_agg(k order by k) from unnest((i.indkey::int2[])[0:cardinality(c.conkey) - 1]) k)
                = (select array_agg(k order by k) from unnest(c.conkey) k))";
    let rows = graph.sql.query(without, &[]).await.unwrap();
    let without: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert!(without.is_empty(), "no index leads with the columns of {without:?}");
    assert!(graph.count("pg_constraint where contype = 'f'").await > 15);
}

/// A home of Ann with a device that has a reading, a command and a configuration. Returns the ids of home, device and
/// command.
async fn home_with_rows(graph: &Graph, ann: &Person) -> [String; 3] {
    let home = graph.home(ann).await;
    let device = graph.devices(ann, &home, 1).await.remove(0);
    let fill = "mutation($d: ID!) { sendCommand(input: {deviceId: $d, type: \"PING\"}) { id }
        pushConfig(input: {deviceId: $d, config: {sampleRate: 5}}) { version } }";
    let made = graph.ask(ann, fill, json!({"d": device})).await;
    graph.reading(&home, &device, 1).await;
    let rejected = "insert into rejected_messages (home_id, topic, reason, payload_preview, received_at)
                    values ($1, 't', 'R', '', now())";
    graph.sql.execute(rejected, &[&number(&home)]).await.unwrap();
    [home, device, text(&made["sendCommand"]["id"])]
}

/// The number of rows in each large table.
async fn n_left(graph: &Graph) -> [i64; 4] {
    let mut left = [0; 4];
    for (n, table) in left.iter_mut().zip(["telemetry", "commands", "device_configs", "rejected_messages"]) {
        *n = graph.count(table).await;
    }
    left
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_just_lost_the_permission_deletes_nothing() {
    let graph = Graph::start().await;
    let (ann, bob) = (graph.person().await, graph.person().await);
    let [home, device, _] = home_with_rows(&graph, &ann).await;
    let user = bob.0.as_ref().unwrap().user;
    let removed = format!("delete from memberships where user_id = {user}");
    let lowered = |role: &str| format!("update memberships set role = '{role}' where user_id = {user}");
    for (delete, id, lose, code) in [
        (DELETE_HOME, &home, lowered("ADMIN"), "FORBIDDEN"),
        (DELETE_HOME, &home, removed.clone(), "NOT_FOUND"),
        (DELETE_DEVICE, &device, lowered("MEMBER"), "FORBIDDEN"),
        (DELETE_DEVICE, &device, removed, "NOT_FOUND"),
    ] {
        graph
            .sql
            .execute("delete from memberships where role <> 'OWNER' or user_id = $1", &[&user.get()])
            .await
            .unwrap();
        graph.join(&home, &bob, "OWNER").await;
        // A change of the members that is committed while the deletion waits for the lock of the home.
        let locker = graph.database.client().await;
        let change = format!("begin; select from homes where id = {home} for no key update; {lose}");
        locker.batch_execute(&change).await.unwrap();
        let commit = async {
            graph.wait_for_waiting(1).await;
            assert_eq!(n_left(&graph).await, [1; 4]);
            locker.batch_execute("commit").await.unwrap();
        };
        let (answer, ()) = tokio::join!(graph.answer(&bob, delete, json!({"x": id})), commit);
        assert_eq!(answer["errors"][0]["extensions"]["code"], code, "{delete} {lose}: {answer}");
        assert_eq!((n_left(&graph).await, graph.count("devices").await), ([1; 4], 1));
        assert_eq!(graph.count("audit_log where action like '%.delete'").await, 0);
        assert_eq!(graph.count("deletions").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_takes_effect_before_its_purge() {
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let [home, device, command] = home_with_rows(&graph, &ann).await;
    let [_, other, _] = home_with_rows(&graph, &ann).await;
    for (delete, id, n_devices, left) in
        [(DELETE_DEVICE, &other, 1, [2, 1, 1, 2]), (DELETE_HOME, &home, 0, [2, 1, 1, 2])]
    {
        let locker = graph.database.client().await;
        locker.batch_execute("begin; select from telemetry for update").await.unwrap();
        let observed = async {
            eventually("the deletion is decided", || async {
                (graph.count("deletions").await == 2 - n_devices).then_some(())
            })
            .await;
            assert_eq!(graph.count("devices").await, n_devices);
            assert_eq!(graph.count("device_credentials").await, n_devices);
            assert_eq!(graph.count("audit_log where action like '%.delete'").await, 2 - n_devices);
            assert_eq!(n_left(&graph).await, left);
        };
        // The purge waits for the lock until its statement times out. The deletion succeeds all the same.
        let (answer, ()) = tokio::join!(graph.answer(&ann, delete, json!({"x": id})), observed);
        assert!(answer.get("errors").is_none(), "{answer}");
        assert_eq!(n_left(&graph).await, left);
    }
    // Rows that remain of a deleted home are neither sent nor readable.
    let mut conn = db::connect(&graph.database.url(), None).await.unwrap();
    let (now, services) = (graph.clock.now(), &graph.services);
    let (hub, expectations) = (services.commands.hub().clone(), services.commands.expectations().clone());
    let mut commands = CommandOutbox::new(hub, expectations, ReturnedDevices::none(), services.metrics.clone());
    let mut configs = ConfigOutbox::new(graph.config_hub.clone(), graph.key_ring.clone(), services.metrics.clone());
    assert_eq!(commands.find_due(&mut conn, now, &[], 10).await.unwrap(), []);
    assert_eq!(configs.find_due(&mut conn, now, &[], 10).await.unwrap(), []);
    let devices = [DeviceId::from_database(number(&device))];
    assert!(commands.claim(&mut conn, now, &devices).await.unwrap().is_empty());
    assert!(configs.claim(&mut conn, now, &devices).await.unwrap().is_empty());
    let ask = "query($c: ID!) { command(id: $c) { id } }";
    assert_eq!(graph.code(&ann, ask, json!({"c": command})).await, "NOT_FOUND");

    resume_deletions(&services.pool).await.unwrap();
    // The rejected message of the other home stays.
    assert_eq!((n_left(&graph).await, graph.count("deletions").await), ([0, 0, 0, 1], 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_resumes_interrupted_deletions_at_its_start() {
    let database = TestApp::start().await.stop().await;
    let sql = database.client().await;
    let interrupted = "create table telemetry_rest partition of telemetry default;
        insert into telemetry (home_id, device_id, recorded_at, received_at, dedup, device_clock)
            select 999999, 1 + n % 2, '2001-01-01Z'::timestamptz + make_interval(secs => n), now(), n, true
            from generate_series(1, 25000) n;
        insert into device_configs (device_id, version, home_id, config, status, created_at, updated_at)
            values (1, 1, 999999, '{}', 'PENDING', now(), now());
        insert into commands (id, home_id, device_id, type, payload, source, correlation_id, on_stale, status,
                timeout_seconds, created_at, expires_at, deadline)
            values (gen_random_uuid(), 999999, 1, 'PING', '{}', 'USER', 'c', 'EXPIRE', 'PENDING', 30, now(),
                now() + '1 h', now() + '1 h');
        insert into deletions (home_id, device_id) values (999999, null), (888888, 5)";
    sql.batch_execute(interrupted).await.unwrap();
    let app = TestApp::builder().start_on(database).await;
    eventually("all rows are deleted", || async {
        let tables = "(select from telemetry union all select from commands union all select from device_configs
            union all select from deletions) t";
        let n: i64 = sql.query_one(&format!("select count(*) from {tables}"), &[]).await.unwrap().get(0);
        (n == 0).then_some(())
    })
    .await;
    app.stop().await;
}
