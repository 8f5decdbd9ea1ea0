//! Budgets and delays: who asks too often waits, and learns for how long.

#![expect(clippy::unwrap_used, reason = "what can't be asked fails the test")]

use std::net::IpAddr;

use futures_util::future::join_all;
use serde_json::{Value, json};
use smarthome::error::Error;
use smarthome::users::Session;

use super::support::app::TestApp;
use super::support::http;

const LOGIN: &str = "mutation($e: String!, $p: String!) { login(input: {email: $e, password: $p}) { accessToken } }";
const REFRESH: &str = "mutation { refreshToken(refreshToken: \"x\") { accessToken } }";

#[tokio::test(flavor = "multi_thread")]
async fn guessing_a_password_takes_longer_and_longer_whether_or_not_there_is_an_account() {
    let app = TestApp::builder().set("RATE_LIMITS", "on").start().await;
    let user = app.user().await;
    for email in [user.email.as_str(), "nobody@test.example"] {
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
