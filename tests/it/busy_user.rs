//! One user with many operations does not keep others from theirs.

use futures_util::future::{Either, join_all, select};
use serde_json::json;

use super::support::app::TestApp;
use super::support::eventually;

/// Reads a table that only the API reads.
const ROOMS: &str = "query($h: ID!) { home(id: $h) { rooms { id } } }";
const WAITING: &str =
    "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
/// Operations of one user that run at once: two, and in the places of all users half as many as there are connections.
const MAX_RUNNING: i64 = 7;

#[tokio::test(flavor = "multi_thread")]
async fn many_slow_queries_of_one_user_leave_connections_for_others() {
    let app = TestApp::builder().set("RATE_LIMITS", "on").set("DATABASE_POOL_SIZE", "10").start().await;
    let ((home, busy), (_, other)) = (app.home().await, app.home().await);
    let (locker, client) = (app.database().client().await, app.database().client().await);
    locker.batch_execute("begin; lock table rooms").await.expect("the lock");
    let n_waiting = async || client.query_one(WAITING, &[]).await.expect("a number").get::<_, i64>(0);
    let slow = Box::pin(join_all((0..60).map(|_| busy.post(ROOMS, json!({"h": home.id})))));
    let others = Box::pin(async {
        eventually("slow queries run", || async { (n_waiting().await >= MAX_RUNNING).then_some(()) }).await;
        for _ in 0..20 {
            other.query("{ me { homes { id } } }", json!({})).await;
            assert!(n_waiting().await <= MAX_RUNNING);
        }
    });
    let Either::Right(((), slow)) = select(slow, others).await else { panic!("the table is locked") };
    locker.batch_execute("commit").await.expect("a commit");
    let n_answered = slow.await.iter().filter(|answer| answer.status == 200).count();
    assert!(n_answered > 0);
}
