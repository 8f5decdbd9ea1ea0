//! Integration tokens that are made to be revoked.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::load::{Outcome, work_until};
use crate::stage::Stage;
use crate::tenants::account::Account;
use crate::tenants::http::{Client, Refusal};
use crate::tenants::world::World;

/// Tokens that are made, and revoked, with a request.
const A_REQUEST: usize = 20;
/// Two connections, so that one account stays below fifty open tokens.
const CONNECTIONS: usize = 2;
/// What the five minutes before the window would have ended.
const ENDED_BEFORE: i32 = 99_990;
/// The server reads them within a second.
const READ: Duration = Duration::from_secs(3);

/// Ends one token over HTTP, and stores as many ends like it as five minutes bring.
pub(super) async fn store_ended(account: &mut Account, stage: &Stage, world: &World) -> Result<String> {
    let ids = create(&mut account.client, &account.home, 1).await.context("create a token")?;
    revoke(&mut account.client, &ids).await.context("revoke a token")?;
    let (client, connection) = stage.database(&world.database)?.connect(tokio_postgres::NoTls).await?;
    let connection = tokio::spawn(connection);
    let columns = "select string_agg(quote_ident(column_name), ', '), \
                   string_agg(case column_name when 'session_id' then 'gen_random_uuid()' \
                   else 'r.' || quote_ident(column_name) end, ', ') from information_schema.columns \
                   where table_name = 'revocations' and column_name <> 'id'";
    let row = client.query_one(columns, &[]).await?;
    let (names, values): (String, String) = (row.get(0), row.get(1));
    let copies = format!(
        "insert into revocations ({names}) select {values} from revocations r, generate_series(1, {ENDED_BEFORE}) \
         where r.session_id is not null and r.id = (select max(id) from revocations where session_id is not null)"
    );
    let n = client.execute(&copies, &[]).await.context("store ended tokens")?;
    drop(client);
    connection.await??;
    sleep(READ).await;
    Ok(format!("{n} ends stored before"))
}

/// Makes and revokes tokens as often as the account may.
pub(super) async fn end_tokens(account: &Account, until: Instant) -> String {
    let (outcome, mut tasks) = (Arc::new(Outcome::default()), JoinSet::new());
    for _ in 0..CONNECTIONS {
        let (mut client, home, outcome) = (account.client.clone(), account.home.clone(), outcome.clone());
        tasks.spawn(async move {
            let work = async {
                loop {
                    if let Err(refusal) = turn(&mut client, &home).await {
                        let wait = refusal.retry_after.unwrap_or(Duration::from_millis(100));
                        outcome.refuse(refusal.code);
                        sleep(wait.min(Duration::from_secs(1))).await;
                    } else {
                        outcome.accept();
                    }
                }
            };
            work_until(until, work).await;
        });
    }
    tasks.join_all().await;
    outcome.text("times 20 tokens made and revoked")
}

async fn turn(client: &mut Client, home: &str) -> Result<(), Refusal> {
    let ids = create(client, home, A_REQUEST).await?;
    revoke(client, &ids).await
}

async fn create(client: &mut Client, home: &str, n: usize) -> Result<Vec<String>, Refusal> {
    let input = "input: {homeId: $h, name: \"t\", scopes: [DEVICES_READ]}";
    let one = |n| format!("t{n}: createIntegrationToken({input}) {{ integrationToken {{ id }} }}");
    let query = format!("mutation($h: ID!) {{ {} }}", (0..n).map(one).collect::<Vec<_>>().join(" "));
    let data = client.ask(&query, &json!({"h": home})).await?;
    let id = |made: &Value| made["integrationToken"]["id"].as_str().map(str::to_owned);
    Ok(data.as_object().into_iter().flat_map(|made| made.values().filter_map(id)).collect())
}

async fn revoke(client: &mut Client, ids: &[String]) -> Result<(), Refusal> {
    let one = |(n, id)| format!("r{n}: revokeIntegrationToken(id: \"{id}\")");
    let query = format!("mutation {{ {} }}", ids.iter().enumerate().map(one).collect::<Vec<_>>().join(" "));
    client.ask(&query, &json!({})).await.map(drop)
}
