//! Budgets and delays: who asks too often waits, and learns for how long.

use serde_json::{Value, json};

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
