//! A revocation ends streams within a second, on every server of the database.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what is missing fails the test")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Value, json};
use smarthome::auth::Actor;
use tokio::time::{Instant, timeout};

use super::support::app::TestApp;
use super::support::user::{Home, User};
use super::support::ws::{Frame, Socket, Subscription};
use super::support::{eventually, http, soon};

const READINGS: &str = "subscription($h: ID!) { telemetry(homeId: $h) { id } }";
const STATUS: &str = "subscription($h: ID!) { deviceStatus(homeId: $h) { id } }";
const LOGOUT: &str = "mutation($t: String!) { logout(refreshToken: $t) }";
const REFRESH: &str = "mutation($t: String!) { refreshToken(refreshToken: $t) { accessToken refreshToken } }";
const LOGIN: &str =
    "mutation($e: String!, $p: String!) { login(input: {email: $e, password: $p}) { accessToken refreshToken } }";
const REMOVE: &str = "mutation($h: ID!, $u: ID!) { removeMember(input: {homeId: $h, userId: $u}) }";
const SET: &str =
    "mutation($h: ID!, $u: ID!, $r: HomeRole!) { setMemberRole(input: {homeId: $h, userId: $u, role: $r}) { role } }";
const CHANGE: &str =
    "mutation($c: String!, $n: String!) { changePassword(input: {currentPassword: $c, newPassword: $n}) }";
const NEW_PASSWORD: &str = "another passphrase, longer still";

/// The guaranteed time.
const SOON: Duration = Duration::from_secs(1);
/// Trials of the large test, and how many run at once.
const TRIALS: usize = 200;
const AT_ONCE: usize = 16;

async fn join(app: &TestApp, home: &Home, user: &User, role: &str) {
    let insert = "insert into memberships (home_id, user_id, role) values ($1, $2, $3)";
    let (home, user): (i64, i64) = (home.id.parse().unwrap(), user.id.parse().unwrap());
    app.database().client().await.execute(insert, &[&home, &user, &role]).await.unwrap();
}

/// Signs in again; the access and the refresh token.
async fn login(user: &User, addr: std::net::SocketAddr) -> (User, String) {
    let data = User::stranger(addr).query(LOGIN, json!({"e": user.email, "p": user.password})).await;
    let text = |name: &str| data["login"][name].as_str().unwrap().to_owned();
    (User::with_token(addr, &text("accessToken")), text("refreshToken"))
}

/// Reads to the end and checks that neither the end nor any event comes later than guaranteed.
async fn ends(stream: &mut Subscription, since: Instant, what: &str) -> Frame {
    loop {
        let frame = timeout(SOON, stream.frame()).await.unwrap_or_else(|_| panic!("{what}: silent, but not ended"));
        assert!(since.elapsed() <= SOON, "{what}: {frame:?} after {:?}", since.elapsed());
        match &frame {
            Frame::Json(message) if message["type"] == "next" => {}
            _ => return frame,
        }
    }
}

async fn trial(app: &TestApp, owner: &User, home: &Home, n: usize) {
    let user = app.user().await;
    join(app, home, &user, "MEMBER").await;
    let mut stream = user.subscribe(READINGS, json!({"h": home.id})).await;
    stream.next().await;
    let (what, of_session) = match n % 5 {
        0 => ("logout", true),
        1 => ("replay", true),
        2 => ("removal", false),
        3 => ("leaving", false),
        _ => ("demotion", false),
    };
    match what {
        "logout" => drop(user.query(LOGOUT, json!({"t": user.refresh_token})).await),
        "replay" => {
            user.query(REFRESH, json!({"t": user.refresh_token})).await;
            app.end_refresh_grace(&user).await;
            user.error_code(REFRESH, json!({"t": user.refresh_token})).await;
        }
        "removal" => drop(owner.query(REMOVE, json!({"h": home.id, "u": user.id})).await),
        "leaving" => drop(user.query(REMOVE, json!({"h": home.id, "u": user.id})).await),
        _ => drop(owner.query(SET, json!({"h": home.id, "u": user.id, "r": "GUEST"})).await),
    }
    let end = ends(&mut stream, Instant::now(), what).await;
    match end {
        Frame::Closed(4403, _) if of_session => {}
        Frame::Json(message) if !of_session && message["type"] == "complete" => {}
        other => panic!("{what}: {other:?}"),
    }
    let code = user.post("{ me { id } }", json!({})).await.json()["errors"][0]["extensions"]["code"].clone();
    assert_eq!(code, if of_session { json!("UNAUTHENTICATED") } else { Value::Null }, "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_hundred_clients_that_lose_their_rights_receive_nothing_a_second_later() {
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "dev").await;
    let n_done = AtomicU32::new(0);
    let speak = async {
        let mut n = 0;
        // Some hundred readings a second, so that one is always in flight.
        let mut pace = tokio::time::interval(Duration::from_millis(5));
        while n_done.load(Ordering::Relaxed) < u32::try_from(TRIALS).unwrap() {
            n += 1;
            app.publish(&device, "telemetry", json!({"sensors": {"temperature": n}}).to_string()).await;
            pace.tick().await;
        }
    };
    let trials = futures_util::stream::iter(0..TRIALS).for_each_concurrent(AT_ONCE, async |n| {
        trial(&app, &owner, &home, n).await;
        n_done.fetch_add(1, Ordering::Relaxed);
    });
    tokio::join!(speak, trials);
    eventually("no subscription is running", || async {
        (app.app().services().metrics.subscriptions.get() == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn another_server_of_the_database_ends_streams_too() {
    let one = TestApp::start().await;
    let two = TestApp::builder().set("DATABASE_URL", one.database().url()).start().await;
    let (home, owner) = one.home().await;
    one.device(&owner, &home, "dev").await;
    for n in 0..4 {
        let user = one.user().await;
        join(&one, &home, &user, "GUEST").await;
        let there = user.at(two.addr());
        let mut stream = there.subscribe(STATUS, json!({"h": home.id})).await;
        stream.next().await;
        match n {
            0 => drop(user.query(LOGOUT, json!({"t": user.refresh_token})).await),
            1 => drop(owner.query(REMOVE, json!({"h": home.id, "u": user.id})).await),
            2 => one.app().services().users.set_password(&user.email, NEW_PASSWORD).await.unwrap(),
            _ => drop(owner.query("mutation($h: ID!) { deleteHome(id: $h) }", json!({"h": home.id})).await),
        }
        let since = Instant::now();
        let end = ends(&mut stream, since, "on another server").await;
        match (n, end) {
            (0 | 2, Frame::Closed(4403, _)) => {
                assert_eq!(there.error_code("{ me { id } }", json!({})).await, "UNAUTHENTICATED");
            }
            (1 | 3, Frame::Json(message)) if message["type"] == "complete" => {}
            (n, other) => panic!("{n}: {other:?}"),
        }
    }
    // A server that starts later knows the revocations as well.
    let user = one.user().await;
    user.query(LOGOUT, json!({"t": user.refresh_token})).await;
    let three = TestApp::builder().set("DATABASE_URL", one.database().url()).start().await;
    eventually("the ended session is refused", || async {
        let answer = user.at(three.addr()).post("{ me { id } }", json!({})).await;
        answer.text().contains("UNAUTHENTICATED").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_ends_every_session_but_the_current_one() {
    let app = TestApp::start().await;
    let (home, user) = app.home().await;
    app.device(&user, &home, "dev").await;
    let (other, other_refresh) = login(&user, app.addr()).await;
    let mut own = user.subscribe(STATUS, json!({"h": home.id})).await;
    let mut others = other.subscribe(STATUS, json!({"h": home.id})).await;
    own.next().await;
    others.next().await;
    for (current, new, field) in
        [("not the password", NEW_PASSWORD, "currentPassword"), (user.password.as_str(), "short", "newPassword")]
    {
        let answer = user.post(CHANGE, json!({"c": current, "n": new})).await.json();
        assert_eq!(answer["errors"][0]["extensions"], json!({"code": "BAD_USER_INPUT", "field": field}));
    }
    assert_eq!(app.stranger().error_code(CHANGE, json!({"c": "x", "n": "y"})).await, "UNAUTHENTICATED");
    user.query(CHANGE, json!({"c": user.password, "n": NEW_PASSWORD})).await;
    let end = ends(&mut others, Instant::now(), "a new password").await;
    assert_eq!(end, Frame::Closed(4403, "Forbidden: the session has ended".to_owned()));
    assert_eq!(other.error_code("{ me { id } }", json!({})).await, "UNAUTHENTICATED");
    assert_eq!(app.stranger().error_code(REFRESH, json!({"t": other_refresh})).await, "UNAUTHENTICATED");
    own.wait_until_read().await;
    user.query("{ me { id } }", json!({})).await;
    user.query(REFRESH, json!({"t": user.refresh_token})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_new_token_of_its_own_session_keeps_a_socket_open() {
    let app = TestApp::start().await;
    let (home, user) = app.home().await;
    app.device(&user, &home, "dev").await;
    let mut stream = user.subscribe(STATUS, json!({"h": home.id})).await;
    stream.next().await;
    app.clock().advance(chrono::TimeDelta::minutes(10));
    let fresh = user.query(REFRESH, json!({"t": user.refresh_token})).await["refreshToken"].clone();
    let renew = json!({"type": "ping", "payload": {"Authorization": format!("Bearer {}", fresh["accessToken"].as_str().unwrap())}});
    stream.send(&renew).await;
    app.clock().advance(chrono::TimeDelta::minutes(10));
    // It is open beyond the expiry of the first token.
    stream.wait_until_read().await;
    let (other, _) = login(&user, app.addr()).await;
    let mut socket = Socket::signed_in(app.addr(), fresh["accessToken"].as_str()).await;
    let foreign = json!({"type": "ping", "payload": {"Authorization": format!("Bearer {}", other.token().unwrap())}});
    socket.send(&foreign).await;
    assert_eq!(socket.next().await, Frame::Closed(4403, "Forbidden: invalid access token".to_owned()));
    app.clock().advance(chrono::TimeDelta::minutes(6));
    let end = loop {
        match stream.frame().await {
            Frame::Json(message) if message["type"] == "pong" => {}
            end => break end,
        }
    };
    assert_eq!(end, Frame::Closed(4403, "Forbidden: the access token has expired".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn users_list_and_end_only_their_own_sessions() {
    let app = TestApp::start().await;
    let (home, user) = app.home().await;
    app.device(&user, &home, "dev").await;
    let (other, refresh) = login(&user, app.addr()).await;
    let mut stream = other.subscribe(STATUS, json!({"h": home.id})).await;
    stream.next().await;
    let sessions = "{ me { sessions { id createdAt lastUsedAt expiresAt address current } } }";
    let listed = user.query(sessions, json!({})).await["me"]["sessions"].clone();
    let current: Vec<_> = listed.as_array().unwrap().iter().map(|session| session["current"].clone()).collect();
    assert_eq!((current, &listed[0]["address"]), (vec![json!(false), json!(true)], &json!("127.0.0.1")));
    let revoke = "mutation($i: ID!) { revokeSession(id: $i) }";
    let id = &listed[0]["id"];
    let eve = app.user().await;
    for (who, id) in [(&eve, id.clone()), (&user, json!("x")), (&user, json!("00000000-0000-0000-0000-000000000000"))] {
        assert_eq!(who.error_code(revoke, json!({"i": id})).await, "NOT_FOUND");
    }
    user.query(revoke, json!({"i": id})).await;
    assert!(matches!(ends(&mut stream, Instant::now(), "a revoked session").await, Frame::Closed(4403, _)));
    assert_eq!(app.stranger().error_code(REFRESH, json!({"t": refresh})).await, "UNAUTHENTICATED");
    assert_eq!(user.error_code(revoke, json!({"i": id})).await, "NOT_FOUND");
    assert_eq!(user.query(sessions, json!({})).await["me"]["sessions"].as_array().unwrap().len(), 1);
    // Another member sees none of these sessions.
    join(&app, &home, &eve, "GUEST").await;
    let peek = "query($h: ID!) { home(id: $h) { members { user { sessions { id } } } } }";
    assert_eq!(eve.error_code(peek, json!({"h": home.id})).await, "FORBIDDEN");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_over_http_ends_when_its_session_is_revoked() {
    let app = TestApp::start().await;
    let (home, user) = app.home().await;
    app.device(&user, &home, "dev").await;
    for accept in ["text/event-stream", "multipart/mixed;subscriptionSpec=\"1.0\""] {
        let (session, refresh) = login(&user, app.addr()).await;
        let bearer = format!("Bearer {}", session.token().unwrap());
        let headers = [("authorization", bearer.as_str()), ("accept", accept), ("content-type", "application/json")];
        let body = json!({"query": STATUS, "variables": {"h": home.id}}).to_string();
        let running = http::request(app.addr(), "POST", "/graphql", &headers, body.as_bytes());
        let logout = async {
            eventually("it runs", || async { (app.app().services().metrics.subscriptions.get() == 1).then_some(()) })
                .await;
            user.query(LOGOUT, json!({"t": refresh})).await;
            Instant::now()
        };
        let (answer, since) = tokio::join!(soon("the end of the stream", running), logout);
        assert!(since.elapsed() < SOON);
        assert!(answer.text().contains("UNAUTHENTICATED"), "{}", answer.text());
        eventually("it has ended", || async { (app.app().services().metrics.subscriptions.get() == 0).then_some(()) })
            .await;
    }
}

/// Ended sessions and tokens of others, as another server records them.
const FLOODS: [(&str, &str); 2] = [
    (
        "integration tokens of one home",
        "insert into revocations (session_id, home_id) select gen_random_uuid(), $1 from generate_series(1, 100001)",
    ),
    (
        "sessions of one user",
        "insert into revocations (session_id, user_id) select gen_random_uuid(), $1 from generate_series(1, 100001)",
    ),
];

const LAST: &str = "insert into revocations (session_id, user_id) values ($1::text::uuid, $2)";

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_revocations_of_one_account_ends_nothing_of_others() {
    let app = TestApp::start().await;
    let (home, user) = app.home().await;
    app.device(&user, &home, "dev").await;
    let (attackers_home, attacker) = app.home().await;
    let client = app.database().client().await;
    for (what, flood) in FLOODS {
        let id: i64 = if what.contains("home") { &attackers_home.id } else { &attacker.id }.parse().unwrap();
        let mut stream = user.subscribe(STATUS, json!({"h": home.id})).await;
        stream.next().await;
        client.execute(flood, &[&id]).await.unwrap();
        // A poll reads rows in their order: once this session is refused, the flood is applied.
        let (last, _) = login(&user, app.addr()).await;
        let Actor::Session(session) = app.principal(&last).actor else { unreachable!() };
        client.execute(LAST, &[&session.to_string(), &user.id.parse::<i64>().unwrap()]).await.unwrap();
        client.batch_execute("notify revocations").await.unwrap();
        eventually(what, || async { (last.post("{ me { id } }", json!({})).await.status == 401).then_some(()) }).await;
        stream.wait_until_read().await;
        user.query("{ me { id } }", json!({})).await;
    }
}
