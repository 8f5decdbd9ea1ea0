//! Sessions: signing in, refresh tokens, and what ends a session.

use chrono::TimeDelta;
use futures_util::future::join_all;
use serde_json::{Value, json};
use smarthome::auth::{Actor, IssuerDomains, Principal, Tokens};
use smarthome::db;
use smarthome::error::CredentialsError;
use smarthome::ids::{SessionId, UserId};
use smarthome::latch::Latch;
use smarthome::opaque_token;
use smarthome::settings::{DatabaseSettings, Secret};
use smarthome::throttle::Throttle;
use smarthome::users::{EmailVerification, Users, UsersDependencies};
use tokio_util::sync::CancellationToken;

use super::{Graph, Person, eventually, number, text};
use crate::support::app::JWT_SECRET;

const NOBODY: Person = Person(None);
const PASSWORD: &str = "a fine long passphrase";
const REGISTER: &str = "mutation($e: String!, $p: String!) { register(input: {email: $e, password: $p, name: \" Ann \"}) \
                        { accessToken refreshToken expiresAt user { id email name homes { id } } } }";
const LOGIN: &str = "mutation($e: String!, $p: String!) { login(input: {email: $e, password: $p}) { refreshToken } }";
const REFRESH: &str = "mutation($t: String!) { refreshToken(refreshToken: $t) { refreshToken user { email } } }";
const LOGOUT: &str = "mutation($t: String!) { logout(refreshToken: $t) }";

async fn registered(graph: &Graph) -> Value {
    graph.ask(&NOBODY, REGISTER, json!({"e": "Ann@Example.com", "p": PASSWORD})).await["register"].take()
}

async fn refreshed(graph: &Graph, token: &str) -> String {
    text(&graph.ask(&NOBODY, REFRESH, json!({"t": token})).await["refreshToken"]["refreshToken"])
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_signs_in_and_reads_itself() {
    let graph = Graph::start().await;
    let session = registered(&graph).await;
    assert_eq!(session["user"]["email"], "ann@example.com");
    assert_eq!(session["user"]["name"], "Ann");
    let code = graph.code(&NOBODY, REGISTER, json!({"e": "ANN@example.com", "p": PASSWORD})).await;
    assert_eq!(code, "CONFLICT");
    graph.ask(&NOBODY, LOGIN, json!({"e": " ANN@example.com", "p": PASSWORD})).await;
    for (email, password) in [("ann@example.com", "wrong"), ("bob@example.com", PASSWORD), ("\0", ""), ("", "")] {
        let answer = graph.answer(&NOBODY, LOGIN, json!({"e": email, "p": password})).await;
        assert_eq!(answer["errors"][0]["message"], "wrong e-mail or password");
        assert_eq!(answer["errors"][0]["extensions"]["code"], "UNAUTHENTICATED");
    }
    assert_eq!(graph.code(&NOBODY, "{ me { id } }", json!({})).await, "UNAUTHENTICATED");
    graph.services.users.set_password("ann@example.com", "another fine passphrase").await.unwrap();
    assert_eq!(graph.code(&NOBODY, LOGIN, json!({"e": "ann@example.com", "p": PASSWORD})).await, "UNAUTHENTICATED");
    assert_eq!(graph.code(&NOBODY, REFRESH, json!({"t": session["refreshToken"]})).await, "UNAUTHENTICATED");
}

/// The code and the reason of a refresh that is refused.
async fn refused(graph: &Graph, token: &str) -> (String, String) {
    let answer = graph.answer(&NOBODY, REFRESH, json!({"t": token})).await;
    let extensions = &answer["errors"][0]["extensions"];
    (text(&extensions["code"]), text(&extensions["reason"]))
}

fn because(reason: &str) -> (String, String) {
    ("UNAUTHENTICATED".to_owned(), reason.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_that_is_used_again_later_ends_the_session() {
    let graph = Graph::start().await;
    let first = text(&registered(&graph).await["refreshToken"]);
    let second = refreshed(&graph, &first).await;
    graph.end_refresh_grace().await;
    assert_eq!(refused(&graph, &first).await, because("REFRESH_REUSED"));
    assert_eq!(refused(&graph, &second).await, because("TOKEN_INVALID"));
    assert_eq!(refused(&graph, &first).await, because("TOKEN_INVALID"), "it is unknown now");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_lost_the_answer_repeats_the_refresh() {
    let graph = Graph::start().await;
    let mut token = text(&registered(&graph).await["refreshToken"]);
    for n_lost in 0..4 {
        for _ in 0..n_lost {
            refreshed(&graph, &token).await;
        }
        token = refreshed(&graph, &token).await;
    }
    // The session is one.
    assert_eq!(graph.count("(select distinct family from refresh_tokens) families").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_token_can_not_be_exchanged_again_once_its_successor_was_used() {
    let graph = Graph::start().await;
    let first = text(&registered(&graph).await["refreshToken"]);
    let second = refreshed(&graph, &first).await;
    let third = refreshed(&graph, &second).await;
    assert_eq!(refused(&graph, &first).await, because("REFRESH_REUSED"));
    assert_eq!(refused(&graph, &third).await, because("TOKEN_INVALID"));
}

/// Two tabs that refresh at once, each with a copy of the token, go on; and so at the next expiry. One that comes later than
/// the grace period ends the session.
#[tokio::test(flavor = "multi_thread")]
async fn the_tokens_of_one_exchange_count_as_used_together() {
    let graph = Graph::start().await;
    let first = text(&registered(&graph).await["refreshToken"]);
    let (one, other) = (refreshed(&graph, &first).await, refreshed(&graph, &first).await);
    let (next, _) = (refreshed(&graph, &one).await, refreshed(&graph, &other).await);
    let (one, other) = (next.clone(), refreshed(&graph, &one).await);
    refreshed(&graph, &one).await;
    graph.end_refresh_grace().await;
    assert_eq!(refused(&graph, &other).await, because("REFRESH_REUSED"));
    assert_eq!(graph.count("refresh_tokens").await, 0);
}

/// A thief who was quick enough for the grace period has a token of the same generation as the client. Whoever of the two
/// refreshes next is second, however soon after the other that is, because they are in different networks.
#[tokio::test(flavor = "multi_thread")]
async fn of_the_tokens_of_one_exchange_only_those_of_one_network_may_be_used() {
    let graph = Graph::start().await;
    let users = &graph.services.users;
    let [home, mobile, thief] = ["192.0.2.1", "198.51.100.7", "203.0.113.9"].map(|text| text.parse().ok());
    let first = text(&registered(&graph).await["refreshToken"]);
    let refresh = async |token: &str, from| users.refresh(token, from).await.map(|session| session.refresh_token);
    refresh(&first, home).await.expect("its answer is lost");
    let of_owner = refresh(&first, mobile).await.expect("the phone has left its Wi-Fi meanwhile");
    let of_thief = refresh(&first, thief).await.expect("nobody can tell yet");
    let next = refresh(&of_owner, mobile).await.expect("the first of its generation");
    refresh(&of_owner, mobile).await.expect("the answer was lost");
    let error = refresh(&of_thief, thief).await.map(drop).expect_err("another network");
    assert_eq!(error.reason(), Some(CredentialsError::RefreshReused));
    assert_eq!(refused(&graph, &next).await, because("TOKEN_INVALID"));
    assert_eq!(graph.count("refresh_tokens").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_wait_for_a_busy_database_are_judged_by_their_arrival() {
    let graph = Graph::start().await;
    registered(&graph).await;
    let users = with_connections(&graph, 1).await;
    let locker = graph.database.client().await;
    for n in [2, 5, 20] {
        let token = users.login("ann@example.com", PASSWORD, None).await.unwrap().refresh_token;
        // One connection: each request reads the token only after the previous one has committed.
        locker.batch_execute("begin; select from users for update").await.unwrap();
        let refresh = |_| {
            let (users, token) = (users.clone(), token.clone());
            tokio::spawn(async move { users.refresh(&token, None).await })
        };
        let all: Vec<_> = (0..n).map(refresh).collect();
        graph.wait_for_waiting(1).await;
        locker.batch_execute("commit").await.unwrap();
        for answer in join_all(all).await {
            let session = answer.unwrap().unwrap_or_else(|error| panic!("of {n}: {error}"));
            refreshed(&graph, &session.refresh_token).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_concurrent_refreshes_go_on_with_one_session() {
    let graph = Graph::start().await;
    registered(&graph).await;
    let users = with_connections(&graph, 20).await;
    let locker = graph.database.client().await;
    for _ in 0..5 {
        let token = users.login("ann@example.com", PASSWORD, None).await.unwrap().refresh_token;
        // The lock on the user makes all twenty run at the same time.
        locker.batch_execute("begin; select from users for update").await.unwrap();
        let refresh = |_| {
            let (users, token) = (users.clone(), token.clone());
            tokio::spawn(async move { users.refresh(&token, None).await })
        };
        let all: Vec<_> = (0..20).map(refresh).collect();
        graph.wait_for_waiting(20).await;
        locker.batch_execute("commit").await.unwrap();
        let answers: Vec<_> = join_all(all).await.into_iter().map(|answer| answer.unwrap().unwrap()).collect();
        let sessions = users.sessions(&[answers[0].user.id]).await.unwrap();
        assert_eq!(sessions.len(), 2, "the one of the registration, and this one");
        let mut newest = String::new();
        for answer in answers {
            newest = refreshed(&graph, &answer.refresh_token).await;
        }
        // The same token again, later, is a replay.
        graph.end_refresh_grace().await;
        assert_eq!(refused(&graph, &token).await, because("REFRESH_REUSED"));
        assert_eq!(refused(&graph, &newest).await, because("TOKEN_INVALID"));
    }
}

/// The same accounts over another pool with `n` open connections.
async fn with_connections(graph: &Graph, n: u32) -> Users {
    let settings = DatabaseSettings { url: Secret::new(graph.database.url()), pool_size: n };
    let pool = db::pool(&settings, db::Frozen::default(), db::PoolMetrics::default());
    drop(join_all((0..n).map(|_| pool.get())).await);
    let tokens = Tokens::new(&Secret::new(JWT_SECRET), graph.clock.clone());
    let revocations = graph.services.revocations.clone();
    Users::new(UsersDependencies {
        pool,
        tokens,
        clock: graph.clock.clone(),
        revocations,
        throttle: Throttle::new(false),
        registration_open: true,
        issuer_domains: IssuerDomains::default(),
        mailer: None,
        reset_link: None,
        email_verification: EmailVerification { is_demanded: false },
        verification_link: None,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn no_session_survives_a_logout_concurrent_with_a_refresh() {
    let graph = Graph::start().await;
    let token = text(&registered(&graph).await["refreshToken"]);
    // The lock on the user makes the two run at the same time.
    let locker = graph.database.client().await;
    locker.batch_execute("begin; select from users for update").await.unwrap();
    let users = (graph.services.users.clone(), graph.services.users.clone());
    let (one, other) = (token.clone(), token.clone());
    let refresh = tokio::spawn(async move { users.0.refresh(&one, None).await });
    graph.wait_for_waiting(1).await;
    let logout = tokio::spawn(async move { users.1.logout(&other).await });
    graph.wait_for_waiting(2).await;
    locker.batch_execute("commit").await.unwrap();
    assert!(logout.await.unwrap().unwrap());
    let _ = refresh.await.unwrap();
    assert_eq!(graph.count("refresh_tokens").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_session_survives_a_new_password_concurrent_with_a_login() {
    let graph = Graph::start().await;
    registered(&graph).await;
    // A transaction that sets a new password and is about to commit. The login has checked the old one.
    let setting = graph.database.client().await;
    setting.batch_execute("begin; update users set password_hash = '-'; delete from refresh_tokens").await.unwrap();
    let users = graph.services.users.clone();
    let login = tokio::spawn(async move { users.login("ann@example.com", PASSWORD, None).await });
    graph.wait_for_waiting(1).await;
    setting.batch_execute("commit").await.unwrap();
    assert_eq!(login.await.unwrap().err().unwrap().code(), "UNAUTHENTICATED");
    assert_eq!(graph.count("refresh_tokens").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_revokes_tokens_issued_until_its_commit() {
    let graph = Graph::start().await;
    let user = UserId::from_database(number(&text(&registered(&graph).await["user"]["id"])));
    let token = || {
        let issued_at = graph.clock.now();
        Principal { user, actor: Actor::Operator, issued_at, expires_at: issued_at + TimeDelta::hours(1) }
    };
    for by_its_owner in [true, false] {
        let locker = graph.database.client().await;
        locker.batch_execute("begin; select from users for update").await.unwrap();
        let (users, caller) = (graph.services.users.clone(), token());
        let change = tokio::spawn(async move {
            match by_its_owner {
                true => users.change_password(&caller, PASSWORD, "another fine passphrase", None).await,
                false => users.set_password("ann@example.com", "a third fine passphrase").await,
            }
        });
        graph.wait_for_waiting(1).await;
        graph.clock.advance(TimeDelta::minutes(1));
        let issued_meanwhile = token();
        graph.clock.advance(TimeDelta::minutes(1));
        locker.batch_execute("commit").await.unwrap();
        change.await.unwrap().unwrap();
        let revocations = &graph.services.revocations;
        assert!(revocations.watch(&issued_meanwhile).is_revoked(), "by its owner: {by_its_owner}");
        assert!(!revocations.watch(&token()).is_revoked(), "by its owner: {by_its_owner}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_by_logout_idle_time_and_age() {
    let graph = Graph::start().await;
    let token = text(&registered(&graph).await["refreshToken"]);
    assert_eq!(graph.ask(&NOBODY, LOGOUT, json!({"t": token})).await["logout"], true);
    assert_eq!(graph.ask(&NOBODY, LOGOUT, json!({"t": "unknown"})).await["logout"], true);
    assert_eq!(graph.code(&NOBODY, REFRESH, json!({"t": token})).await, "UNAUTHENTICATED");

    let login = || async {
        text(&graph.ask(&NOBODY, LOGIN, json!({"e": "ann@example.com", "p": PASSWORD})).await["login"]["refreshToken"])
    };
    let idle = login().await;
    graph.clock.advance(TimeDelta::days(30));
    assert_eq!(graph.code(&NOBODY, REFRESH, json!({"t": idle})).await, "UNAUTHENTICATED");

    let mut token = login().await;
    for _ in 0..3 {
        graph.clock.advance(TimeDelta::days(29));
        token = refreshed(&graph, &token).await;
    }
    graph.clock.advance(TimeDelta::days(3));
    assert_eq!(graph.code(&NOBODY, REFRESH, json!({"t": token})).await, "UNAUTHENTICATED");
    login().await;
    assert_eq!(graph.count("refresh_tokens where expires_at < '2026-01-01'").await, 0);
}

/// Opens a session as signing in does, without the cost of hashing a password.
async fn opened(graph: &Graph, user: i64) -> String {
    let (family, token) = (SessionId::generate(graph.clock.now()).to_string(), opaque_token::generate(""));
    let insert = "insert into refresh_tokens (user_id, family, token_hash, created_at, expires_at) \
                  values ($1, $2::text::uuid, $3, $4::text::timestamptz, $4::text::timestamptz + interval '30 days')";
    let (digest, now) = (opaque_token::digest(&token).unwrap().to_vec(), graph.clock.now().to_rfc3339());
    graph.sql.execute(insert, &[&user, &family, &digest, &now]).await.unwrap();
    token
}

#[tokio::test(flavor = "multi_thread")]
async fn ended_sessions_do_not_count_towards_the_limit_of_sessions() {
    let graph = Graph::start().await;
    let session = registered(&graph).await;
    let tablet = text(&session["refreshToken"]);
    let user = text(&session["user"]["id"]).parse().unwrap();
    for _ in 0..100 {
        let token = opened(&graph, user).await;
        assert!(graph.services.users.logout(&token).await.unwrap());
    }
    graph.ask(&NOBODY, LOGIN, json!({"e": "ann@example.com", "p": PASSWORD})).await;
    let tablet = refreshed(&graph, &tablet).await;
    // The hundred most recently used open sessions remain.
    let mut others = Vec::new();
    for _ in 0..99 {
        others.push(opened(&graph, user).await);
    }
    graph.ask(&NOBODY, LOGIN, json!({"e": "ann@example.com", "p": PASSWORD})).await;
    assert_eq!(graph.code(&NOBODY, REFRESH, json!({"t": tablet})).await, "UNAUTHENTICATED");
    refreshed(&graph, &others[0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cleanup_deletes_used_and_expired_tokens() {
    let graph = Graph::start().await;
    let users = &graph.services.users;
    let first = text(&registered(&graph).await["refreshToken"]);
    let second = refreshed(&graph, &first).await;
    graph.clock.advance(TimeDelta::days(6));
    let third = refreshed(&graph, &second).await;
    users.delete_expired_tokens().await.unwrap();
    assert_eq!(graph.count("refresh_tokens").await, 3, "a replay of each would be recognised");
    graph.clock.advance(TimeDelta::days(1));
    // A replay of a token that was used so long ago has no effect, whether or not its row is deleted.
    assert_eq!(graph.code(&NOBODY, REFRESH, json!({"t": first})).await, "UNAUTHENTICATED");
    users.delete_expired_tokens().await.unwrap();
    assert_eq!(graph.count("refresh_tokens").await, 2);
    assert_eq!(graph.code(&NOBODY, REFRESH, json!({"t": first})).await, "UNAUTHENTICATED");
    let fourth = refreshed(&graph, &third).await;
    graph.end_refresh_grace().await;
    assert_eq!(graph.code(&NOBODY, REFRESH, json!({"t": second})).await, "UNAUTHENTICATED");
    assert_eq!(
        graph.code(&NOBODY, REFRESH, json!({"t": fourth})).await,
        "UNAUTHENTICATED",
        "the replay ended the session"
    );

    users.login("ann@example.com", PASSWORD, None).await.unwrap();
    graph.clock.advance(TimeDelta::days(30));
    let migrated = Latch::default();
    migrated.set();
    let all_deleted = || async { (graph.count("refresh_tokens").await == 0).then_some(()) };
    let cleanup = tokio::spawn(users.clone().run_token_cleanup(migrated, CancellationToken::new()));
    eventually("all tokens are deleted", all_deleted).await;
    cleanup.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_weak_password_is_refused_and_not_repeated_in_the_error() {
    let graph = Graph::start().await;
    for password in ["short", "password123456", "aaaaaaaaaaaaaaa"] {
        let answer = graph.answer(&NOBODY, REGISTER, json!({"e": "ann@example.com", "p": password})).await;
        assert_eq!(answer["errors"][0]["extensions"], json!({"code": "BAD_USER_INPUT", "field": "password"}));
        assert!(!answer.to_string().contains(password));
    }
}
