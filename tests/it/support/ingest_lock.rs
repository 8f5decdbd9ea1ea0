//! The ingest lock in the hands of a test: the writer waits for it with a batch, while the messages after it gather in its queue
//! and form the next batch together.

use tokio_postgres::Client;

use super::eventually;

const TAKE: &str = "select pg_advisory_lock(7002, hashtext(current_schema()))";
const RELEASE: &str = "select pg_advisory_unlock(7002, hashtext(current_schema()))";
/// What a connection that waits for it runs.
const WAITING: &str = "select a.query from pg_locks l join pg_stat_activity a using (pid) \
     where a.datname = current_database() and l.locktype = 'advisory' and l.classid = 7002 and not l.granted limit 1";

/// Takes the lock for this connection.
pub async fn take(holder: &Client) {
    holder.batch_execute(TAKE).await.expect("the lock");
}

pub async fn release(holder: &Client) {
    holder.batch_execute(RELEASE).await.expect("released");
}

/// Waits until the writer waits for the lock, and returns the statement in which it does.
pub async fn awaited(holder: &Client) -> String {
    let waiting = || async { holder.query_opt(WAITING, &[]).await.expect("the locks") };
    eventually("the writer waits for the ingest lock", waiting).await.get(0)
}
