//! The private server with the system's binaries.

use std::path::PathBuf;

use super::*;
use crate::db;
use diesel_async::RunQueryDsl;

fn root(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("smarthome-pg-{name}-{}", std::process::id()))
}

async fn count(postgres: &Postgres) -> diesel::QueryResult<i64> {
    let mut conn = db::connect(&postgres.url(), None).await.expect("connects");
    diesel::sql_query("create table if not exists t (i int)").execute(&mut conn).await?;
    diesel::sql_query("insert into t values (1)").execute(&mut conn).await?;
    let counted = diesel::dsl::sql::<diesel::sql_types::BigInt>("select count(*) from t");
    counted.get_result(&mut conn).await
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_its_data_over_every_way_to_stop() {
    let root = root("stops");
    let mut postgres = Postgres::start(&root).unwrap();
    assert_eq!(count(&postgres).await, Ok(1));
    assert!(matches!(Postgres::start(&root), Err(PostgresError::InUse(_))), "a second start is refused");
    postgres.stop_immediate().unwrap();
    assert!(!postgres.is_running());
    postgres.restart().unwrap();
    assert_eq!(count(&postgres).await, Ok(2));
    postgres.stop().unwrap();
    let postgres = Postgres::start(&root).unwrap();
    assert_eq!(count(&postgres).await, Ok(3));
    // Dropped without a stop: the next start waits until the old server has ended.
    drop(postgres);
    let postgres = Postgres::start(&root).unwrap();
    assert_eq!(count(&postgres).await, Ok(4));
    let directory = postgres.directory().to_owned();
    postgres.remove().unwrap();
    assert!(!directory.exists());
    std::fs::remove_dir_all(root).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_starts_again_after_it_was_killed() {
    let root = root("killed");
    let mut postgres = Postgres::start(&root).unwrap();
    assert_eq!(count(&postgres).await, Ok(1));
    postgres.server.as_mut().unwrap().kill();
    postgres.restart().unwrap();
    assert_eq!(count(&postgres).await, Ok(2));
    postgres.remove().unwrap();
    std::fs::remove_dir_all(root).unwrap();
}
