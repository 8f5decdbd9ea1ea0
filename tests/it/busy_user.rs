//! One user with many operations, statements or subscriptions does not keep others from theirs.

use std::thread::available_parallelism;

use futures_util::future::{Either, join_all, select};
use serde_json::json;

use super::support::app::TestApp;
use super::support::eventually;
use super::support::user::User;
use super::support::ws::Frame;

/// Reads a table that only the API reads.
const ROOMS: &str = "query($h: ID!) { home(id: $h) { rooms { id } } }";
/// Starts with a read of device_states.
const STATES: &str = "subscription($h: ID!) { deviceStatus(homeId: $h) { id } }";
const WAITING: &str =
    "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
/// Half of the connections: places of all users.
const HALF: usize = 5;
/// Subscriptions of one user that read at once: one, and two in the places of all users.
const MAX_READING: i64 = 3;

/// Statements of one user that run at once: one, and in the places of all users as many as there are processors.
fn max_statements() -> i64 {
    let n_processors = available_parallelism().expect("a number of processors").get();
    1 + i64::try_from(n_processors.min(HALF)).expect("a few")
}

async fn start() -> TestApp {
    TestApp::builder().set("RATE_LIMITS", "on").set("DATABASE_POOL_SIZE", "10").start().await
}

/// While a table is locked: waits until `max` statements wait for it, and checks that others get their answers and that
/// no more statements wait.
async fn others_are_answered(app: &TestApp, other: &User, max: i64) {
    let client = app.database().client().await;
    let n_waiting = async || client.query_one(WAITING, &[]).await.expect("a number").get::<_, i64>(0);
    eventually("slow statements run", || async { (n_waiting().await >= max).then_some(()) }).await;
    for _ in 0..20 {
        other.query("{ me { homes { id } } }", json!({})).await;
        assert!(n_waiting().await <= max);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_slow_queries_of_one_user_leave_connections_for_others() {
    let app = start().await;
    let ((home, busy), (_, other)) = (app.home().await, app.home().await);
    let locker = app.database().client().await;
    locker.batch_execute("begin; lock table rooms").await.expect("the lock");
    let slow = Box::pin(join_all((0..60).map(|_| busy.post(ROOMS, json!({"h": home.id})))));
    let others = Box::pin(others_are_answered(&app, &other, max_statements()));
    let Either::Right(((), slow)) = select(slow, others).await else { panic!("the table is locked") };
    locker.batch_execute("commit").await.expect("a commit");
    let n_answered = slow.await.iter().filter(|answer| answer.status == 200).count();
    assert!(n_answered > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_query_with_many_statements_leaves_connections_for_others() {
    let app = start().await;
    let ((home, busy), (_, other)) = (app.home().await, app.home().await);
    let locker = app.database().client().await;
    locker.batch_execute("begin; lock table rooms").await.expect("the lock");
    let lists: String = (0..40).map(|n| format!("h{n}: home(id: $h) {{ rooms {{ id }} }} ")).collect();
    let query = format!("query($h: ID!) {{ {lists} }}");
    let slow = Box::pin(busy.post(&query, json!({"h": home.id})));
    let others = Box::pin(others_are_answered(&app, &other, max_statements()));
    let Either::Right(((), slow)) = select(slow, others).await else { panic!("the table is locked") };
    locker.batch_execute("commit").await.expect("a commit");
    assert_eq!(slow.await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_subscriptions_that_read_leave_connections_for_others() {
    const SUBSCRIPTIONS: usize = 60;
    let app = start().await;
    let ((home, busy), (_, other)) = (app.home().await, app.home().await);
    app.device(&busy, &home, "lamp").await;
    let locker = app.database().client().await;
    locker.batch_execute("begin; lock table device_states").await.expect("the lock");
    let mut socket = busy.socket().await;
    for n in 0..SUBSCRIPTIONS {
        socket.subscribe(&n.to_string(), STATES, json!({"h": home.id})).await;
    }
    others_are_answered(&app, &other, MAX_READING).await;
    locker.batch_execute("commit").await.expect("a commit");
    for _ in 0..SUBSCRIPTIONS {
        let Frame::Json(message) = socket.next().await else { panic!("the socket is closed") };
        assert_eq!(message["type"], "next", "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dashboard_gets_the_answers_to_200_operations_at_once() {
    const OPERATIONS: usize = 200;
    let app = start().await;
    let (_, user) = app.home().await;
    let mut socket = user.socket().await;
    for n in 0..OPERATIONS {
        socket.subscribe(&n.to_string(), "{ me { homes { id } } }", json!({})).await;
    }
    let (mut n_answers, mut n_completed) = (0, 0);
    while n_completed < OPERATIONS {
        let Frame::Json(message) = socket.next().await else { panic!("the socket is closed") };
        match message["type"].as_str() {
            Some("next") => n_answers += usize::from(message["payload"]["errors"].is_null()),
            Some("complete") => n_completed += 1,
            _ => panic!("{message}"),
        }
    }
    assert_eq!(n_answers, OPERATIONS);
}
