//! A server that can't read what has ended elsewhere takes no token on trust, and says so.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what is missing fails the test")]

use std::net::SocketAddr;

use serde_json::json;

use super::support::app::{Database, TestApp};
use super::support::user::User;
use super::support::ws::{Frame, Socket};
use super::support::{eventually, http, soon, within};

const ME: &str = "{ me { id } }";
const STATUS: &str = "subscription($h: ID!) { deviceStatus(homeId: $h) { id } }";
const FOLLOWER: &str = "select pid from pg_stat_activity where datname = current_database() and query ilike 'select%revocations%' \
                        and pid <> pg_backend_pid()";

/// A server whose account is an ordinary one, so that a right can be taken from it; and what takes and
/// gives back the one to read what has ended.
async fn ordinary() -> (TestApp, [String; 2]) {
    let database = Database::create().await;
    let account = database.account().await;
    let url = database.url_as(&account);
    let app = TestApp::builder().set("DATABASE_URL", url).start_on(database).await;
    let rights = [("revoke", "from"), ("grant", "to")];
    (app, rights.map(|(verb, whom)| format!("{verb} select on revocations {whom} {account}")))
}

/// What comes of a request, and of a socket.
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
async fn one_that_starts_judges_no_token_before_it_has_read_what_has_ended() {
    let (one, [take, give]) = ordinary().await;
    let sql = one.database().client().await;
    let (home, owner) = one.home().await;
    let (left, stays) = (one.user().await, one.user().await);
    left.query("mutation($t: String!) { logout(refreshToken: $t) }", json!({"t": left.refresh_token})).await;
    let create = "mutation($h: ID!) { createIntegrationToken(input: {homeId: $h, name: \"T\", scopes: [DEVICES_READ]}) { token } }";
    let token = owner.query(create, json!({"h": home.id})).await["createIntegrationToken"]["token"].take();
    let robot = User::with_token(one.addr(), token.as_str().unwrap());

    sql.batch_execute(&take).await.unwrap();
    let two = TestApp::builder().set("DATABASE_URL", one.settings().database.url.reveal()).second(&one).await;
    let addr = two.http_addr();
    for user in [&left, &stays] {
        assert_eq!(outcome(user, addr).await, (503, 1013));
        assert_eq!(user.at(addr).error_code(ME, json!({})).await, "UNAVAILABLE");
    }
    // The database is asked about these, now as ever.
    assert_eq!(outcome(&robot, addr).await, (200, 0));
    let ready = http::get(addr, "/readyz").await;
    let checks = ready.json()["checks"].clone();
    assert!(ready.status == 503 && checks["database"] == "ok" && checks["revocations"] != "ok", "{checks}");

    sql.batch_execute(&give).await.unwrap();
    eventually("it has read", || async { (outcome(&stays, addr).await == (200, 0)).then_some(()) }).await;
    assert_eq!(outcome(&left, addr).await, (401, 4403));
    eventually("it is ready", || async { (http::get(addr, "/readyz").await.status == 200).then_some(()) }).await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_cut_off_for_long_takes_no_token_and_lets_go_of_what_is_open() {
    let (app, [take, give]) = ordinary().await;
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
        eventually("the metric shows it", shows).await;
    };
    gauge(1).await;

    sql.batch_execute(&take).await.unwrap();
    gauge(0).await;
    // For a moment nobody pays for it.
    owner.query(ME, json!({})).await;
    stream.settled().await;
    let refused = || async { (owner.post(ME, json!({})).await.status == 503).then_some(()) };
    eventually("no token is taken", refused).await;
    assert_eq!(http::get(addr, "/readyz").await.status, 503);
    // What is open stays, until there is something to be heard or done.
    stream.settled().await;
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
    sql.batch_execute(&give).await.unwrap();
    // What came a moment before waits for it.
    assert!(matches!(lucky.next().await, Frame::Json(_)));
    gauge(1).await;
    owner.query(ME, json!({})).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_lost_for_a_moment_costs_nobody_an_error() {
    let app = TestApp::start().await;
    let (sql, user) = (app.database().client().await, app.user().await);
    let follower = || async {
        let rows = sql.query(FOLLOWER, &[]).await.unwrap();
        rows.first().map(|row| row.get::<_, i32>(0))
    };
    let first = eventually("it follows", follower).await;
    sql.execute("select pg_terminate_backend($1)", &[&first]).await.unwrap();
    within(std::time::Duration::from_secs(10), "it follows again", || async {
        user.query(ME, json!({})).await;
        follower().await.filter(|pid| *pid != first)
    })
    .await;
    user.query(ME, json!({})).await;
    app.stop().await;
}
