//! Clients that disconnect early: a committed change is published even if nobody waits for the response.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use smarthome::auth::{Actor, Principal, Tokens};
use smarthome::commands::CommandStatus;
use smarthome::hub::HubEvent;
use smarthome::ids::HomeId;
use smarthome::revocation::Watch;
use smarthome::settings::Secret;
use tokio::time::timeout;

use super::{Graph, Person, number, text};
use crate::support::app::JWT_SECRET;
use crate::support::{eventually, soon};

const PASSWORD: &str = "a fine long passphrase";
const REGISTER: &str = "mutation($e: String!, $p: String!) \
     { register(input: {email: $e, password: $p, name: \"Ann\"}) { accessToken refreshToken } }";
const LOGIN: &str =
    "mutation($e: String!, $p: String!) { login(input: {email: $e, password: $p}) { accessToken refreshToken } }";
const REFRESH: &str = "mutation($t: String!) { refreshToken(refreshToken: $t) { accessToken } }";

/// Much longer than a publication takes.
const PUBLICATION_TIMEOUT: Duration = Duration::from_secs(3);

/// Starts a change and disconnects while its last rows wait for a lock, then releases the lock.
async fn send_and_disconnect(graph: &Graph, who: &Person, query: &str, variables: Value) {
    let blocker = graph.database.client().await;
    blocker.batch_execute("begin; lock table audit_log, revocations in share mode").await.unwrap();
    let caller = graph.start_answer(who, query, variables);
    graph.wait_for_waiting(1).await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled(), "{query}");
    blocker.batch_execute("commit").await.unwrap();
}

fn verified(graph: &Graph, token: &Value) -> Principal {
    Tokens::new(&Secret::new(JWT_SECRET), graph.clock.clone()).verify(token.as_str().unwrap()).unwrap()
}

/// Signs in again. Returns the principal and the refresh token.
async fn session(graph: &Graph, email: &str) -> (Principal, String) {
    let made = graph.ask(&Person(None), LOGIN, json!({"e": email, "p": PASSWORD})).await["login"].take();
    (verified(graph, &made["accessToken"]), text(&made["refreshToken"]))
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_receive_a_cancellation() {
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let home = graph.home(&ann).await;
    let device = graph.devices(&ann, &home, 1).await.remove(0);
    let send = "mutation($d: ID!) { sendCommand(input: {deviceId: $d, type: \"RESET\"}) { id } }";
    let sent = graph.ask(&ann, send, json!({"d": device})).await["sendCommand"]["id"].take();
    let mut listener = graph.services.commands.hub().subscribe(HomeId::from_database(number(&home)), None);
    send_and_disconnect(&graph, &ann, "mutation($c: ID!) { cancelCommand(id: $c) { id } }", json!({"c": sent})).await;
    match soon("the cancelled command", listener.recv()).await {
        HubEvent::Published(command) => assert_eq!(command.status, CommandStatus::Cancelled),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn revocations_take_effect_on_this_server_at_once() {
    let graph = Graph::start().await;
    let (ann, bob, eve) = (graph.person().await, graph.person().await, graph.person().await);
    let home = graph.home(&ann).await;
    let email = "carl@test.example";
    let first = graph.ask(&Person(None), REGISTER, json!({"e": email, "p": PASSWORD})).await["register"].take();
    let (carl, refresh) = (verified(&graph, &first["accessToken"]), text(&first["refreshToken"]));
    let revocations = graph.services.revocations.clone();
    let mut missing = Vec::new();
    let mut check = async |what, watch: Watch| {
        if timeout(PUBLICATION_TIMEOUT, watch.revoked()).await.is_err() {
            missing.push(what);
        }
    };

    let create = "mutation($h: ID!) { createIntegrationToken(input: {homeId: $h, name: \"T\", scopes: [DEVICES_READ]}) { token } }";
    let made = graph.ask(&ann, create, json!({"h": home})).await["createIntegrationToken"]["token"].take();
    let integration = verified(&graph, &made);
    let Actor::Integration(id) = integration.actor else { panic!("{integration:?}") };
    let watch = revocations.watch(&integration);
    let revoke = "mutation($i: ID!) { revokeIntegrationToken(id: $i) }";
    send_and_disconnect(&graph, &ann, revoke, json!({"i": id.to_string()})).await;
    check("a revoked token", watch).await;

    let watch_membership = |who: &Person| {
        let user = who.0.as_ref().unwrap().user;
        (revocations.watch_membership(user, HomeId::from_database(number(&home))), user.to_string())
    };
    graph.join(&home, &bob, "ADMIN").await;
    let (watch, user) = watch_membership(&bob);
    let set = "mutation($h: ID!, $u: ID!) { setMemberRole(input: {homeId: $h, userId: $u, role: GUEST}) { role } }";
    send_and_disconnect(&graph, &ann, set, json!({"h": home, "u": user})).await;
    check("a lower role", watch).await;
    graph.join(&home, &eve, "GUEST").await;
    let (watch, user) = watch_membership(&eve);
    let remove = "mutation($h: ID!, $u: ID!) { removeMember(input: {homeId: $h, userId: $u}) }";
    send_and_disconnect(&graph, &ann, remove, json!({"h": home, "u": user})).await;
    check("a removal", watch).await;

    let (other, token) = session(&graph, email).await;
    let watch = revocations.watch(&other);
    send_and_disconnect(
        &graph,
        &Person(None),
        "mutation($t: String!) { logout(refreshToken: $t) }",
        json!({"t": token}),
    )
    .await;
    check("a logout", watch).await;
    let (other, _) = session(&graph, email).await;
    let Actor::Session(id) = other.actor else { panic!("{other:?}") };
    let watch = revocations.watch(&other);
    let revoke = "mutation($i: ID!) { revokeSession(id: $i) }";
    send_and_disconnect(&graph, &Person(Some(carl.clone())), revoke, json!({"i": id.to_string()})).await;
    check("a revoked session", watch).await;
    let (other, token) = session(&graph, email).await;
    graph.ask(&Person(None), REFRESH, json!({"t": token})).await;
    let watch = revocations.watch(&other);
    graph.end_refresh_grace().await;
    send_and_disconnect(&graph, &Person(None), REFRESH, json!({"t": token})).await;
    check("a replayed refresh token", watch).await;
    let (other, _) = session(&graph, email).await;
    let watch = revocations.watch(&other);
    let change = "mutation($c: String!, $n: String!) { changePassword(input: {currentPassword: $c, newPassword: $n}) }";
    let passwords = json!({"c": PASSWORD, "n": "another fine passphrase"});
    send_and_disconnect(&graph, &Person(Some(carl)), change, passwords).await;
    check("a new password", watch).await;
    assert!(missing.is_empty(), "not revoked: {missing:?}");
    // The first session is still valid.
    graph.ask(&Person(None), REFRESH, json!({"t": refresh})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_device_directory_is_notified_of_every_change() {
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let home = graph.home(&ann).await;
    let device = graph.devices(&ann, &home, 1).await.remove(0);
    for (query, variables) in [
        ("mutation { createHome(input: {name: \"N\"}) { id } }", json!({})),
        ("mutation($h: ID!) { updateHome(input: {id: $h, name: \"N\"}) { id } }", json!({"h": home})),
        (
            "mutation($h: ID!) { registerDevice(input: {homeId: $h, key: \"k\", name: \"N\"}) { device { id } } }",
            json!({"h": home}),
        ),
        ("mutation($d: ID!) { updateDevice(input: {id: $d, name: \"N\"}) { id } }", json!({"d": device})),
    ] {
        let before = graph.registry_changes.0.load(Ordering::SeqCst);
        send_and_disconnect(&graph, &ann, query, variables).await;
        eventually(query, || async { (graph.registry_changes.0.load(Ordering::SeqCst) > before).then_some(()) }).await;
    }
}
