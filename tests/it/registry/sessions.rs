//! Sessions: what signs in, what stays in, what ends it.

use chrono::TimeDelta;
use futures_util::future::join_all;
use serde_json::{Value, json};
use smarthome::auth::{Actor, Principal};
use smarthome::ids::UserId;

use super::{Graph, Person, number, text};

const NOBODY: Person = Person(None);
const PASSWORD: &str = "a fine long passphrase";
const REGISTER: &str = "mutation($e: String!, $p: String!) { register(input: {email: $e, password: $p, name: \" Ann \"}) \
                        { accessToken refreshToken expiresAt user { id email name homes { id } } } }";
const LOGIN: &str = "mutation($e: String!, $p: String!) { login(input: {email: $e, password: $p}) { refreshToken } }";
const REFRESH: &str = "mutation($t: String!) { refreshToken(refreshToken: $t) { refreshToken user { email } } }";
const LOGOUT: &str = "mutation($t: String!) { logout(refreshToken: $t) }";

async fn registered(graph: &Graph) -> Value {
    graph.ask(&NOBODY, REGISTER, json!({"e": "Ann@Example.com", "p": PASSWORD})).await["register"].take()
}

async fn refreshed(graph: &Graph, token: &str) -> String {
    text(&graph.ask(&NOBODY, REFRESH, json!({"t": token})).await["refreshToken"]["refreshToken"])
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_signs_in_and_reads_itself() {
    let graph = Graph::start().await;
    let session = registered(&graph).await;
    assert_eq!(session["user"]["email"], "ann@example.com");
    assert_eq!(session["user"]["name"], "Ann");
    let code = graph.code(&NOBODY, REGISTER, json!({"e": "ANN@example.com", "p": PASSWORD})).await;
    assert_eq!(code, "CONFLICT");
    graph.ask(&NOBODY, LOGIN, json!({"e": " ANN@example.com", "p": PASSWORD})).await;
    for (email, password) in [("ann@example.com", "wrong"), ("bob@example.com", PASSWORD), ("\0", ""), ("", "")] {
        let answer = graph.answer(&NOBODY, LOGIN, json!({"e": email, "p": password})).await;
        assert_eq!(answer["errors"][0]["message"], "wrong e-mail or password");
        assert_eq!(answer["errors"][0]["extensions"]["code"], "UNAUTHENTICATED");
    }
    assert_eq!(graph.code(&NOBODY, "{ me { id } }", json!({})).await, "UNAUTHENTICATED");
    graph.services.users.set_password("ann@example.com", "another fine passphrase").await.unwrap();
    assert_eq!(graph.code(&NOBODY, LOGIN, json!({"e": "ann@example.com", "p": PASSWORD})).await, "UNAUTHENTICATED");
    assert_eq!(graph.code(&NOBODY, REFRESH, json!({"t": session["refreshToken"]})).await, "UNAUTHENTICATED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_refresh_token_that_comes_again_ends_the_session() {
    let graph = Graph::start().await;
    let first = text(&registered(&graph).await["refreshToken"]);
    let second = refreshed(&graph, &first).await;
    assert_eq!(graph.code(&NOBODY, REFRESH, json!({"t": first})).await, "UNAUTHENTICATED");
    assert_eq!(graph.code(&NOBODY, REFRESH, json!({"t": second})).await, "UNAUTHENTICATED");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_twenty_that_refresh_at_once_one_wins() {
    let graph = Graph::start().await;
    registered(&graph).await;
    for _ in 0..20 {
        let token = graph.services.users.login("ann@example.com", PASSWORD, None).await.unwrap().refresh_token;
        let answers = join_all((0..20).map(|_| graph.answer(&NOBODY, REFRESH, json!({"t": token})))).await;
        let winners = answers.iter().filter(|answer| answer.get("errors").is_none()).count();
        assert_eq!(winners, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_session_survives_a_logout_that_meets_a_refresh() {
    let graph = Graph::start().await;
    let token = text(&registered(&graph).await["refreshToken"]);
    // Holds the user, so that the two meet for certain.
    let holder = graph.database.client().await;
    holder.batch_execute("begin; select from users for update").await.unwrap();
    let users = (graph.services.users.clone(), graph.services.users.clone());
    let (one, other) = (token.clone(), token.clone());
    let refresh = tokio::spawn(async move { users.0.refresh(&one, None).await });
    graph.wait_for_waiting(1).await;
    let logout = tokio::spawn(async move { users.1.logout(&other).await });
    graph.wait_for_waiting(2).await;
    holder.batch_execute("commit").await.unwrap();
    assert!(logout.await.unwrap().unwrap());
    let _ = refresh.await.unwrap();
    assert_eq!(graph.count("refresh_tokens where revoked_at is null").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_session_survives_a_new_password_that_meets_a_login() {
    let graph = Graph::start().await;
    registered(&graph).await;
    // What sets a password, just before its commit: the login has compared with the old one.
    let setting = graph.database.client().await;
    setting.batch_execute("begin; update users set password_hash = '-'; delete from refresh_tokens").await.unwrap();
    let users = graph.services.users.clone();
    let login = tokio::spawn(async move { users.login("ann@example.com", PASSWORD, None).await });
    graph.wait_for_waiting(1).await;
    setting.batch_execute("commit").await.unwrap();
    assert_eq!(login.await.unwrap().err().unwrap().code(), "UNAUTHENTICATED");
    assert_eq!(graph.count("refresh_tokens").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_made_while_a_new_password_waited_ends_with_the_others() {
    let graph = Graph::start().await;
    let user = UserId::from_database(number(&text(&registered(&graph).await["user"]["id"])));
    let token = || {
        let issued_at = graph.clock.now();
        Principal { user, actor: Actor::Operator, issued_at, expires_at: issued_at + TimeDelta::hours(1) }
    };
    for by_its_owner in [true, false] {
        let holder = graph.database.client().await;
        holder.batch_execute("begin; select from users for update").await.unwrap();
        let (users, who) = (graph.services.users.clone(), token());
        let change = tokio::spawn(async move {
            match by_its_owner {
                true => users.change_password(&who, PASSWORD, "another fine passphrase", None).await,
                false => users.set_password("ann@example.com", "a third fine passphrase").await,
            }
        });
        graph.wait_for_waiting(1).await;
        graph.clock.advance(TimeDelta::minutes(1));
        let made_meanwhile = token();
        graph.clock.advance(TimeDelta::minutes(1));
        holder.batch_execute("commit").await.unwrap();
        change.await.unwrap().unwrap();
        let revocations = &graph.services.revocations;
        assert!(revocations.admit(&made_meanwhile).is_err(), "by its owner: {by_its_owner}");
        assert!(revocations.admit(&token()).is_ok(), "by its owner: {by_its_owner}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_by_logout_idleness_and_age() {
    let graph = Graph::start().await;
    let token = text(&registered(&graph).await["refreshToken"]);
    assert_eq!(graph.ask(&NOBODY, LOGOUT, json!({"t": token})).await["logout"], true);
    assert_eq!(graph.ask(&NOBODY, LOGOUT, json!({"t": "unknown"})).await["logout"], true);
    assert_eq!(graph.code(&NOBODY, REFRESH, json!({"t": token})).await, "UNAUTHENTICATED");

    let login = || async {
        text(&graph.ask(&NOBODY, LOGIN, json!({"e": "ann@example.com", "p": PASSWORD})).await["login"]["refreshToken"])
    };
    let idle = login().await;
    graph.clock.advance(TimeDelta::days(30));
    assert_eq!(graph.code(&NOBODY, REFRESH, json!({"t": idle})).await, "UNAUTHENTICATED");

    let mut token = login().await;
    for _ in 0..3 {
        graph.clock.advance(TimeDelta::days(29));
        token = refreshed(&graph, &token).await;
    }
    graph.clock.advance(TimeDelta::days(3));
    assert_eq!(graph.code(&NOBODY, REFRESH, json!({"t": token})).await, "UNAUTHENTICATED");
    login().await;
    assert_eq!(graph.count("refresh_tokens where expires_at < '2026-01-01'").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_weak_password_says_which_field_and_why() {
    let graph = Graph::start().await;
    for password in ["short", "password123456", "aaaaaaaaaaaaaaa"] {
        let answer = graph.answer(&NOBODY, REGISTER, json!({"e": "ann@example.com", "p": password})).await;
        assert_eq!(answer["errors"][0]["extensions"], json!({"code": "BAD_USER_INPUT", "field": "password"}));
        assert!(!answer.to_string().contains(password));
    }
}
