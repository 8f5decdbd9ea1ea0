//! Credentials of requests: why they are refused, in the media type that the client accepts, and operations that need
//! none.

use chrono::TimeDelta;
use serde_json::{Value, json};

use super::support::app::TestApp;
use super::support::http::{self, Answer};
use super::support::unique;
use super::support::user::User;

const GRAPHQL: &str = "application/graphql-response+json";
const ME: &str = "{ me { id } }";
const LOGIN: &str = "mutation($e: String!, $p: String!) { login(input: {email: $e, password: $p}) \
                     { accessToken refreshToken user { id __typename } } }";
const REGISTER: &str =
    "mutation R($e: String!, $p: String!) { register(input: {email: $e, password: $p, name: \"x\"}) { accessToken } }";
const REFRESH: &str =
    "mutation($t: String!) { refreshToken(refreshToken: $t) { accessToken refreshToken user { id } } }";
/// SHA-256 of [`REFRESH`].
const REFRESH_SHA256: &str = "d3b0b2f9d32b637409a985a59a6295567a1cceea689cbf7db8f703124628908e";
const LOGOUT: &str = "mutation($t: String!) { __typename logout(refreshToken: $t) }";

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
    let refreshed = ask(&app, None, GRAPHQL, REFRESH, json!({"t": ann.refresh_token})).await.json();
    app.end_refresh_grace(&ann).await;
    let replayed = ask(&app, None, GRAPHQL, REFRESH, json!({"t": ann.refresh_token})).await;
    assert_eq!(refusal(&replayed), because(200, "REFRESH_REUSED"));
    let bearer = format!("Bearer {}", refreshed["data"]["refreshToken"]["accessToken"].as_str().unwrap());
    assert_eq!(me(Some(&bearer)).await, because(401, "TOKEN_INVALID"), "the session has ended");
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

/// A link that adds the stored token to every request must not keep a phone from renewing it.
#[tokio::test(flavor = "multi_thread")]
async fn operations_that_carry_their_own_credentials_do_not_depend_on_the_header() {
    let app = TestApp::start().await;
    let (ann, bob) = (app.user().await, app.user().await);
    let expired = format!("Bearer {}", ann.token().unwrap());
    app.clock().advance(TimeDelta::minutes(16));
    let sign_in = json!({"e": ann.email, "p": ann.password});
    let fresh = ask(&app, None, GRAPHQL, LOGIN, json!({"e": bob.email, "p": bob.password})).await.json();
    let of_bob = format!("Bearer {}", fresh["data"]["login"]["accessToken"].as_str().unwrap());
    for header in [expired.as_str(), "Bearer null", "Bearer undefined", "Bearer ", "", "Basic eDp5", of_bob.as_str()] {
        let ok = async |query: &str, variables: &Value| {
            let answer = ask(&app, Some(header), GRAPHQL, query, variables.clone()).await;
            let mut body = answer.json();
            assert!(answer.status == 200 && body["errors"].is_null(), "{header:?}: {query}: {} {body}", answer.status);
            body["data"].take()
        };
        let session = ok(LOGIN, &sign_in).await["login"].take();
        assert_eq!(session["user"]["id"], json!(ann.id), "{header:?}");
        let refreshed = ok(REFRESH, &json!({"t": session["refreshToken"]})).await["refreshToken"].take();
        assert_eq!(refreshed["user"]["id"], json!(ann.id), "{header:?}");
        assert_eq!(ok(LOGOUT, &json!({"t": refreshed["refreshToken"]})).await["logout"], true);
        let email = format!("{}@test.example", unique("new"));
        ok(REGISTER, &json!({"e": email, "p": ann.password})).await;
        if header == of_bob {
            continue;
        }
        // Everything else needs a valid token, also beside one of these.
        let mixed = "mutation($t: String!) { logout(refreshToken: $t) revokeSession(id: \"1\") }";
        for (query, variables) in
            [(ME, json!({})), (mixed, json!({"t": "x"})), ("{ __typename }", json!({})), ("{", json!({}))]
        {
            let refused = refusal(&ask(&app, Some(header), GRAPHQL, query, variables).await);
            assert_eq!((refused.0, &refused.1), (401, &json!("UNAUTHENTICATED")), "{header:?}: {query}");
        }
    }
    // The rules of an anonymous caller apply.
    let wrong = ask(&app, Some(&expired), GRAPHQL, LOGIN, json!({"e": ann.email, "p": "wrong"})).await;
    assert_eq!(refusal(&wrong), (200, json!("UNAUTHENTICATED"), json!("INVALID_CREDENTIALS")));
    let invalid = ask(&app, Some(&expired), GRAPHQL, "mutation { login { accessToken } }", json!({})).await;
    assert_eq!(refusal(&invalid).0, 401, "an invalid document is no sign-in");
    app.stop().await;
}

/// What a phone does whose answer was lost in a lift, and a page that refreshes twice at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_and_two_refreshes_at_once_sign_nobody_out() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    let refresh = async |token: &str| ask(&app, None, GRAPHQL, REFRESH, json!({"t": token})).await;
    let tokens = |answer: &Answer| {
        let body = answer.json();
        let text =
            |name: &str| body["data"]["refreshToken"][name].as_str().unwrap_or_else(|| panic!("{body}")).to_owned();
        (text("accessToken"), text("refreshToken"))
    };
    let _lost = refresh(&ann.refresh_token).await;
    let (access, token) = tokens(&refresh(&ann.refresh_token).await);
    let (one, other) = tokio::join!(refresh(&token), refresh(&token));
    let both = [tokens(&one), tokens(&other)];
    for access in both.iter().map(|(access, _)| access).chain([&access]) {
        let user = User::with_token(app.addr(), access);
        let sessions = user.query("{ me { id sessions { id current } } }", json!({})).await;
        assert_eq!(sessions["me"]["sessions"].as_array().map(Vec::len), Some(1), "{sessions}");
        assert_eq!((&sessions["me"]["id"], &sessions["me"]["sessions"][0]["current"]), (&json!(ann.id), &json!(true)));
    }
    // The session goes on with one of the two.
    let (_, next) = tokens(&refresh(&both[0].1).await);
    let (_, last) = tokens(&refresh(&next).await);
    // Once a successor was used, the token can't be exchanged again, not even within the time.
    assert_eq!(refusal(&refresh(&both[0].1).await), (200, json!("UNAUTHENTICATED"), json!("REFRESH_REUSED")));
    assert_eq!(refusal(&refresh(&last).await), (200, json!("UNAUTHENTICATED"), json!("TOKEN_INVALID")));
    app.stop().await;
}

/// A client with automatic persisted queries sends the hash of its document first. The server does not know whether that
/// is an operation that needs no token, and asks for the document as it does without a header.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_hash_beside_an_expired_token_is_answered_by_asking_for_the_document() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    let bearer = format!("Bearer {}", ann.token().unwrap());
    app.clock().advance(TimeDelta::minutes(16));
    let headers = [("content-type", "application/json"), ("accept", GRAPHQL), ("authorization", &*bearer)];
    let extensions = json!({"persistedQuery": {"version": 1, "sha256Hash": REFRESH_SHA256}});
    let mut body = json!({"variables": {"t": ann.refresh_token}, "extensions": extensions});
    let send =
        async |body: &Value| http::request(app.addr(), "POST", "/graphql", &headers, body.to_string().as_bytes()).await;
    let unknown = send(&body).await;
    assert_eq!(unknown.json()["errors"][0]["extensions"]["code"], "PERSISTED_QUERY_NOT_FOUND");
    body["query"] = json!(REFRESH);
    let refreshed = send(&body).await.json();
    assert!(refreshed["data"]["refreshToken"]["accessToken"].is_string(), "{refreshed}");
    app.stop().await;
}
