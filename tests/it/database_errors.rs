//! Transient failures of a real PostgreSQL are reported as UNAVAILABLE. The server recognizes most of them by their
//! English text, so these tests fail when a version of PostgreSQL changes one.

use std::time::Duration;

use diesel::QueryResult;
use diesel_async::SimpleAsyncConnection;
use futures_util::future::join_all;
use smarthome::db;
use smarthome::error::Error;
use smarthome::settings::{DatabaseSettings, Secret};

use super::support::app::Database;
use super::support::{eventually, soon};

const LONG: Duration = Duration::from_secs(10);

async fn connect(database: &Database, statement_timeout: Duration) -> db::Connection {
    db::connect(&database.url(), Some(statement_timeout)).await.expect("a connection")
}

/// The text of a failure that must be transient.
#[track_caller]
fn transient(result: QueryResult<()>) -> String {
    let error = result.expect_err("the statement fails");
    let text = error.to_string();
    assert_eq!(Error::from(error).code(), "UNAVAILABLE", "{text}");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_timeout_is_transient() {
    let database = Database::create().await;
    let mut conn = connect(&database, Duration::from_millis(50)).await;
    let text = transient(conn.batch_execute("select pg_sleep(10)").await);
    assert!(text.contains("statement timeout"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_timeout_is_transient() {
    let database = Database::create().await;
    let (mut holder, mut waiter) = (connect(&database, LONG).await, connect(&database, LONG).await);
    holder.batch_execute("create table t ()").await.unwrap();
    holder.batch_execute("begin; lock table t").await.unwrap();
    let text = transient(waiter.batch_execute("begin; set lock_timeout = 50; lock table t").await);
    assert!(text.contains("lock timeout"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadlock_is_transient() {
    let database = Database::create().await;
    let (mut first, mut second) = (connect(&database, LONG).await, connect(&database, LONG).await);
    first.batch_execute("create table a (); create table b ()").await.unwrap();
    first.batch_execute("begin; lock table a").await.unwrap();
    second.batch_execute("begin; lock table b").await.unwrap();
    let (one, two) = tokio::join!(first.batch_execute("lock table b"), second.batch_execute("lock table a"));
    let text = transient(if one.is_err() { one } else { two });
    assert!(text.contains("deadlock"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_transaction_is_transient() {
    let database = Database::create().await;
    let mut conn = connect(&database, LONG).await;
    let text = transient(conn.batch_execute("begin read only; create table t ()").await);
    assert!(text.contains("read-only transaction"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_connection_is_transient() {
    let database = Database::create().await;
    let (mut conn, client) = (connect(&database, LONG).await, database.client().await);
    let sleeping = "select pid from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'";
    let (result, ()) = tokio::join!(conn.batch_execute("select pg_sleep(10)"), async {
        let pid: i32 =
            eventually("it sleeps", || async { Some(client.query_opt(sleeping, &[]).await.ok()??.get(0)) }).await;
        client.execute("select pg_terminate_backend($1)", &[&pid]).await.unwrap();
    });
    let text = transient(result);
    assert!(text.contains("terminating connection"), "{text}");
    // The connection is closed by now.
    transient(soon("the next statement", conn.batch_execute("select 1")).await);
}

/// `/dev/full` fails like a full disk.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_transient() {
    let database = Database::create().await;
    let mut conn = connect(&database, LONG).await;
    let text = transient(conn.batch_execute("copy (select generate_series(1, 100000)) to '/dev/full'").await);
    assert!(text.contains("No space left"), "{text}");
}

/// One worker thread: the events of one poll are handled in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_pooled_connection_that_was_closed_while_it_was_idle_is_not_used() {
    const SIZE: usize = 5;
    let database = Database::create().await;
    let settings = DatabaseSettings { url: Secret::new(database.url()), pool_size: 5 };
    let pool = db::pool(&settings, db::Frozen::default(), db::PoolMetrics::default());
    let use_all = async || {
        let all = join_all((0..SIZE).map(|_| pool.get())).await;
        let mut results = Vec::new();
        for conn in all {
            results
                .push(conn.expect("a connection").batch_execute("select 1").await.map_err(|error| error.to_string()));
        }
        results
    };
    assert_eq!(use_all().await, vec![Ok::<_, String>(()); SIZE]);
    let client = database.client().await;
    let others = "from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";
    client.execute(&format!("select pg_terminate_backend(pid) {others}"), &[]).await.unwrap();
    eventually("all are closed", || async {
        let n: i64 = client.query_one(&format!("select count(*) {others}"), &[]).await.ok()?.get(0);
        (n == 0).then_some(())
    })
    .await;
    // The answer comes after what the closed sessions sent last.
    client.batch_execute("select 1").await.unwrap();
    assert_eq!(use_all().await, vec![Ok::<_, String>(()); SIZE]);
}
