//! Credentials of requests: why they are refused, in the media type that the client accepts.

#![expect(clippy::unwrap_used, reason = "what can't be read fails the test")]

use chrono::TimeDelta;
use serde_json::{Value, json};

use super::support::app::TestApp;
use super::support::http::{self, Answer};

const GRAPHQL: &str = "application/graphql-response+json";
const ME: &str = "{ me { id } }";
const LOGIN: &str = "mutation($e: String!, $p: String!) { login(input: {email: $e, password: $p}) \
                     { accessToken refreshToken user { id __typename } } }";
const REFRESH: &str =
    "mutation($t: String!) { refreshToken(refreshToken: $t) { accessToken refreshToken user { id } } }";

/// Sends an operation with this `Authorization` and `Accept`.
async fn ask(app: &TestApp, authorization: Option<&str>, accept: &str, query: &str, variables: Value) -> Answer {
    let mut headers = vec![("content-type", "application/json"), ("accept", accept)];
    headers.extend(authorization.map(|value| ("authorization", value)));
    let body = json!({"query": query, "variables": variables}).to_string();
    http::request(app.addr(), "POST", "/graphql", &headers, body.as_bytes()).await
}

fn refusal(answer: &Answer) -> (u16, Value, Value) {
    let mut extensions = answer.json()["errors"][0]["extensions"].take();
    (answer.status, extensions["code"].take(), extensions["reason"].take())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_credentials_says_why() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    let bearer = format!("Bearer {}", ann.token().unwrap());
    let because = |status: u16, reason: &str| (status, json!("UNAUTHENTICATED"), json!(reason));
    let me = async |authorization: Option<&str>| refusal(&ask(&app, authorization, GRAPHQL, ME, json!({})).await);
    assert_eq!(me(None).await, because(200, "TOKEN_MISSING"));
    for wrong in ["Bearer x", "Bearer null", "Bearer ", "Basic eDp5", ""] {
        assert_eq!(me(Some(wrong)).await, because(401, "TOKEN_INVALID"), "{wrong:?}");
    }
    assert_eq!(ask(&app, Some(&bearer), GRAPHQL, ME, json!({})).await.status, 200);
    app.clock().advance(TimeDelta::minutes(16));
    assert_eq!(me(Some(&bearer)).await, because(401, "TOKEN_EXPIRED"));
    let wrong = ask(&app, None, GRAPHQL, LOGIN, json!({"e": ann.email, "p": "wrong"})).await;
    assert_eq!(refusal(&wrong), because(200, "INVALID_CREDENTIALS"));
    let unknown = ask(&app, None, GRAPHQL, REFRESH, json!({"t": "unknown"})).await;
    assert_eq!(refusal(&unknown), because(200, "TOKEN_INVALID"));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_has_the_media_type_that_the_client_accepts() {
    let app = TestApp::start().await;
    for (accept, media) in [
        (GRAPHQL, GRAPHQL),
        ("application/json", "application/json"),
        ("*/*", "application/json"),
        ("application/graphql-response+json;q=0.9, application/json;q=0.5", GRAPHQL),
        ("text/event-stream", "application/json"),
    ] {
        let answer = ask(&app, Some("Bearer x"), accept, ME, json!({})).await;
        assert_eq!(answer.status, 401);
        assert!(answer.header("content-type").unwrap().starts_with(media), "{accept}: {:?}", answer.headers);
        assert_eq!(answer.header("www-authenticate"), Some("Bearer error=\"invalid_token\""));
        let headers = [("content-type", "text/plain"), ("accept", accept)];
        let answer = http::request(app.addr(), "POST", "/graphql", &headers, b"{}").await;
        assert_eq!(answer.status, 415);
        assert!(answer.header("content-type").unwrap().starts_with(media), "{accept}: {:?}", answer.headers);
        let headers = [("content-type", "application/json"), ("accept", accept)];
        let answer = http::request(app.addr(), "POST", "/graphql", &headers, &vec![b' '; 300 << 10]).await;
        assert_eq!(answer.status, 413);
        assert!(answer.header("content-type").unwrap().starts_with(media), "{accept}: {:?}", answer.headers);
    }
    app.stop().await;
}
