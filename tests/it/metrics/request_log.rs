//! The lines of the log that say why a client was refused, and what they never say.

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use crate::support::app::Database;
use crate::support::http;
use crate::support::server::Server;
use crate::support::services::services;
use crate::support::until;
use crate::support::user::User;
use crate::support::ws::Socket;

async fn server(log_requests: &str) -> (Database, Server) {
    let database = Database::create().await;
    let overrides = [("LOG_FORMAT", "json"), ("LOG_REQUESTS", log_requests)];
    let server = Server::start(&database.url(), services().mqtt_port(), &overrides).await;
    (database, server)
}

/// The lines of a request or a socket with this id.
fn lines(server: &Server, id: &str) -> Vec<Value> {
    let log = server.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["span"]["request.id"] == id).collect()
}

/// The only line of a request.
async fn line(server: &Server, id: &str) -> Value {
    until("the log has the line", || !lines(server, id).is_empty()).await;
    let mut lines = lines(server, id);
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines.remove(0)
}

/// A time has two decimals at most.
#[track_caller]
fn assert_short(time: &Value) {
    let text = time.to_string();
    let (_, decimals) = text.split_once('.').unwrap_or_else(|| panic!("{time}"));
    assert!(decimals.len() <= 2, "{text}");
}

fn post(query: &str) -> Vec<u8> {
    json!({ "query": query }).to_string().into_bytes()
}

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_is_logged_with_the_reason_and_its_id() {
    let (_database, server) = server("refused").await;
    let addr = server.addr();
    let user = User::register(addr).await;
    let token = format!("Bearer {}", user.token().expect("a token"));

    let headers = [JSON, ("authorization", "Bearer canary"), ("x-request-id", "bad-token")];
    let answer = http::request(addr, "POST", "/graphql", &headers, &post("query Mine { me { id } }")).await;
    assert_eq!((answer.status, answer.header("x-request-id")), (401, Some("bad-token")));
    let refused = line(&server, "bad-token").await;
    assert_eq!((&refused["status"], &refused["code"]), (&json!(401), &json!("UNAUTHENTICATED")), "{refused}");
    assert_eq!(refused["detail"], "TOKEN_INVALID", "{refused}");
    assert_eq!((&refused["level"], &refused["message"]), (&json!("INFO"), &json!("request refused")), "{refused}");
    let span = &refused["span"];
    assert_eq!(
        (&span["client"], &span["method"], &span["path"]),
        (&json!("127.0.0.1"), &json!("POST"), &json!("/graphql"))
    );

    // A home of others is refused in a response with the status 200.
    let headers = [JSON, ("authorization", token.as_str()), ("x-request-id", "others")];
    let query = "query Others { theirs: home(id: \"4711\") { name } }";
    assert_eq!(http::request(addr, "POST", "/graphql", &headers, &post(query)).await.status, 200);
    let refused = line(&server, "others").await;
    assert_eq!((&refused["status"], &refused["code"]), (&json!(200), &json!("NOT_FOUND")), "{refused}");
    assert_eq!((&refused["operation"], &refused["name"]), (&json!("query"), &json!("Others")), "{refused}");
    assert_eq!((&refused["field"], &refused["user"]), (&json!("theirs"), &json!(user.id)), "{refused}");
    assert!(refused["ms"].as_f64().is_some_and(|ms| ms > 0.0) && refused["bytes"].as_u64().is_some_and(|n| n > 0));
    assert_short(&refused["ms"]);

    // A mutation by GET is refused after it was read.
    let headers = [("authorization", token.as_str()), ("x-request-id", "by-get")];
    let path = "/graphql?query=mutation%20Out%20%7B%20logout%28refreshToken%3A%22canary%22%29%20%7D";
    assert_eq!(http::request(addr, "GET", path, &headers, b"").await.status, 405);
    let refused = line(&server, "by-get").await;
    assert_eq!((&refused["operation"], &refused["name"]), (&json!("mutation"), &json!("Out")), "{refused}");

    // Without its media type a body is not read.
    let headers = [("content-type", "text/plain"), ("x-request-id", "no-json")];
    assert_eq!(http::request(addr, "POST", "/graphql", &headers, &post("{ me { id } }")).await.status, 415);
    let refused = line(&server, "no-json").await;
    assert_eq!(refused["detail"], "send the request as application/json in UTF-8", "{refused}");

    // A page of another site.
    let headers = [
        ("upgrade", "websocket"),
        ("connection", "upgrade"),
        ("origin", "https://evil.example.com"),
        ("x-request-id", "origin"),
    ];
    assert_eq!(http::request(addr, "GET", "/graphql", &headers, b"").await.status, 403);
    let refused = line(&server, "origin").await;
    assert_eq!((&refused["status"], &refused["code"]), (&json!(403), &json!("FORBIDDEN")), "{refused}");
    assert_eq!(refused["detail"], "this origin may not open a socket", "{refused}");

    // What succeeds is not logged.
    let headers = [JSON, ("authorization", token.as_str()), ("x-request-id", "fine")];
    assert_eq!(http::request(addr, "POST", "/graphql", &headers, &post("{ me { id } }")).await.status, 200);
    let headers = [JSON, ("x-request-id", "last")];
    http::request(addr, "POST", "/graphql", &headers, &post("{ nothing }")).await;
    assert_eq!(line(&server, "last").await["code"], "BAD_USER_INPUT");
    assert!(lines(&server, "fine").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_sockets_and_their_operations_are_logged_with_the_id_of_their_request() {
    let (_database, server) = server("refused").await;
    let user = User::register(server.addr()).await;
    let mut socket = user.socket().await;
    let variables = json!({"home": "4711", "secret": "canary"});
    let query = "subscription Theirs ($home: ID!) { telemetry(homeId: $home) { id } }";
    socket.subscribe("1", query, variables).await;
    until("the operation is logged", || server.log().contains("operation refused")).await;
    let log = server.log();
    let line = log.lines().find(|line| line.contains("operation refused")).expect("the line");
    let refused: Value = serde_json::from_str(line).expect("JSON");
    assert_eq!((&refused["operation"], &refused["name"]), (&json!("subscription"), &json!("Theirs")), "{refused}");
    assert_eq!((&refused["code"], &refused["user"]), (&json!("NOT_FOUND"), &json!(user.id)), "{refused}");
    let id = refused["span"]["request.id"].as_str().expect("an id").to_owned();

    socket.send(&json!({"type": "no such type"})).await;
    until("the end of the socket is logged", || lines(&server, &id).len() == 2).await;
    let closed = &lines(&server, &id)[1];
    assert_eq!((&closed["close_code"], &closed["reason"]), (&json!(4400), &json!("INVALID_MESSAGE")), "{closed}");
    assert_short(&closed["seconds"]);

    let mut socket = Socket::open(server.addr(), "/graphql", "graphql-transport-ws").await;
    socket.send(&json!({"type": "connection_init", "payload": {"token": "canary"}})).await;
    until("the refused token is logged", || server.log().contains("\"close_code\":4403")).await;
    assert!(!server.log().contains("canary"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_all_every_request_is_logged_without_its_query_string() {
    let (_database, server) = server("all").await;
    let user = User::register(server.addr()).await;
    let token = format!("Bearer {}", user.token().expect("a token"));
    let path = "/graphql?query=query%20Mine%20%7B%20me%20%7B%20id%20%7D%20%7D&variables=%7B%22a%22%3A%22canary%22%7D";
    let headers = [("authorization", token.as_str()), ("x-request-id", "fine")];
    assert_eq!(http::request(server.addr(), "GET", path, &headers, b"").await.status, 200);
    let fine = line(&server, "fine").await;
    assert_eq!(
        (&fine["message"], &fine["status"], &fine["name"]),
        (&json!("request"), &json!(200), &json!("Mine")),
        "{fine}"
    );
    assert_eq!((&fine["user"], &fine["span"]["path"]), (&json!(user.id), &json!("/graphql")), "{fine}");
    assert!(fine["code"].is_null(), "{fine}");
    let mut socket = user.socket().await;
    socket.subscribe("1", "query Own { me { id } }", json!({})).await;
    until("the operation is logged", || server.log().contains("\"name\":\"Own\"")).await;
    let log = server.log();
    assert!(!log.contains("canary") && !log.contains(user.token().expect("a token")), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_off_no_request_is_logged() {
    let (_database, mut server) = server("off").await;
    let headers = [JSON, ("authorization", "Bearer canary"), ("x-request-id", "bad-token")];
    http::request(server.addr(), "POST", "/graphql", &headers, &post("{ me { id } }")).await;
    assert!(server.stop().await.success());
    assert!(lines(&server, "bad-token").is_empty(), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_refused_requests_does_not_flood_the_log() {
    const N_REQUESTS: usize = 2_000;
    let (_database, server) = server("refused").await;
    let addr = server.addr();
    let ask = async |path: &str| http::request(addr, "GET", path, &[], b"").await;
    stream::iter(0..N_REQUESTS).for_each_concurrent(20, async |_| assert_eq!(ask("/nothing").await.status, 404)).await;
    let metrics = ask("/metrics").await.text();
    let left_out = metrics.lines().find_map(|line| line.strip_prefix("smarthome_log_lines_left_out_total "));
    let left_out: usize = left_out.expect("the metric").parse().expect("a number");
    assert!((1..=N_REQUESTS - 400).contains(&left_out), "{left_out}");
    let n_lines = || server.log().lines().filter(|line| line.contains("\"status\":404")).count();
    until("every request is logged or counted", || n_lines() + left_out == N_REQUESTS).await;
    let log = server.log();
    let reports: Vec<_> = log.lines().filter(|line| line.contains("too many refusals")).collect();
    // More than one if the requests take longer than a minute.
    assert!(!reports.is_empty() && reports.len() < 4, "{reports:?}");
}
