//! Tokens of external issuers on the whole server: which account they belong to, what revokes them, and how the issuer's
//! keys are fetched.

#![expect(clippy::unwrap_used, reason = "an issuer that can't be set up fails its test")]

mod keys;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use chrono::TimeDelta;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::support::app::TestApp;
use super::support::unique;
use super::support::user::User;
use super::support::ws::{Frame, Socket};

const ME: &str = "{ me { id } }";
const REFUSED: &str = "invalid or expired access token";
const ISSUER: &str = "https://id.test.example/";

/// An issuer's signing key.
#[derive(Clone)]
struct Signer {
    kid: &'static str,
    key: EncodingKey,
}

impl Signer {
    fn new(kid: &'static str) -> Self {
        let made = Command::new("openssl").args(["genpkey", "-algorithm", "ed25519"]).output().unwrap();
        Self { kid, key: EncodingKey::from_ed_pem(&made.stdout).unwrap() }
    }

    fn jwk(&self) -> Value {
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&self.key, Algorithm::EdDSA).unwrap()).unwrap();
        jwk["kid"] = json!(self.kid);
        jwk
    }

    /// A token for this subject, with more claims.
    fn token(&self, app: &TestApp, subject: &str, life: i64, more: &Value) -> String {
        let now = app.clock().now().timestamp();
        let mut claims = json!({"iss": ISSUER, "aud": "home", "sub": subject, "iat": now, "exp": now + life});
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let header = Header { kid: Some(self.kid.to_owned()), ..Header::new(Algorithm::EdDSA) };
        jsonwebtoken::encode(&header, &claims, &self.key).unwrap()
    }
}

fn set(signers: &[&Signer]) -> String {
    json!({"keys": signers.iter().map(|signer| signer.jwk()).collect::<Vec<_>>()}).to_string()
}

fn email(user: &User, verified: bool) -> Value {
    json!({"email": user.email.to_uppercase(), "email_verified": verified})
}

/// A temporary folder.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(unique("smarthome-issuer"));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server that trusts this signer's keys from a file.
async fn by_file(signer: &Signer) -> (TestApp, Folder) {
    by_file_with(signer, &[]).await
}

/// The same with more settings.
async fn by_file_with(signer: &Signer, settings: &[(&str, &str)]) -> (TestApp, Folder) {
    let folder = Folder::new();
    let file = folder.file("jwks.json");
    std::fs::write(&file, set(&[signer])).unwrap();
    let issuers = json!([{"issuer": ISSUER, "audience": "home", "jwks": file}]).to_string();
    let builder = TestApp::builder().set("JWT_TRUSTED_ISSUERS", issuers);
    let builder = settings.iter().fold(builder, |builder, (name, value)| builder.set(name, *value));
    (builder.start().await, folder)
}

/// The account of a token, or the error message.
async fn whose(app: &TestApp, token: &str) -> Result<String, String> {
    let answer = User::with_token(app.addr(), token).post(ME, json!({})).await;
    let body = answer.json();
    match body["data"]["me"]["id"].as_str() {
        Some(id) => Ok(id.to_owned()),
        None => {
            assert_eq!((answer.status, &body["errors"][0]["extensions"]["code"]), (401, &json!("UNAUTHENTICATED")));
            Err(body["errors"][0]["message"].as_str().unwrap().to_owned())
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verified_address_links_once_and_then_the_subject_decides() {
    let signer = Signer::new("k");
    let (app, _folder) = by_file(&signer).await;
    let (ann, bob) = (app.user().await, app.user().await);
    let refused = Err(REFUSED.to_owned());
    let token = |subject: &str, more: &Value| signer.token(&app, subject, 600, more);
    // No account yet: the token can't be linked.
    assert_eq!(whose(&app, &token("a", &json!({}))).await, refused);
    assert_eq!(whose(&app, &token("a", &email(&ann, false))).await, refused);
    let quoted = json!({"email": ann.email, "email_verified": "true"});
    assert_eq!(whose(&app, &token("a", &quoted)).await, refused);
    let unknown = json!({"email": "nobody@test.example", "email_verified": true});
    assert_eq!(whose(&app, &token("a", &unknown)).await, refused);
    // Linked by many requests at once, but only once.
    let tokens: Vec<_> = (0..8).map(|_| token("a", &email(&ann, true))).collect();
    let all = futures_util::future::join_all(tokens.iter().map(|token| whose(&app, token))).await;
    assert!(all.iter().all(|id| *id == Ok(ann.id.clone())), "{all:?}");
    assert_eq!(whose(&app, &token("a", &json!({}))).await, Ok(ann.id.clone()));
    assert_eq!(whose(&app, &token("a", &email(&bob, true))).await, Ok(ann.id.clone()), "the address is bob's now");
    assert_eq!(whose(&app, &token("b", &email(&bob, true))).await, Ok(bob.id.clone()));
    let database = app.database().client().await;
    let count = async |sql: &str| database.query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
    assert_eq!(count("select count(*) from external_identities").await, 2);
    assert_eq!(count("select count(*) from users").await, 2, "no account is made");
    // Our own tokens still work.
    assert_eq!(whose(&app, ann.token().unwrap()).await, Ok(ann.id.clone()));
    // Linked by hand, then unlinked.
    let users = &app.app().services().users;
    users.link(&bob.email, ISSUER, "c").await.unwrap();
    assert_eq!(whose(&app, &token("c", &email(&ann, true))).await, Ok(bob.id.clone()));
    assert_eq!(users.link(&ann.email, ISSUER, "c").await.unwrap_err().code(), "CONFLICT");
    users.unlink(ISSUER, "c").await.unwrap();
    assert_eq!(whose(&app, &token("c", &json!({}))).await, refused);
    // Deleting the user deletes the link.
    database.execute("delete from users where id = $1", &[&bob.id.parse::<i64>().unwrap()]).await.unwrap();
    assert_eq!(whose(&app, &token("b", &json!({}))).await, refused);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_its_account_did_not_prove_links_nothing() {
    let signer = Signer::new("k");
    let mail = [("SMTP_URL", "smtp://127.0.0.1:9"), ("SMTP_FROM", "a@test.example")];
    let (app, _folder) = by_file_with(&signer, &mail).await;
    // Who registered it knows the password, and need not be the one whom the issuer knows.
    let ann = app.user().await;
    let token = signer.token(&app, "1", 600, &email(&ann, true));
    assert_eq!(whose(&app, &token).await, Err(REFUSED.to_owned()));
    let sql = app.database().client().await;
    sql.batch_execute("update users set email_verified = true").await.unwrap();
    assert_eq!(whose(&app, &token).await, Ok(ann.id.clone()));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_given_to_another_subject_opens_no_account() {
    let signer = Signer::new("k");
    let (app, _folder) = by_file(&signer).await;
    let (ann, bob) = (app.user().await, app.user().await);
    let refused = Err(REFUSED.to_owned());
    let by_email = |subject: &str, user: &User| signer.token(&app, subject, 600, &email(user, true));
    assert_eq!(whose(&app, &by_email("1", &ann)).await, Ok(ann.id.clone()));
    // The issuer gives ann's address to a new hire: another subject.
    assert_eq!(whose(&app, &by_email("2", &ann)).await, refused);
    assert_eq!(whose(&app, &by_email("1", &ann)).await, Ok(ann.id.clone()));
    // Of several subjects with one address at once, one is linked.
    let tokens: Vec<_> = (10..18).map(|subject| by_email(&subject.to_string(), &bob)).collect();
    let all = futures_util::future::join_all(tokens.iter().map(|token| whose(&app, token))).await;
    assert_eq!(all.iter().filter(|id| **id == Ok(bob.id.clone())).count(), 1, "{all:?}");
    assert_eq!(all.iter().filter(|id| **id == refused).count(), 7, "{all:?}");
    // An operator may link a second one.
    app.app().services().users.link(&ann.email, ISSUER, "2").await.unwrap();
    assert_eq!(whose(&app, &by_email("2", &ann)).await, Ok(ann.id.clone()));
    app.stop().await;
}

/// A user who took the address of a colleague before the colleague's first token would share the account with them.
#[tokio::test(flavor = "multi_thread")]
async fn no_user_takes_an_address_that_an_issuer_verifies() {
    let signer = Signer::new("k");
    let folder = Folder::new();
    std::fs::write(folder.file("jwks.json"), set(&[&signer])).unwrap();
    let mut issuer = json!({"issuer": ISSUER, "audience": "home", "jwks": folder.file("jwks.json")});
    issuer["emailDomains"] = json!(["Company.example"]);
    let app = TestApp::builder().set("JWT_TRUSTED_ISSUERS", json!([issuer]).to_string()).start().await;
    let ann = app.user().await;
    let change = "mutation($e: String!, $p: String!) { updateMe(input: {email: $e, currentPassword: $p}) { email } }";
    let colleague = json!({"e": "boss@company.example", "p": ann.password});
    assert_eq!(ann.error_code(change, colleague).await, "FORBIDDEN");
    let users = &app.app().services().users;
    users.set_email(&ann.email, "boss@company.example").await.unwrap();
    assert_eq!(ann.error_code(ME, json!({})).await, "UNAUTHENTICATED", "an operator may, and ends the sessions");
    users.set_email("boss@company.example", &ann.email).await.unwrap();
    let ann = ann.signed_in_again().await;
    assert_eq!(users.set_email(&ann.email, &app.user().await.email).await.unwrap_err().code(), "CONFLICT");
    let private = format!("{}@private.example", unique("ann"));
    assert_eq!(ann.query(change, json!({"e": private, "p": ann.password})).await["updateMe"]["email"], json!(private));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unlinked_subject_is_not_linked_by_e_mail_again() {
    let signer = Signer::new("k");
    let (app, _folder) = by_file(&signer).await;
    let (ann, bob) = (app.user().await, app.user().await);
    let refused = Err(REFUSED.to_owned());
    let users = &app.app().services().users;
    let token = signer.token(&app, "a", 600, &email(&ann, true));
    assert_eq!(whose(&app, &token).await, Ok(ann.id.clone()));
    users.unlink(ISSUER, "a").await.unwrap();
    let fresh = signer.token(&app, "a", 600, &email(&ann, true));
    for token in [&token, &fresh, &signer.token(&app, "a", 600, &email(&bob, true))] {
        assert_eq!(whose(&app, token).await, refused);
    }
    assert_eq!(users.unlink(ISSUER, "a").await.unwrap_err().code(), "NOT_FOUND");
    users.link(&bob.email, ISSUER, "a").await.unwrap();
    assert_eq!(whose(&app, &fresh).await, Ok(bob.id));
    // Another subject of the issuer can be linked to the account.
    let next = signer.token(&app, "b", 600, &email(&ann, true));
    app.clock().advance(TimeDelta::seconds(31));
    assert_eq!(whose(&app, &signer.token(&app, "b", 600, &email(&ann, true))).await, Ok(ann.id.clone()));
    assert_eq!(whose(&app, &next).await, refused, "made before the unlinking, for all one knows");
    app.stop().await;
}

/// The code and reason of a close within a second.
async fn closed(socket: &mut Socket) -> (u16, String) {
    match timeout(Duration::from_secs(1), socket.next()).await.expect("it closes within a second") {
        Frame::Closed(code, reason) => (code, reason),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_closes_when_its_token_expires_and_when_the_password_changes() {
    let signer = Signer::new("k");
    let (app, _folder) = by_file(&signer).await;
    let ann = app.user().await;
    let open = async |token: &str| Socket::signed_in(app.addr(), Some(token)).await;
    let mut short = open(&signer.token(&app, "a", 60, &email(&ann, true))).await;
    let mut renewed = open(&signer.token(&app, "a", 60, &json!({}))).await;
    let fresh = signer.token(&app, "a", 600, &json!({}));
    let ping = |token: &str| json!({"type": "ping", "payload": {"Authorization": format!("Bearer {token}")}});
    renewed.send(&ping(&fresh)).await;
    assert_eq!(renewed.next().await, Frame::Json(json!({"type": "pong"})));
    app.clock().advance(TimeDelta::seconds(61));
    // The clock was set, which a socket notices within seconds.
    assert_eq!(short.next().await, Frame::Closed(4403, "Forbidden: the access token has expired".to_owned()));
    renewed.send(&json!({"type": "ping"})).await;
    assert_eq!(renewed.next().await, Frame::Json(json!({"type": "pong"})), "its fresh token holds");
    // A token of another user does not keep it open.
    let mut another = open(&fresh).await;
    another.send(&ping(ann.token().unwrap())).await;
    assert_eq!(closed(&mut another).await.0, 4403);

    app.clock().advance(TimeDelta::seconds(2));
    let change = "mutation($c: String!, $n: String!) { changePassword(input: {currentPassword: $c, newPassword: $n}) }";
    let by_external = User::with_token(app.addr(), &fresh);
    by_external.query(change, json!({"c": ann.password, "n": "another passphrase, longer still"})).await;
    assert_eq!(closed(&mut renewed).await, (4403, "Forbidden: the session has ended".to_owned()));
    assert_eq!(whose(&app, &fresh).await, Err(REFUSED.to_owned()));
    // The issuer's clock may be ahead: a token dated just after the change may have been issued before it.
    let ahead = signer.token(&app, "a", 600, &json!({"iat": app.clock().now().timestamp() + 29}));
    assert_eq!(whose(&app, &ahead).await, Err(REFUSED.to_owned()));
    app.clock().advance(TimeDelta::seconds(31));
    assert_eq!(whose(&app, &signer.token(&app, "a", 600, &json!({}))).await, Ok(ann.id), "one made since");
    app.stop().await;
}
