//! A server that can't read the revocations of other servers refuses tokens and reports it.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a missing value fails the test")]

use std::net::SocketAddr;

use serde_json::json;

use super::support::app::{Database, TestApp};
use super::support::user::User;
use super::support::ws::{Frame, Socket};
use super::support::{eventually, http, soon, within};

const ME: &str = "{ me { id } }";
const STATUS: &str = "subscription($h: ID!) { deviceStatus(homeId: $h) { id } }";
const FOLLOWER: &str = "select pid from pg_stat_activity where datname = current_database() and query ilike '%from revocations%' \
                        and pid <> pg_backend_pid()";

/// A server with an ordinary database account, and the statements that revoke and grant its right to read revocations.
async fn with_ordinary_account() -> (TestApp, [String; 2]) {
    let database = Database::create().await;
    let account = database.account().await;
    let url = database.url_as(&account);
    let app = TestApp::builder().set("DATABASE_URL", url).start_on(database).await;
    let rights = [("revoke", "from"), ("grant", "to")];
    (app, rights.map(|(verb, whom)| format!("{verb} select on revocations {whom} {account}")))
}

/// The status of a request, and the close code of a socket; 0 where it stays open.
async fn outcome(user: &User, addr: SocketAddr) -> (u16, u16) {
    let mut socket = Socket::open(addr, "/graphql", "graphql-transport-ws").await;
    let payload = json!({"Authorization": format!("Bearer {}", user.token().unwrap())});
    socket.send(&json!({"type": "connection_init", "payload": payload})).await;
    let code = match socket.next().await {
        Frame::Json(_) => 0,
        Frame::Closed(code, _) => code,
        Frame::Cut => panic!("no close frame"),
    };
    (user.at(addr).post(ME, json!({})).await.status, code)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_starting_server_accepts_no_token_before_it_has_read_the_revocations() {
    let (one, [revoke, grant]) = with_ordinary_account().await;
    let sql = one.database().client().await;
    let (home, owner) = one.home().await;
    let (logged_out, signed_in) = (one.user().await, one.user().await);
    logged_out
        .query("mutation($t: String!) { logout(refreshToken: $t) }", json!({"t": logged_out.refresh_token}))
        .await;
    let create = "mutation($h: ID!) { createIntegrationToken(input: {homeId: $h, name: \"T\", scopes: [DEVICES_READ]}) { token } }";
    let token = owner.query(create, json!({"h": home.id})).await["createIntegrationToken"]["token"].take();
    let robot = User::with_token(one.addr(), token.as_str().unwrap());

    sql.batch_execute(&revoke).await.unwrap();
    let two = TestApp::builder().set("DATABASE_URL", one.settings().database.url.reveal()).second(&one).await;
    let addr = two.http_addr();
    for user in [&logged_out, &signed_in] {
        assert_eq!(outcome(user, addr).await, (503, 1013));
        assert_eq!(user.at(addr).error_code(ME, json!({})).await, "UNAVAILABLE");
    }
    // Integration tokens are checked in the database each time.
    assert_eq!(outcome(&robot, addr).await, (200, 0));
    let ready = http::get(addr, "/readyz").await;
    let checks = ready.json()["checks"].clone();
    assert!(ready.status == 503 && checks["database"] == "ok" && checks["revocations"] != "ok", "{checks}");

    sql.batch_execute(&grant).await.unwrap();
    eventually("the server has read the revocations", || async {
        (outcome(&signed_in, addr).await == (200, 0)).then_some(())
    })
    .await;
    assert_eq!(outcome(&logged_out, addr).await, (401, 4403));
    http::until_ready(addr).await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_revocations_for_long_refuses_tokens_and_closes_connections() {
    let (app, [revoke, grant]) = with_ordinary_account().await;
    let sql = app.database().client().await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "dev").await;
    let mut stream = owner.subscribe(STATUS, json!({"h": home.id})).await;
    stream.next().await;
    let mut idle = Socket::signed_in(app.addr(), owner.token()).await;
    let mut lucky = Socket::signed_in(app.addr(), owner.token()).await;
    let bearer = format!("Bearer {}", owner.token().unwrap());
    let (addr, body) = (app.addr(), json!({"query": STATUS, "variables": {"h": home.id}}).to_string());
    let events = tokio::spawn(async move {
        let headers =
            [("authorization", bearer.as_str()), ("accept", "text/event-stream"), ("content-type", "application/json")];
        http::request(addr, "POST", "/graphql", &headers, body.as_bytes()).await.text()
    });
    let gauge = async |value: u8| {
        let line = format!("smarthome_revocations_followed {value}\n");
        let shows = || async { http::get(addr, "/metrics").await.text().contains(&line).then_some(()) };
        eventually("the metric changes", shows).await;
    };
    gauge(1).await;

    sql.batch_execute(&revoke).await.unwrap();
    gauge(0).await;
    // A short outage has no effect.
    owner.query(ME, json!({})).await;
    stream.wait_until_read().await;
    let refused = || async { (owner.post(ME, json!({})).await.status == 503).then_some(()) };
    eventually("tokens are refused", refused).await;
    assert_eq!(http::get(addr, "/readyz").await.status, 503);
    // Open connections stay until the next event or request.
    stream.wait_until_read().await;
    app.publish(&device, "status", json!({"online": true}).to_string()).await;
    let end = loop {
        match stream.frame().await {
            Frame::Json(_) => {}
            end => break end,
        }
    };
    assert!(matches!(end, Frame::Closed(1013, _)), "{end:?}");
    idle.subscribe("1", ME, json!({})).await;
    let end = idle.next().await;
    assert!(matches!(end, Frame::Closed(1013, _)), "{end:?}");
    let events = soon("the end of the events", events).await.unwrap();
    assert!(events.contains("UNAVAILABLE"), "{events}");

    lucky.subscribe("1", ME, json!({})).await;
    sql.batch_execute(&grant).await.unwrap();
    // A request from just before waits for the revocations.
    assert!(matches!(lucky.next().await, Frame::Json(_)));
    gauge(1).await;
    owner.query(ME, json!({})).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_loss_of_the_connection_causes_no_error() {
    let app = TestApp::start().await;
    let (sql, user) = (app.database().client().await, app.user().await);
    let follower = || async {
        let rows = sql.query(FOLLOWER, &[]).await.unwrap();
        rows.first().map(|row| row.get::<_, i32>(0))
    };
    let first = eventually("the server follows the revocations", follower).await;
    sql.execute("select pg_terminate_backend($1)", &[&first]).await.unwrap();
    within(std::time::Duration::from_secs(10), "the server follows again", || async {
        user.query(ME, json!({})).await;
        follower().await.filter(|pid| *pid != first)
    })
    .await;
    user.query(ME, json!({})).await;
    app.stop().await;
}
