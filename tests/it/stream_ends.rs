//! A stream that the server ends says why, on all four transports. One that ends because the server stops does not look
//! finished: clients connect again.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::support::app::TestApp;
use super::support::http;
use super::support::user::User;
use super::support::ws::{Frame, Socket};
use super::support::{eventually, soon, until};

const STATUS: &str = "subscription($home: ID, $device: ID) { deviceStatus(homeId: $home, deviceId: $device) { id } }";
const TRANSPORTS: [&str; 4] =
    ["graphql-transport-ws", "graphql-ws", "text/event-stream", "multipart/mixed;subscriptionSpec=\"1.0\""];

/// What a client receives of a subscription until its end.
async fn whole(addr: SocketAddr, user: &User, transport: &str, variables: Value) -> Vec<String> {
    let bearer = format!("Bearer {}", user.token().expect("a token"));
    if transport.contains('/') {
        let headers = [("authorization", bearer.as_str()), ("accept", transport), ("content-type", "application/json")];
        let body = json!({"query": STATUS, "variables": variables}).to_string();
        let answer = http::request(addr, "POST", "/graphql", &headers, body.as_bytes()).await;
        let separator = if transport.starts_with("multipart") { "\r\n---" } else { "\n\n" };
        return answer.text().split_inclusive(separator).map(str::to_owned).collect();
    }
    let mut socket = Socket::open(addr, "/graphql", transport).await;
    socket.send(&json!({"type": "connection_init", "payload": {"Authorization": bearer}})).await;
    let start = if transport == "graphql-ws" { "start" } else { "subscribe" };
    socket.send(&json!({"id": "1", "type": start, "payload": {"query": STATUS, "variables": variables}})).await;
    let mut received = Vec::new();
    loop {
        match socket.next().await {
            Frame::Json(message) => {
                received.push(message.to_string());
                if message["type"] == "complete" || message["type"] == "error" {
                    return received;
                }
            }
            Frame::Closed(code, reason) => {
                received.push(format!("closed {code} {reason}"));
                return received;
            }
            Frame::Cut => return received,
        }
    }
}

/// Runs a subscription on each transport in turn, ends it by `end`, and checks that its one error has this code.
async fn assert_ends_with(
    app: &TestApp,
    what: &str,
    start: impl AsyncFn() -> (User, Value),
    code: &str,
    end: impl AsyncFn(&User),
) {
    for transport in TRANSPORTS {
        let (user, variables) = start().await;
        let running = app.app().services().metrics.subscriptions.clone();
        let ending = async {
            until("the subscription runs", || running.get() == 1).await;
            end(&user).await;
        };
        let (received, ()) =
            tokio::join!(soon("the stream's end", whole(app.addr(), &user, transport, variables)), ending);
        // The parts with an error, by their position from the end: nothing but the end of the stream follows the only one.
        let errors: Vec<_> = received.iter().rev().enumerate().filter(|(_, part)| part.contains("\"code\":")).collect();
        let is_told = matches!(errors[..], [(0 | 1, part)] if part.contains(&format!("\"code\":\"{code}\"")));
        assert!(is_told, "{what} over {transport}: {received:#?}");
        let last = received.concat();
        let is_complete =
            last.contains("complete") || last.ends_with("-----\r\n") || last.contains("\"type\":\"error\"");
        assert!(is_complete, "{what} over {transport}: {received:#?}");
        eventually("it has ended", async || (running.get() == 0).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_or_demoted_member_is_told_why_the_stream_ends() {
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    app.device(&owner, &home, "a").await;
    let start = async || (app.member(&home, &owner).await, json!({"home": home.id}));
    assert_ends_with(&app, "removal", start, "FORBIDDEN", async |member| {
        let remove = "mutation($h: ID!, $u: ID!) { removeMember(input: {homeId: $h, userId: $u}) }";
        owner.query(remove, json!({"h": home.id, "u": member.id})).await;
    })
    .await;
    assert_ends_with(&app, "demotion", start, "FORBIDDEN", async |member| {
        let set = "mutation($h: ID!, $u: ID!) { setMemberRole(input: {homeId: $h, userId: $u, role: GUEST}) { role } }";
        owner.query(set, json!({"h": home.id, "u": member.id})).await;
    })
    .await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_a_deleted_home_or_device_says_not_found() {
    let app = TestApp::start().await;
    let owner = app.user().await;
    let of_home = async || {
        let home = owner.home().await;
        (owner.clone(), json!({"home": home.id}))
    };
    let delete_home = async |_: &User| {
        let homes = owner.query("{ homes { id } }", json!({})).await;
        owner.query("mutation($id: ID!) { deleteHome(id: $id) }", json!({"id": homes["homes"][0]["id"]})).await;
    };
    assert_ends_with(&app, "a home", of_home, "NOT_FOUND", delete_home).await;
    let home = owner.home().await;
    let of_device = async || {
        let device = app.device(&owner, &home, "a").await;
        (owner.clone(), json!({"device": device.id}))
    };
    let delete_device = async |_: &User| {
        let query = "query($h: ID!) { home(id: $h) { devices(first: 1) { nodes { id } } } }";
        let data = owner.query(query, json!({"h": home.id})).await;
        let id = &data["home"]["devices"]["nodes"][0]["id"];
        owner.query("mutation($id: ID!) { deleteDevice(id: $id) }", json!({ "id": id })).await;
    };
    assert_ends_with(&app, "a device", of_device, "NOT_FOUND", delete_device).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_does_not_look_finished_when_the_server_stops() {
    for transport in TRANSPORTS {
        let app = TestApp::start().await;
        let (home, owner) = app.home().await;
        app.device(&owner, &home, "a").await;
        let (addr, running) = (app.addr(), app.app().services().metrics.subscriptions.clone());
        let stop = async {
            until("the subscription runs", || running.get() == 1).await;
            app.stop().await;
        };
        let received = whole(addr, &owner, transport, json!({"home": home.id}));
        let (received, ()) = tokio::join!(soon("the stream's end", received), stop);
        let last = received.concat();
        assert!(!last.contains("complete") && !last.ends_with("--\r\n"), "{transport}: {received:#?}");
        assert_eq!(last.contains("closed 1001"), !transport.contains('/'), "{transport}: {received:#?}");
    }
}
