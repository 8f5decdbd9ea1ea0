//! Budgets and delays: who asks too often waits, and learns for how long.

#![expect(clippy::unwrap_used, reason = "what can't be asked fails the test")]

use std::net::IpAddr;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use serde_json::{Value, json};
use smarthome::error::Error;
use smarthome::users::Session;

use super::edge::{Edge, Received};
use super::support::app::TestApp;
use super::support::http;
use super::support::user::User;

const LOGIN: &str = "mutation($e: String!, $p: String!) { login(input: {email: $e, password: $p}) { accessToken } }";
const CHANGE: &str =
    "mutation($c: String!, $n: String!) { changePassword(input: {currentPassword: $c, newPassword: $n}) }";
const NEW: &str = "another passphrase, longer still";
const REFRESH: &str = "mutation { refreshToken(refreshToken: \"x\") { accessToken } }";

#[tokio::test(flavor = "multi_thread")]
async fn guessing_a_password_takes_longer_and_longer_whether_or_not_there_is_an_account() {
    let app = TestApp::builder().set("RATE_LIMITS", "on").start().await;
    let user = app.user().await;
    // The account last: its wait of a second is asked about once more below.
    for email in ["nobody@test.example", user.email.as_str()] {
        let mut answers = Vec::new();
        for _ in 0..6 {
            answers.push(app.stranger().post(LOGIN, json!({"e": email, "p": "a wrong guess"})).await.json());
        }
        let code = |answer: &Value| answer["errors"][0]["extensions"]["code"].clone();
        assert!(answers[..5].iter().all(|answer| code(answer) == "UNAUTHENTICATED"), "{answers:?}");
        assert_eq!(answers[5]["errors"][0]["message"], "too many requests: try again in 1 s");
        assert_eq!(answers[5]["errors"][0]["extensions"], json!({"code": "RATE_LIMITED", "retryAfterSeconds": 1}));
    }
    // The right password waits too: or the wait would tell it from the wrong ones.
    let right = json!({"e": user.email, "p": user.password});
    assert_eq!(app.stranger().error_code(LOGIN, right).await, "RATE_LIMITED");
    // Who is signed in already is not locked out.
    user.query("{ me { id } }", json!({})).await;
}

/// How a sign-in ended: the code of its error, or `OK`.
fn outcome(signed_in: &Result<Session, Error>) -> &'static str {
    signed_in.as_ref().err().map_or("OK", Error::code)
}

fn address(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_guesses_at_once_no_more_count_than_of_as_many_in_a_row() {
    let app = TestApp::builder().set("RATE_LIMITS", "on").start().await;
    let user = app.user().await;
    let users = &app.app().services().users;
    for (email, from) in [(user.email.as_str(), "192.0.2.1"), ("nobody@test.example", "192.0.2.2")] {
        let guesses = (0..20).map(|_| users.login(email, "a wrong guess", address(from)));
        let outcomes: Vec<_> = join_all(guesses).await.iter().map(outcome).collect();
        let n = |code: &str| outcomes.iter().filter(|outcome| **outcome == code).count();
        assert_eq!((n("UNAUTHENTICATED"), n("RATE_LIMITED")), (5, 15), "{email}: {outcomes:?}");
    }
    // Right ones count only until they are known to be right.
    for _ in 0..3 {
        let right = (0..5).map(|_| users.login(&user.email, &user.password, address("192.0.2.3")));
        assert!(join_all(right).await.iter().all(Result::is_ok));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_from_everywhere_lock_nobody_out_of_a_network_they_have_signed_in_from() {
    let app = TestApp::builder().set("RATE_LIMITS", "on").start().await;
    // From 127.0.0.1, and from another network.
    let user = app.user().await;
    let users = &app.app().services().users;
    users.login(&user.email, &user.password, address("2001:db8::1")).await.unwrap();
    for email in ["nobody@test.example", user.email.as_str()] {
        for n in 0..50 {
            // Whoever does not wait for the answer has guessed all the same.
            let guess = users.login(email, "a wrong guess", address(&format!("192.0.2.{n}")));
            assert!(guess.now_or_never().is_none());
        }
        for elsewhere in ["198.51.100.1", "2001:db8:0:1::1"] {
            let signed_in = users.login(email, &user.password, address(elsewhere)).await;
            assert_eq!(outcome(&signed_in), "RATE_LIMITED", "{email} from {elsewhere}");
        }
    }
    for known in ["127.0.0.1", "2001:db8::2"] {
        let signed_in = users.login(&user.email, &user.password, address(known)).await;
        assert_eq!(outcome(&signed_in), "OK", "from {known}");
    }
    // The whole network counts as one source of guesses.
    let guess = async || outcome(&users.login(&user.email, "a wrong guess", address("127.0.0.1")).await);
    for _ in 0..5 {
        assert_eq!(guess().await, "UNAUTHENTICATED");
    }
    assert_eq!(guess().await, "RATE_LIMITED");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_guesses_in_one_session_keeps_no_other_from_a_new_password() {
    let app = TestApp::builder().set("RATE_LIMITS", "on").start().await;
    let user = app.user().await;
    let signed_in = app.stranger().query(LOGIN, json!({"e": user.email, "p": user.password})).await;
    let other = User::with_token(app.addr(), signed_in["login"]["accessToken"].as_str().unwrap());
    let (wrong, right) = (json!({"c": "a wrong guess", "n": NEW}), json!({"c": user.password, "n": NEW}));
    for _ in 0..5 {
        assert_eq!(user.error_code(CHANGE, wrong.clone()).await, "BAD_USER_INPUT");
    }
    assert_eq!(user.error_code(CHANGE, right.clone()).await, "RATE_LIMITED");
    other.query(CHANGE, right).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_and_an_address_set_a_new_password_only_so_often() {
    let app = TestApp::builder().set("RATE_LIMITS", "on").start().await;
    let (ann, bob) = (app.user().await, app.user().await);
    let users = &app.app().services().users;
    let (who, from) = (app.principal(&ann), |n| address(&format!("192.0.2.{n}")));
    let mut codes = Vec::new();
    for n in 0..12 {
        codes.push(users.change_password(&who, "x", "short", from(n)).await.unwrap_err().code());
    }
    assert!(codes[..10].iter().all(|code| *code == "BAD_USER_INPUT"), "{codes:?}");
    assert_eq!(codes[11], "RATE_LIMITED");
    for _ in 0..61 {
        let _ = users.refresh("x", from(100)).await;
    }
    let refused = users.change_password(&app.principal(&bob), "x", "short", from(100)).await;
    assert_eq!(refused.unwrap_err().code(), "RATE_LIMITED");
    // Nor many times in one document.
    let input = "(input: {currentPassword: \"x\", newPassword: \"y\"})";
    let twice = format!("mutation {{ a: changePassword{input} b: changePassword{input} }}");
    let answer = bob.post(&twice, json!({})).await.json();
    let message = answer["errors"][0]["message"].as_str().unwrap();
    assert!(message.ends_with("only once"), "{answer}");
}

/// Whether it is refused where its address has spent its requests. They grow by one in 5 ms, so that it
/// may take some trials.
async fn is_limited(edge: &Edge, ask: impl AsyncFn(&dyn Fn()) -> bool) -> bool {
    let spend = || while edge.throttle.address_request(Some(edge.addr.ip())).is_ok() {};
    for _ in 0..100 {
        if ask(&spend).await {
            return true;
        }
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_refused_is_a_request_of_its_address_too() {
    let edge = Edge::limited().await;
    let bad = json!({"Authorization": "Bearer nonsense"});
    let protocol = "graphql-transport-ws";
    let busy = Received::Close(1013, "too many requests, try again later".to_owned());
    let request = async |spend: &dyn Fn()| {
        spend();
        edge.post("\r\nAuthorization: Bearer nonsense", &json!({"query": "{hello}"})).await.status == 429
    };
    assert!(is_limited(&edge, request).await);
    let upgrade = async |spend: &dyn Fn()| {
        spend();
        edge.socket(protocol, &[("authorization", "Bearer nonsense")]).await.err() == Some(429)
    };
    assert!(is_limited(&edge, upgrade).await);
    let init = async |spend: &dyn Fn()| {
        let Ok(mut socket) = edge.socket(protocol, &[]).await else { return false };
        spend();
        socket.send_json(&json!({"type": "connection_init", "payload": bad})).await;
        socket.receive().await == busy
    };
    assert!(is_limited(&edge, init).await);
    let token = format!("Bearer {}", edge.token(7, Duration::from_secs(60)));
    let renewal = async |spend: &dyn Fn()| {
        let Ok(mut socket) = edge.socket(protocol, &[("authorization", &token)]).await else { return false };
        socket.send_json(&json!({"type": "connection_init"})).await;
        socket.receive().await;
        spend();
        socket.send_json(&json!({"type": "ping", "payload": bad})).await;
        socket.receive().await == busy
    };
    assert!(is_limited(&edge, renewal).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_a_budget_of_attempts_and_a_person_one_of_requests() {
    let app = TestApp::builder().set("RATE_LIMITS", "on").start().await;
    // Whose registration is an attempt too.
    let user = app.user().await;
    let mut codes = Vec::new();
    for _ in 0..62 {
        codes.push(app.stranger().error_code(REFRESH, json!({})).await);
    }
    assert!(codes[..59].iter().all(|code| code == "UNAUTHENTICATED"), "{codes:?}");
    assert_eq!(codes[61], "RATE_LIMITED");
    // Slower than the budget grows, 50 a second, no machine is.
    let bearer = format!("Bearer {}", user.token().expect("a token"));
    let headers = [("content-type", "application/json"), ("authorization", bearer.as_str())];
    let refused = loop {
        let answer = http::request(app.addr(), "POST", "/graphql", &headers, br#"{"query":"{__typename}"}"#).await;
        if answer.status != 200 {
            break answer;
        }
    };
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
    assert_eq!(refused.json()["errors"][0]["extensions"]["code"], "RATE_LIMITED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_has_no_public_half_to_show() {
    let app = TestApp::start().await;
    let answer = http::get(app.addr(), "/.well-known/jwks.json").await;
    assert_eq!((answer.status, answer.json()), (200, json!({"keys": []})));
}
