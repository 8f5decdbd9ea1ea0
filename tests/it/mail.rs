//! New passwords by mail, through a real mail server with STARTTLS and a password (`tests/python/smtp_server.py`).

use chrono::TimeDelta;
use serde_json::{Value, json};
use smarthome::metrics::Reason;

use super::support::app::TestApp;
use super::support::mail::MailServer;
use super::support::user::User;
use super::support::ws::Frame;
use super::support::{eventually, soon, unique};

const REQUEST: &str = "mutation($e: String!) { requestPasswordReset(email: $e) }";
const RESET: &str = "mutation($t: String!, $p: String!) { resetPassword(input: {token: $t, newPassword: $p}) }";
const LOGIN: &str = "mutation($e: String!, $p: String!) { login(input: {email: $e, password: $p}) { user { id } } }";
const LINK: &str = "https://app.test.example/new-password?token={token}";
const NEW_PASSWORD: &str = "another passphrase, longer still";

/// Code and field of an operation that is refused.
async fn refusal(app: &TestApp, query: &str, variables: Value) -> (String, Value) {
    let answer = app.stranger().post(query, variables).await.json();
    let extensions = &answer["errors"][0]["extensions"];
    (extensions["code"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned(), extensions["field"].clone())
}

fn invalid_token() -> (String, Value) {
    ("BAD_USER_INPUT".to_owned(), json!("token"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forgotten_password_is_replaced_by_mail() {
    let mut server = MailServer::start().await;
    let app = server.app().set("EMAIL_VERIFICATION", "off").set("PASSWORD_RESET_URL", LINK).start().await;
    let (home, ann) = app.home().await;
    let status = "subscription($h: ID!) { deviceStatus(homeId: $h) { id } }";
    let mut stream = ann.subscribe(status, json!({"h": home.id})).await;
    // Nobody can tell whether an address has an account.
    for email in ["nobody@test.example", &ann.email.to_uppercase()] {
        let answer = app.stranger().post(REQUEST, json!({"e": email})).await.json();
        assert_eq!(answer, json!({"data": {"requestPasswordReset": true}}));
    }
    let mail = server.mail().await;
    assert_eq!((&mail["to"], &mail["encrypted"]), (&json!([ann.email]), &json!(true)));
    assert_eq!(
        (&mail["from"], &mail["subject"]),
        (&json!("\"Smart home\" <home@test.example>"), &json!("Set a new password"))
    );
    let text = mail["text"].as_str().unwrap();
    let (_, rest) = text.split_once(LINK.strip_suffix("{token}").unwrap()).unwrap_or_else(|| panic!("{text}"));
    let token = rest.split_whitespace().next().unwrap();
    assert_eq!(token.len(), "pw_".len() + 43, "256 bits");
    let database = format!("{:?}", app.database().rows().await);
    assert!(!database.contains(token), "the token is not stored");

    // A refused password does not use the token up.
    let weak = refusal(&app, RESET, json!({"t": token, "p": "short"})).await;
    assert_eq!(weak, ("BAD_USER_INPUT".to_owned(), json!("newPassword")));
    // An expired access token in the header does no harm.
    let reset = json!({"t": token, "p": NEW_PASSWORD});
    let old_client = User::with_token(app.addr(), "expired");
    assert_eq!(old_client.query(RESET, reset.clone()).await["resetPassword"], true);
    while !matches!(soon("the end of the socket", stream.frame()).await, Frame::Closed(4403, _)) {}
    assert_eq!(ann.error_code("{ me { id } }", json!({})).await, "UNAUTHENTICATED");
    assert_eq!(refusal(&app, RESET, reset).await, invalid_token(), "it is valid for one use");
    let login = |password: &str| json!({"e": ann.email, "p": password});
    assert_eq!(refusal(&app, LOGIN, login(&ann.password)).await.0, "UNAUTHENTICATED");
    app.stranger().query(LOGIN, login(NEW_PASSWORD)).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_ends_with_its_hour_with_the_old_password_and_with_the_operators_next() {
    let mut server = MailServer::start().await;
    let app = server.app().set("EMAIL_VERIFICATION", "off").start().await;
    let ann = app.user().await;
    let use_it = async |token: &str| refusal(&app, RESET, json!({"t": token, "p": NEW_PASSWORD})).await;
    for wrong in ["", "pw_", "pw_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", &"x".repeat(10_000)] {
        assert_eq!(use_it(wrong).await, invalid_token(), "{wrong:.20}");
    }
    let mut tokens = Vec::new();
    for _ in 0..5 {
        app.stranger().query(REQUEST, json!({"e": ann.email})).await;
        tokens.push(server.token(&ann.email, "pw_").await);
    }
    // Further requests, also of a stranger, send nothing and end no token.
    let bob = app.user().await;
    for email in [&ann.email, &ann.email, &bob.email] {
        app.stranger().query(REQUEST, json!({"e": email})).await;
    }
    server.token(&bob.email, "pw_").await;
    let is_valid = async |token: &str| {
        let weak = refusal(&app, RESET, json!({"t": token, "p": "short"})).await;
        weak == ("BAD_USER_INPUT".to_owned(), json!("newPassword"))
    };
    for token in &tokens {
        assert!(is_valid(token).await);
    }
    let users = &app.app().services().users;
    let (of_operator, _) = users.create_password_reset(&ann.email).await.unwrap().unwrap();
    assert!(is_valid(&of_operator).await && is_valid(&tokens[1]).await);
    assert_eq!(use_it(&tokens[0]).await, invalid_token(), "the operator's takes the place of the oldest");
    app.clock().advance(TimeDelta::minutes(61));
    assert_eq!(use_it(&tokens[4]).await, invalid_token(), "it has expired");
    users.delete_expired_tokens().await.unwrap();
    assert_eq!(app.database().rows().await["account_tokens"], Vec::<String>::new());

    app.stranger().query(REQUEST, json!({"e": ann.email})).await;
    let token = server.token(&ann.email, "pw_").await;
    let ann = ann.signed_in_again().await;
    let change = "mutation($i: UpdateMeInput!) { updateMe(input: $i) { id } }";
    let email = format!("{}@test.example", unique("new"));
    ann.query(change, json!({"i": {"email": email, "currentPassword": ann.password}})).await;
    assert_eq!(use_it(&token).await, invalid_token(), "the address is not theirs any more");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_that_can_not_be_sent_now_is_sent_later_and_a_refused_one_is_counted() {
    let mut server = MailServer::start().await;
    let app = server.app().set("EMAIL_VERIFICATION", "off").start().await;
    let register = "mutation($e: String!, $p: String!) { register(input: {email: $e, password: $p, name: \"A\"}) { user { id } } }";
    let metrics = &app.app().services().metrics;
    let mut emails = Vec::new();
    for kind in ["refused", "busy"] {
        let email = format!("{}@test.example", unique(kind));
        app.stranger().query(register, json!({"e": email, "p": NEW_PASSWORD})).await;
        app.stranger().query(REQUEST, json!({"e": email})).await;
        emails.push(email);
    }
    assert_eq!(server.mail().await["to"], json!([emails[1]]));
    let n_refused = || metrics.mails_failed.get_or_create(&Reason { reason: "REFUSED" }).get();
    eventually("the refusal is counted", || async { (n_refused() == 1).then_some(()) }).await;
    eventually("the mail is counted", || async { (metrics.mails_sent.get() == 1).then_some(()) }).await;
    assert_eq!(metrics.mail_retries.get(), 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_mail_server_the_operator_makes_a_token() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    let answer = app.stranger().post(REQUEST, json!({"e": ann.email})).await.json();
    assert_eq!(answer["errors"][0]["extensions"]["code"], "FORBIDDEN");
    assert!(answer["errors"][0]["message"].as_str().unwrap().contains("ask its operator"), "{answer}");
    let printed = |email: &str, link: Option<&str>| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_smarthome"));
        command.args(["user", "reset-password", "--email", email]).env_clear();
        command.env("DATABASE_URL", app.database().url()).envs(link.map(|link| ("PASSWORD_RESET_URL", link)));
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap().trim().to_owned())
    };
    assert!(!printed("nobody@test.example", None).0);
    let (_, link) = printed(&ann.email, Some(LINK));
    assert!(link.starts_with("https://app.test.example/new-password?token=pw_"), "{link}");
    // The command's clock is the system's, and the test's server has its own, which begins there.
    let (is_printed, token) = printed(&ann.email, None);
    assert!(is_printed && token.starts_with("pw_"), "{token}");
    app.stranger().query(RESET, json!({"t": token, "p": NEW_PASSWORD})).await;
    app.stranger().query(LOGIN, json!({"e": ann.email, "p": NEW_PASSWORD})).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_given_up_meanwhile_gets_no_token() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    let (sql, watcher) = (app.database().client().await, app.database().client().await);
    let id: i64 = ann.id.parse().unwrap();
    sql.execute("begin", &[]).await.unwrap();
    let email = format!("{}@test.example", unique("new"));
    sql.execute("update users set email = $1 where id = $2", &[&email, &id]).await.unwrap();
    let (users, old) = (app.app().services().users.clone(), ann.email.clone());
    let created = tokio::spawn(async move { users.create_password_reset(&old).await });
    let waiting =
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    eventually("the token waits for the user's lock", || async {
        (watcher.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) > 0).then_some(())
    })
    .await;
    sql.execute("commit", &[]).await.unwrap();
    assert_eq!(created.await.unwrap().unwrap(), None, "the address is not theirs any more");
    app.stop().await;
}
