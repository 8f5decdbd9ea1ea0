//! E-mail addresses that their users have to prove, and notices of changes, through a real mail server.

use chrono::TimeDelta;
use serde_json::{Value, json};

use super::support::app::TestApp;
use super::support::mail::MailServer;
use super::support::unique;
use super::support::user::User;

const LINK: &str = "https://app.test.example/verify?token={token}";
const VERIFIED: &str = "{ me { emailVerified } }";
const REQUEST: &str = "mutation { requestEmailVerification }";
const VERIFY: &str = "mutation($t: String!) { verifyEmail(token: $t) }";
const CREATE_HOME: &str = "mutation { createHome(input: {name: \"Home\"}) { id } }";
const ACCEPT: &str = "mutation($t: String!) { acceptInvitation(token: $t) { myRole } }";
const UPDATE: &str = "mutation($i: UpdateMeInput!) { updateMe(input: $i) { email emailVerified } }";
const CHANGE_PASSWORD: &str = "mutation($i: ChangePasswordInput!) { changePassword(input: $i) }";
const NEW_PASSWORD: &str = "another passphrase, longer still";

async fn is_verified(user: &User) -> bool {
    user.query(VERIFIED, json!({})).await["me"]["emailVerified"].as_bool().expect("a boolean")
}

/// Code and field of a refusal.
async fn refusal(user: &User, query: &str, variables: Value) -> Value {
    user.post(query, variables).await.json()["errors"][0]["extensions"].clone()
}

async fn verify(app: &TestApp, token: &str) {
    assert_eq!(app.stranger().query(VERIFY, json!({"t": token})).await["verifyEmail"], true);
}

async fn assert_invalid(app: &TestApp, token: &str) {
    let refused = refusal(&app.stranger(), VERIFY, json!({"t": token})).await;
    assert_eq!(refused, json!({"code": "BAD_USER_INPUT", "field": "token"}));
}

fn new_email() -> String {
    format!("{}@test.example", unique("new"))
}

/// An account that an operator made, signed in: its address counts as verified.
async fn made_by_operator(app: &TestApp) -> User {
    let (email, password) = (new_email(), NEW_PASSWORD.to_owned());
    let user = app.app().services().users.create(&email, &password, "Landlord").await.expect("an account");
    let mut signed_out = app.stranger();
    (signed_out.email, signed_out.password, signed_out.id) = (email, password, user.id.to_string());
    signed_out.signed_in_again().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_gets_no_home_before_its_address_is_verified() {
    let mut server = MailServer::start().await;
    let app = server.app().set("EMAIL_VERIFICATION_URL", LINK).start().await;
    let owner = made_by_operator(&app).await;
    assert!(is_verified(&owner).await);
    let ann = app.user().await;
    let mail = server.mail().await;
    assert_eq!((&mail["to"], &mail["encrypted"]), (&json!([ann.email]), &json!(true)));
    assert_eq!(mail["subject"], "Verify your e-mail address");
    let text = mail["text"].as_str().expect("text");
    let (_, rest) = text.split_once(LINK.trim_end_matches("{token}")).unwrap_or_else(|| panic!("{text}"));
    let token = rest.split_whitespace().next().expect("a token");
    assert!(token.starts_with("ev_") && token.len() == "ev_".len() + 43, "256 bits");
    assert!(!format!("{:?}", app.database().rows().await).contains(token), "the token is not stored");

    assert!(!is_verified(&ann).await);
    let home = owner.query(CREATE_HOME, json!({})).await["createHome"]["id"].clone();
    let invite = "mutation($h: ID!, $e: String!) { inviteMember(input: {homeId: $h, email: $e}) { token } }";
    let invitation = owner.query(invite, json!({"h": home, "e": ann.email})).await["inviteMember"]["token"].take();
    let forbidden = json!({"code": "FORBIDDEN"});
    assert_eq!(refusal(&ann, CREATE_HOME, json!({})).await, forbidden);
    for token in [&invitation, &json!("inv_wrong")] {
        assert_eq!(refusal(&ann, ACCEPT, json!({"t": token})).await, forbidden, "{token}");
    }

    verify(&app, token).await;
    assert_invalid(&app, token).await;
    assert!(is_verified(&ann).await);
    assert_eq!(ann.query(ACCEPT, json!({"t": invitation})).await["acceptInvitation"]["myRole"], "MEMBER");
    ann.query(CREATE_HOME, json!({})).await;
    let members = "query($h: ID!) { home(id: $h) { members { user { emailVerified } } } }";
    let members = owner.query(members, json!({"h": home})).await["home"]["members"].take();
    assert_eq!(members, json!([{"user": {"emailVerified": true}}, {"user": {"emailVerified": true}}]));
    // A verified address needs no mail: the next one is bob's.
    ann.query(REQUEST, json!({})).await;
    let bob = app.user().await;
    server.token(&bob.email, "ev_").await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_address_is_verified_anew_and_the_old_one_gets_a_notice() {
    let mut server = MailServer::start().await;
    let app = server.app().start().await;
    let ann = app.user().await;
    let first = server.token(&ann.email, "ev_").await;
    ann.query(REQUEST, json!({})).await;
    let second = server.token(&ann.email, "ev_").await;
    verify(&app, &second).await;
    ann.query(CREATE_HOME, json!({})).await;

    let email = new_email();
    let change = json!({"i": {"email": email, "currentPassword": ann.password}});
    let changed = ann.query(UPDATE, change).await["updateMe"].take();
    assert_eq!(changed, json!({"email": email, "emailVerified": false}));
    let mut mails = [server.mail().await, server.mail().await];
    mails.sort_by_key(|mail| mail["subject"].to_string());
    let [verification, notice] = &mails;
    assert_eq!((&notice["to"], &notice["subject"]), (&json!([ann.email]), &json!("Your e-mail address was changed")));
    let text = notice["text"].as_str().expect("text");
    assert!(!text.contains("ev_") && !text.contains(&email) && !text.contains(&ann.password), "{text}");
    assert_eq!(verification["to"], json!([email]));

    // A token for the old address proves nothing of the new one. What the account has, it keeps.
    assert_invalid(&app, &first).await;
    assert!(!is_verified(&ann).await);
    assert_eq!(refusal(&ann, CREATE_HOME, json!({})).await, json!({"code": "FORBIDDEN"}));
    assert_eq!(ann.query("{ homes { name } }", json!({})).await["homes"], json!([{"name": "Home"}]));
    let text = verification["text"].as_str().expect("text");
    let third = text.split_whitespace().find(|word| word.starts_with("ev_")).expect("a token");
    verify(&app, third).await;
    assert!(is_verified(&ann).await);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_sends_at_most_five_mails_a_day_and_a_token_ends_with_its_day() {
    let mut server = MailServer::start().await;
    let app = server.app().start().await;
    let mut ann = app.user().await;
    server.token(&ann.email, "ev_").await;
    for _ in 0..4 {
        ann.query(REQUEST, json!({})).await;
        server.token(&ann.email, "ev_").await;
    }
    // Another address does not give more: it gets none of the mails.
    ann.query(REQUEST, json!({})).await;
    let email = new_email();
    ann.query(UPDATE, json!({"i": {"email": email, "currentPassword": ann.password}})).await;
    let notice = server.mail().await;
    assert_eq!((&notice["to"], &notice["subject"]), (&json!([ann.email]), &json!("Your e-mail address was changed")));
    ann.query(REQUEST, json!({})).await;
    let bob = app.user().await;
    let of_bob = server.token(&bob.email, "ev_").await;

    app.clock().advance(TimeDelta::hours(25));
    assert_invalid(&app, &of_bob).await;
    app.app().services().users.delete_expired_tokens().await.expect("deleted");
    assert_eq!(app.database().rows().await["account_tokens"], Vec::<String>::new());
    ann.email.clone_from(&email);
    let ann = ann.signed_in_again().await;
    ann.query(REQUEST, json!({})).await;
    verify(&app, &server.token(&email, "ev_").await).await;
    assert!(is_verified(&ann).await);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_password_is_told_to_the_address() {
    let mut server = MailServer::start().await;
    let app = server.app().start().await;
    let ann = app.user().await;
    server.token(&ann.email, "ev_").await;
    let changed = json!({"i": {"currentPassword": ann.password, "newPassword": NEW_PASSWORD}});
    ann.query(CHANGE_PASSWORD, changed).await;
    let told = async |server: &mut MailServer| {
        let mail = server.mail().await;
        assert_eq!((&mail["to"], &mail["subject"]), (&json!([ann.email]), &json!("Your password was changed")));
        let text = mail["text"].as_str().expect("text");
        assert!(!text.contains(NEW_PASSWORD) && !text.contains(&ann.password) && !text.contains("pw_"), "{text}");
    };
    told(&mut server).await;

    // A token that came to the address proves the address too.
    app.stranger().query("mutation($e: String!) { requestPasswordReset(email: $e) }", json!({"e": ann.email})).await;
    let token = server.token(&ann.email, "pw_").await;
    let reset = "mutation($t: String!, $p: String!) { resetPassword(input: {token: $t, newPassword: $p}) }";
    app.stranger().query(reset, json!({"t": token, "p": ann.password})).await;
    told(&mut server).await;
    assert!(is_verified(&ann.signed_in_again().await).await);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_demand_it_asks_for_no_proof() {
    let mut server = MailServer::start().await;
    let app = server.app().set("EMAIL_VERIFICATION", "off").start().await;
    let ann = app.user().await;
    assert!(is_verified(&ann).await);
    ann.query(CREATE_HOME, json!({})).await;
    ann.query(REQUEST, json!({})).await;
    let change = json!({"i": {"email": new_email(), "currentPassword": ann.password}});
    assert_eq!(ann.query(UPDATE, change).await["updateMe"]["emailVerified"], true);
    // The first mail at all.
    assert_eq!(server.mail().await["subject"], "Your e-mail address was changed");
    app.stop().await;

    let app = TestApp::start().await;
    let ann = app.user().await;
    assert!(is_verified(&ann).await);
    ann.query(CREATE_HOME, json!({})).await;
    // The operator's server demanded it once.
    let sql = app.database().client().await;
    sql.batch_execute("update users set email_verified = false").await.expect("changed");
    assert!(is_verified(&ann).await);
    ann.query(CREATE_HOME, json!({})).await;
    assert_eq!(refusal(&ann, REQUEST, json!({})).await, json!({"code": "FORBIDDEN"}));
    app.stop().await;
}
