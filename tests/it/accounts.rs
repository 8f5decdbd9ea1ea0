//! The caller's own account: changing it, and deleting it.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what is missing fails the test")]

use serde_json::{Value, json};

use super::support::app::TestApp;
use super::support::unique;
use super::support::user::User;
use super::support::ws::Frame;

const LOGIN: &str = "mutation($e: String!, $p: String!) { login(input: {email: $e, password: $p}) { user { id } } }";
const UPDATE: &str = "mutation($i: UpdateMeInput!) { updateMe(input: $i) { id name email } }";
const STATUS: &str = "subscription($h: ID!) { deviceStatus(homeId: $h) { id } }";

/// Code and field of an operation that is refused.
async fn refusal(user: &User, query: &str, variables: Value) -> (String, Value) {
    let answer = user.post(query, variables).await.json();
    let extensions = &answer["errors"][0]["extensions"];
    (extensions["code"].as_str().unwrap_or_else(|| panic!("{query}: {answer}")).to_owned(), extensions["field"].clone())
}

fn bad(field: &str) -> (String, Value) {
    ("BAD_USER_INPUT".to_owned(), json!(field))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_name_ends_nothing_and_a_new_address_ends_all_other_sessions() {
    let app = TestApp::start().await;
    let (home, ann) = app.home().await;
    let tablet = ann.signed_in_again().await;
    let mut stream = tablet.subscribe(STATUS, json!({"h": home.id})).await;
    let renamed = ann.query(UPDATE, json!({"i": {"name": "  Ann Lee "}})).await["updateMe"].take();
    assert_eq!(renamed, json!({"id": ann.id, "name": "Ann Lee", "email": ann.email}));
    // The same address in another spelling is no change.
    ann.query(UPDATE, json!({"i": {"email": ann.email.to_uppercase()}})).await;
    assert_eq!(tablet.query("{ me { name } }", json!({})).await["me"]["name"], "Ann Lee");

    let email = format!("{}@test.example", unique("new"));
    let change = json!({"i": {"email": email.to_uppercase(), "currentPassword": ann.password}});
    assert_eq!(ann.query(UPDATE, change).await["updateMe"]["email"], json!(email));
    loop {
        match stream.frame().await {
            Frame::Closed(4403, _) => break,
            Frame::Json(message) if message["type"] == "next" => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(tablet.error_code("{ me { id } }", json!({})).await, "UNAUTHENTICATED");
    assert_eq!(ann.query("{ me { email } }", json!({})).await["me"]["email"], json!(email));
    let login = async |email: &str| app.stranger().post(LOGIN, json!({"e": email, "p": ann.password})).await.json();
    assert_eq!(login(&email).await["data"]["login"]["user"]["id"], json!(ann.id));
    assert_eq!(login(&ann.email).await["errors"][0]["extensions"]["reason"], "INVALID_CREDENTIALS");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_account_that_is_refused_changes_nothing() {
    let app = TestApp::start().await;
    let (ann, bob) = (app.user().await, app.user().await);
    let email = format!("{}@test.example", unique("new"));
    let refused = async |input: Value| refusal(&ann, UPDATE, json!({"i": input})).await;
    assert_eq!(refused(json!({"name": "Eve", "email": email})).await, bad("currentPassword"));
    let wrong = json!({"name": "Eve", "email": email, "currentPassword": "wrong"});
    assert_eq!(refused(wrong).await, bad("currentPassword"));
    let taken = json!({"name": "Eve", "email": bob.email, "currentPassword": ann.password});
    assert_eq!(refused(taken).await.0, "CONFLICT");
    let malformed = json!({"name": "Eve", "email": "no address", "currentPassword": ann.password});
    assert_eq!(refused(malformed).await, bad("email"));
    for (name, field) in [(json!(""), "name"), (json!(null), "name"), (json!("x".repeat(101)), "name")] {
        assert_eq!(refused(json!({"name": name})).await, bad(field));
    }
    assert_eq!(refused(json!({"email": null})).await, bad("email"));
    assert_eq!(app.stranger().error_code(UPDATE, json!({"i": {"name": "x"}})).await, "UNAUTHENTICATED");
    let me = ann.query("{ me { name email } }", json!({})).await["me"].take();
    assert_eq!(me, json!({"name": "Test", "email": ann.email}));
    app.stop().await;
}

/// Otherwise a user could try the passwords of an open session faster than at `login`, or search for accounts.
#[tokio::test(flavor = "multi_thread")]
async fn changes_of_an_account_are_limited_as_changes_of_a_password_are() {
    let app = TestApp::builder().set("RATE_LIMITS", "on").start().await;
    let ann = app.user().await;
    let mut codes = Vec::new();
    for n in 0..6 {
        let email = format!("{}{n}@test.example", unique("new"));
        codes.push(refusal(&ann, UPDATE, json!({"i": {"email": email, "currentPassword": "wrong"}})).await.0);
    }
    assert_eq!(codes[..5], ["BAD_USER_INPUT"; 5]);
    assert_eq!(codes[5], "RATE_LIMITED");
    let bob = app.user().await;
    let mut n_renamed = 0;
    while bob.post(UPDATE, json!({"i": {"name": "Bob"}})).await.json()["errors"].is_null() {
        n_renamed += 1;
        assert!(n_renamed < 20, "no limit");
    }
    assert!(n_renamed >= 10);
    app.stop().await;
}
