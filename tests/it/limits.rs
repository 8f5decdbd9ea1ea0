//! Rate limits: a client with too many attempts has to wait, and the response says how long.

#![expect(clippy::unwrap_used, reason = "a failed request fails the test")]

use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{FutureExt, StreamExt};
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
async fn failed_logins_delay_further_ones_whether_or_not_the_account_exists() {
    let app = TestApp::builder().set("RATE_LIMITS", "on").start().await;
    let user = app.user().await;
    // The existing account comes last, because its wait of one second is checked again below.
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
    // The right password must wait too. Otherwise the wait would distinguish it from wrong ones.
    let right = json!({"e": user.email, "p": user.password});
    assert_eq!(app.stranger().error_code(LOGIN, right).await, "RATE_LIMITED");
    // Existing sessions are not affected.
    user.query("{ me { id } }", json!({})).await;
}

/// The code of the error of a sign-in, or `OK`.
fn outcome(signed_in: &Result<Session, Error>) -> &'static str {
    signed_in.as_ref().err().map_or("OK", Error::code)
}

fn address(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_guesses_are_limited_like_sequential_ones() {
    let app = TestApp::builder().set("RATE_LIMITS", "on").start().await;
    let user = app.user().await;
    let users = &app.app().services().users;
    for (email, from) in [(user.email.as_str(), "192.0.2.1"), ("nobody@test.example", "192.0.2.2")] {
        let guesses = (0..20).map(|_| users.login(email, "a wrong guess", address(from)));
        let outcomes: Vec<_> = join_all(guesses).await.iter().map(outcome).collect();
        let n = |code: &str| outcomes.iter().filter(|outcome| **outcome == code).count();
        assert_eq!((n("UNAUTHENTICATED"), n("RATE_LIMITED")), (5, 15), "{email}: {outcomes:?}");
    }
    // A right password counts as a failure only until it is verified.
    for _ in 0..3 {
        let right = (0..5).map(|_| users.login(&user.email, &user.password, address("192.0.2.3")));
        assert!(join_all(right).await.iter().all(Result::is_ok));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_from_other_networks_do_not_lock_a_user_out_of_a_known_network() {
    let app = TestApp::builder().set("RATE_LIMITS", "on").start().await;
    // From 127.0.0.1, and from another network.
    let user = app.user().await;
    let users = &app.app().services().users;
    users.login(&user.email, &user.password, address("2001:db8::1")).await.unwrap();
    for email in ["nobody@test.example", user.email.as_str()] {
        for n in 0..50 {
            // A guess counts even if the client does not wait for the response.
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
async fn guesses_in_one_session_do_not_delay_another_session() {
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
async fn password_changes_are_limited_per_user_and_per_address() {
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
    // One document may contain only one change.
    let input = "(input: {currentPassword: \"x\", newPassword: \"y\"})";
    let twice = format!("mutation {{ a: changePassword{input} b: changePassword{input} }}");
    let answer = bob.post(&twice, json!({})).await.json();
    let message = answer["errors"][0]["message"].as_str().unwrap();
    assert!(message.ends_with("only once"), "{answer}");
}

/// Whether a request is refused after its address has used up its rate limit. The limit refills by one request in 5 ms,
/// so several attempts may be necessary.
async fn is_limited(edge: &Edge, attempt: impl AsyncFn(&dyn Fn()) -> bool) -> bool {
    let spend = || while edge.throttle.address_request(Some(edge.addr.ip())).is_ok() {};
    for _ in 0..100 {
        if attempt(&spend).await {
            return true;
        }
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_with_an_invalid_token_count_for_their_address() {
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
async fn attempts_are_limited_per_address_and_requests_per_user() {
    let app = TestApp::builder().set("RATE_LIMITS", "on").start().await;
    let user = app.user().await;
    // Every machine sends more than the one attempt per second by which the limit refills.
    let mut n_judged = 0;
    let refused = loop {
        match app.stranger().error_code(REFRESH, json!({})).await {
            code if code == "UNAUTHENTICATED" => n_judged += 1,
            code => break code,
        }
    };
    assert_eq!(refused, "RATE_LIMITED");
    // The registration of the user is an attempt too.
    assert!(n_judged >= 59, "{n_judged} attempts were judged");
    // Every machine sends more than the 50 requests per second by which the limit refills.
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
async fn a_symmetric_key_is_not_published() {
    let app = TestApp::start().await;
    let answer = http::get(app.addr(), "/.well-known/jwks.json").await;
    assert_eq!((answer.status, answer.json()), (200, json!({"keys": []})));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guesser_on_the_same_network_does_not_lock_out_a_user_who_signed_in_there() {
    let app = TestApp::builder().set("RATE_LIMITS", "on").start().await;
    // From 127.0.0.1.
    let user = app.user().await;
    let users = &app.app().services().users;
    let n_guesses = std::sync::atomic::AtomicU32::new(0);
    let guess = async |from: &str| {
        let n = n_guesses.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        outcome(&users.login(&user.email, &format!("a wrong guess {n}"), address(from)).await)
    };
    for from in ["127.0.0.1", "192.0.2.1"] {
        for _ in 0..5 {
            assert_eq!(guess(from).await, "UNAUTHENTICATED", "from {from}");
        }
    }
    // While the guesser takes every turn, the same password gets its turn after a few refusals. It may come earlier on a
    // machine so slow that a delay ends in between.
    let mut outcomes = Vec::new();
    while outcomes.last() != Some(&"OK") && outcomes.len() < 10 {
        while guess("127.0.0.1").await != "RATE_LIMITED" {}
        outcomes.push(outcome(&users.login(&user.email, &user.password, address("127.0.0.1")).await));
    }
    assert!(outcomes.len() <= 3 && outcomes.ends_with(&["OK"]), "{outcomes:?}");
    // Where the user never signed in, and for a wrong password, every answer is the same.
    for (password, from) in [(user.password.as_str(), "192.0.2.1"), ("still a wrong guess", "127.0.0.1")] {
        for _ in 0..5 {
            while guess(from).await != "RATE_LIMITED" {}
            assert_eq!(outcome(&users.login(&user.email, password, address(from)).await), "RATE_LIMITED");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_from_many_addresses_do_not_keep_out_users_on_known_networks() {
    let app = TestApp::builder().set("RATE_LIMITS", "on").start().await;
    // From 127.0.0.1.
    let user = app.user().await;
    let users = &app.app().services().users;
    // As many guesses as can wait for the hasher, all the time, each from another network.
    let guesses = (0_u32..).map(|n| {
        let from = Some(IpAddr::from(std::net::Ipv4Addr::from(0x0a00_0000 + n)));
        async move { users.login(&format!("account{n}@test.example"), "a wrong guess", from).await.map(drop) }
    });
    let mut guesses = futures_util::stream::iter(guesses).buffer_unordered(66);
    let sign_in = async {
        for _ in 0..20 {
            let signed_in = users.login(&user.email, &user.password, address("127.0.0.1")).await;
            assert_eq!(outcome(&signed_in), "OK");
        }
    };
    let mut sign_in = std::pin::pin!(sign_in);
    let mut n_judged = 0;
    loop {
        tokio::select! {
            guess = guesses.next() => n_judged += u32::from(guess.unwrap().unwrap_err().code() == "UNAUTHENTICATED"),
            // The first ones end when the hasher is full.
            () = &mut sign_in, if n_judged > 0 => break,
        }
    }
}
