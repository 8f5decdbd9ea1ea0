//! The API against graphql-js, the reference implementation: random requests, effects of mutations, and rows that are
//! whole while readings arrive. The generator and the comparison are in tests/node/oracle.

mod effects;
mod rows;

use std::time::Duration;

use serde_json::json;
use smarthome::auth::{Actor, Tokens};
use smarthome::ids::UserId;
use smarthome::settings::{Environment, Secret, Source};

use super::support::app::{JWT_SECRET, TestApp};
use super::support::node::node_within;
use super::support::{rng, user::User};

/// Requests of a run unless `ORACLE_REQUESTS` says otherwise.
const REQUESTS: &str = "2000";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a run may take, however many requests it has.
const PATIENCE: Duration = Duration::from_secs(60 * 60);

/// The frozen home, see `oracle/home.sql`.
struct FrozenHome {
    app: TestApp,
    sql: tokio_postgres::Client,
    /// The owner, a guest, and an integration that may not read everything of a device.
    viewers: [User; 3],
}

impl FrozenHome {
    /// Its server has no broker, so no device changes anything.
    async fn start() -> Self {
        let app = TestApp::builder().broker(1).start().await;
        let users = [app.user().await, app.user().await];
        app.user().await;
        let sql = app.database().client().await;
        sql.batch_execute(include_str!("oracle/home.sql")).await.expect("the frozen home");
        let tokens = Tokens::new(&Secret::new(JWT_SECRET), app.clock().clone());
        // A long run needs a longer life than a session's token has.
        let [owner, guest] = users.map(|user| {
            let id = UserId::from_database(user.id.parse().expect("an id"));
            User::with_token(app.addr(), &tokens.issue(id, Actor::Operator, DAY).0)
        });
        let create = "mutation { createIntegrationToken(input: {homeId: 11, name: \"Scoped\", \
                      scopes: [TELEMETRY_READ, CONFIG_PUSH]}) { token } }";
        let created = owner.query(create, json!({})).await["createIntegrationToken"].take();
        let integration = User::with_token(app.addr(), created["token"].as_str().expect("a token"));
        Self { app, sql, viewers: [owner, guest, integration] }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_requests_get_the_answers_of_graphql_js() {
    let home = FrozenHome::start().await;
    let url = format!("http://{}/graphql", home.app.addr());
    let seed = rng().u64(..).to_string();
    let requests = Environment.get("ORACLE_REQUESTS").unwrap_or_else(|| REQUESTS.to_owned());
    let tokens = home.viewers.iter().map(|viewer| viewer.token().expect("a token"));
    let arguments: Vec<&str> = [url.as_str(), &seed, &requests].into_iter().chain(tokens).collect();
    let output = node_within("oracle/run.mjs", &arguments, PATIENCE).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    println!("{text}");
}

#[tokio::test]
async fn tools_read_and_print_the_schema() {
    let output = node_within("oracle/tools.mjs", &[], PATIENCE).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
