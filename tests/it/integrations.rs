//! Tokens of integrations: scopes, limits to devices, revocation and expiry.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what is missing fails the test")]

use serde_json::{Value, json};
use tokio::time::{Duration, Instant, timeout};

use super::support::app::TestApp;
use super::support::user::{Device, Home, User};
use super::support::ws::{Frame, Subscription};
use super::support::{eventually, http};

const CREATE: &str = "mutation($i: CreateIntegrationTokenInput!) { createIntegrationToken(input: $i) \
     { token integrationToken { id name scopes deviceIds createdAt expiresAt lastUsedAt createdBy { email } } } }";
const REVOKE: &str = "mutation($i: ID!) { revokeIntegrationToken(id: $i) }";
const LIST: &str = "query($h: ID!) { home(id: $h) { integrationTokens { id name scopes deviceIds lastUsedAt } } }";
const READINGS: &str = "subscription($h: ID!) { telemetry(homeId: $h) { device { key } sensors { temperature } } }";
const STATUS: &str = "subscription($h: ID!) { deviceStatus(homeId: $h) { key } }";
const SEND: &str = "mutation($d: ID!) { sendCommand(input: {deviceId: $d, type: \"PING\"}) { id source } }";
const PUSH: &str = "mutation($d: ID!) { pushConfig(input: {deviceId: $d, config: {sampleRate: 5}}) { version } }";
const JOIN: &str = "insert into memberships (home_id, user_id, role) values ($1, $2, $3)";
const ME: &str = "{ me { id name homes { id } } }";
/// A revocation takes effect within this time.
const SOON: Duration = Duration::from_secs(1);
const CLOCK_NOTICED: Duration = Duration::from_secs(7);

/// Creates a token of a home. Returns its id and a caller with the token.
async fn token(
    app: &TestApp,
    creator: &User,
    home: &Home,
    scopes: &[&str],
    devices: Option<&[&Device]>,
) -> (String, User) {
    let devices = devices.map(|devices| devices.iter().map(|device| device.id.clone()).collect::<Vec<_>>());
    let input = json!({"homeId": home.id, "name": "Bridge", "scopes": scopes, "deviceIds": devices});
    let made = creator.query(CREATE, json!({ "i": input })).await["createIntegrationToken"].take();
    let holder = User::with_token(app.addr(), made["token"].as_str().unwrap());
    (made["integrationToken"]["id"].as_str().unwrap().to_owned(), holder)
}

async fn join(app: &TestApp, home: &Home, user: &User, role: &str) {
    let (home, user): (i64, i64) = (home.id.parse().unwrap(), user.id.parse().unwrap());
    app.database().client().await.execute(JOIN, &[&home, &user, &role]).await.unwrap();
}

/// The frame that ends a stream, within [`SOON`]; events may come before it. That the clock was set may be noticed later.
async fn end(stream: &mut Subscription, what: &str) -> Frame {
    let (since, soon) = (Instant::now(), if what == "expired" { CLOCK_NOTICED } else { SOON });
    loop {
        let frame = timeout(soon, stream.frame()).await.unwrap_or_else(|_| panic!("{what}: not ended"));
        assert!(since.elapsed() <= soon, "{what}");
        match &frame {
            Frame::Json(message) if message["type"] == "next" => {}
            _ => return frame,
        }
    }
}

/// Checks that the socket is closed and the next request refused.
async fn is_revoked(stream: &mut Subscription, holder: &User, what: &str) {
    let end = end(stream, what).await;
    assert!(matches!(end, Frame::Closed(4403, _)), "{what}: {end:?}");
    let answer = holder.post(ME, json!({})).await;
    assert_eq!(
        (answer.status, answer.json()["errors"][0]["extensions"]["code"].clone()),
        (401, json!("UNAUTHENTICATED")),
        "{what}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_scope_allows_its_operations_and_no_others() {
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "dev").await;
    let ids = json!({"h": home.id, "d": device.id});
    let identity =
        "query($h: ID!, $d: ID!) { home(id: $h) { id key myRole } device(id: $d) { id key home { id } } homes { id } }";
    // Operations and the scope that each needs.
    let table = [
        (
            "query($h: ID!) { home(id: $h) { name timezone createdAt rooms { id } devices { nodes { id } } } }",
            "DEVICES_READ",
        ),
        ("query($h: ID!) { devices(homeId: $h) { nodes { id } } }", "DEVICES_READ"),
        (
            "query($d: ID!) { device(id: $d) { name online lastSeenAt metadata topics { commands } room { id } } }",
            "DEVICES_READ",
        ),
        ("query($d: ID!) { device(id: $d) { latestTelemetry { id } telemetry { nodes { id } } } }", "TELEMETRY_READ"),
        (SEND, "COMMANDS_SEND"),
        ("query($d: ID!) { device(id: $d) { commands { nodes { id } } } }", "COMMANDS_SEND"),
        (PUSH, "CONFIG_PUSH"),
        ("mutation($d: ID!) { rollbackConfig(input: {deviceId: $d, toVersion: 1}) { version } }", "CONFIG_PUSH"),
        (
            "query($d: ID!) { device(id: $d) { config { version config } configHistory { nodes { version } } } }",
            "CONFIG_PUSH",
        ),
    ];
    owner.query(PUSH, ids.clone()).await;
    for scope in ["DEVICES_READ", "TELEMETRY_READ", "COMMANDS_SEND", "CONFIG_PUSH"] {
        let (_, holder) = token(&app, &owner, &home, &[scope], None).await;
        holder.query(identity, ids.clone()).await;
        for (query, needs) in table {
            if needs == scope {
                holder.query(query, ids.clone()).await;
            } else {
                let answer = holder.post(query, ids.clone()).await.json();
                let error = &answer["errors"][0];
                assert_eq!(error["extensions"]["code"], "FORBIDDEN", "{scope}: {query}: {answer}");
                let message = error["message"].as_str().unwrap();
                assert!(message.ends_with(needs), "{message}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_scope_allows_what_only_people_may_do() {
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "dev").await;
    owner.query(SEND, json!({"d": device.id})).await;
    let all = ["DEVICES_READ", "TELEMETRY_READ", "COMMANDS_SEND", "CONFIG_PUSH"];
    let (id, holder) = token(&app, &owner, &home, &all, None).await;
    let me = holder.query(ME, json!({})).await["me"].take();
    assert_eq!((&me["name"], &me["homes"]), (&json!("Bridge"), &json!([{"id": home.id}])));
    let variables = json!({"h": home.id, "d": device.id, "u": owner.id, "me": me["id"], "t": id});
    for query in [
        "query($h: ID!) { home(id: $h) { members { role } } }",
        "query($h: ID!) { home(id: $h) { invitations { id } } }",
        "query($h: ID!) { home(id: $h) { integrationTokens { id } } }",
        "query($h: ID!) { rejectedMessages(homeId: $h) { nodes { id } } }",
        "query($d: ID!) { device(id: $d) { commands { nodes { requestedBy { email } } } } }",
        "{ serverStatus { version } }",
        "{ me { sessions { id } } }",
        "mutation { createHome(input: {name: \"Mine\"}) { id } }",
        "mutation($h: ID!) { updateHome(input: {id: $h, name: \"Mine\"}) { id } }",
        "mutation($h: ID!) { deleteHome(id: $h) }",
        "mutation($h: ID!) { inviteMember(input: {homeId: $h, email: \"a@b.example\"}) { id } }",
        "mutation($h: ID!, $u: ID!) { removeMember(input: {homeId: $h, userId: $u}) }",
        "mutation($h: ID!, $me: ID!) { removeMember(input: {homeId: $h, userId: $me}) }",
        "mutation($h: ID!, $me: ID!) { setMemberRole(input: {homeId: $h, userId: $me, role: OWNER}) { role } }",
        "mutation { acceptInvitation(token: \"inv_x\") { id } }",
        "mutation { changePassword(input: {currentPassword: \"!\", newPassword: \"a long enough password\"}) }",
        "mutation($t: ID!) { revokeSession(id: $t) }",
        "mutation($t: ID!) { revokeIntegrationToken(id: $t) }",
        "mutation($h: ID!) { createRoom(input: {homeId: $h, name: \"x\"}) { id } }",
        "mutation($h: ID!) { registerDevice(input: {homeId: $h, key: \"x\", name: \"x\"}) { device { id } } }",
        "mutation($d: ID!) { rotateDeviceCredentials(input: {deviceId: $d}) { password } }",
        "mutation($d: ID!) { deleteDevice(id: $d) }",
        "mutation($h: ID!) { createIntegrationToken(input: {homeId: $h, name: \"x\", scopes: [CONFIG_PUSH]}) { token } }",
    ] {
        assert_eq!(holder.error_code(query, variables.clone()).await, "FORBIDDEN", "{query}");
    }
    // It is not listed as a member, its role can't be changed, and it can't sign in.
    let members =
        owner.query("query($h: ID!) { home(id: $h) { members { user { id } } } }", json!({"h": home.id})).await;
    assert_eq!(members["home"]["members"].as_array().unwrap().len(), 1);
    let role = "mutation($h: ID!, $me: ID!) { setMemberRole(input: {homeId: $h, userId: $me, role: OWNER}) { role } }";
    assert_eq!(owner.error_code(role, variables.clone()).await, "NOT_FOUND");
    let login = "mutation($e: String!, $p: String!) { login(input: {email: $e, password: $p}) { accessToken } }";
    for password in ["!", "", "a long enough password"] {
        let email = format!("{id}@integration.invalid");
        assert_eq!(app.stranger().error_code(login, json!({"e": email, "p": password})).await, "UNAUTHENTICATED");
    }
    // Its commands name it as their source.
    let sent = holder.query(SEND, json!({"d": device.id})).await["sendCommand"].take();
    assert_eq!(sent["source"], "INTEGRATION");
    let by = "query($c: ID!) { command(id: $c) { source requestedBy { name } } }";
    let command = owner.query(by, json!({"c": sent["id"]})).await["command"].take();
    assert_eq!(command, json!({"source": "INTEGRATION", "requestedBy": {"name": "Bridge"}}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_some_devices_finds_no_others() {
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let (one, two) = (app.device(&owner, &home, "one").await, app.device(&owner, &home, "two").await);
    let scopes = ["DEVICES_READ", "TELEMETRY_READ", "COMMANDS_SEND", "CONFIG_PUSH"];
    let (_, holder) = token(&app, &owner, &home, &scopes, Some(&[&one])).await;
    let listed = holder.query("query($h: ID!) { devices(homeId: $h) { nodes { key } } }", json!({"h": home.id})).await;
    assert_eq!(listed["devices"]["nodes"], json!([{"key": "one"}]));
    let command = owner.query(SEND, json!({"d": two.id})).await["sendCommand"]["id"].take();
    for query in [
        "query($d: ID!) { device(id: $d) { id } }",
        "query($c: ID!) { command(id: $c) { id } }",
        "mutation($c: ID!) { cancelCommand(id: $c) { id } }",
        SEND,
        PUSH,
    ] {
        let code = holder.error_code(query, json!({"d": two.id, "c": command})).await;
        assert_eq!(code, "NOT_FOUND", "{query}");
    }
    let mut readings = holder.subscribe(READINGS, json!({"h": home.id})).await;
    let mut commands = holder
        .subscribe("subscription($h: ID!) { commandUpdates(homeId: $h) { device { key } } }", json!({"h": home.id}))
        .await;
    let mut configs = holder
        .subscribe("subscription($h: ID!) { configUpdates(homeId: $h) { device { key } } }", json!({"h": home.id}))
        .await;
    let mut status = holder.subscribe(STATUS, json!({"h": home.id})).await;
    assert_eq!(status.next().await["deviceStatus"]["key"], "one");
    for device in [&two, &one] {
        app.publish(device, "telemetry", json!({"sensors": {"temperature": 1}}).to_string()).await;
        app.publish(device, "status", json!({"online": true}).to_string()).await;
        owner.query(SEND, json!({"d": device.id})).await;
        owner.query(PUSH, json!({"d": device.id})).await;
    }
    // The events of device two came first and are not delivered.
    assert_eq!(readings.next().await["telemetry"]["device"]["key"], "one");
    assert_eq!(commands.next().await["commandUpdates"]["device"]["key"], "one");
    assert_eq!(configs.next().await["configUpdates"]["device"]["key"], "one");
    assert_eq!(status.next().await["deviceStatus"]["key"], "one");
    let mut another = Subscription::start(app.addr(), holder.token(), READINGS, json!({"h": home.id})).await;
    another.wait_until_read().await;
    let foreign = holder.post("subscription($d: ID!) { telemetry(deviceId: $d) { id } }", json!({"d": two.id})).await;
    assert_eq!(foreign.status, 406, "a socket is needed");
    let mut foreign = Subscription::start(
        app.addr(),
        holder.token(),
        "subscription($d: ID!) { telemetry(deviceId: $d) { id } }",
        json!({"d": two.id}),
    )
    .await;
    let Frame::Json(refused) = foreign.frame().await else { panic!("no message") };
    assert_eq!(refused["payload"][0]["extensions"]["code"], "NOT_FOUND", "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ends_closes_its_sockets_within_a_second() {
    let app = TestApp::start().await;
    let second = app.home().await.0;
    for way in ["revoked", "its creator demoted", "its creator removed", "its home deleted", "expired"] {
        let (home, owner) = app.home().await;
        app.device(&owner, &home, "dev").await;
        let admin = app.user().await;
        join(&app, &home, &admin, "ADMIN").await;
        let expires_at = (way == "expired").then(|| (app.clock().now() + Duration::from_secs(3600)).to_rfc3339());
        let input = json!({"homeId": home.id, "name": "B", "scopes": ["DEVICES_READ"], "expiresAt": expires_at});
        let made = admin.query(CREATE, json!({ "i": input })).await["createIntegrationToken"].take();
        let holder = User::with_token(app.addr(), made["token"].as_str().unwrap());
        let mut stream = holder.subscribe(STATUS, json!({"h": home.id})).await;
        stream.next().await;
        let variables = json!({"h": home.id, "u": admin.id, "i": made["integrationToken"]["id"], "r": "MEMBER"});
        match way {
            "revoked" => drop(owner.query(REVOKE, variables.clone()).await),
            "its creator demoted" => {
                let demote = "mutation($h: ID!, $u: ID!, $r: HomeRole!) { setMemberRole(input: {homeId: $h, userId: $u, role: $r}) { role } }";
                owner.query(demote, variables.clone()).await;
            }
            "its creator removed" => {
                owner
                    .query(
                        "mutation($h: ID!, $u: ID!) { removeMember(input: {homeId: $h, userId: $u}) }",
                        variables.clone(),
                    )
                    .await;
            }
            "its home deleted" => {
                drop(owner.query("mutation($h: ID!) { deleteHome(id: $h) }", variables.clone()).await)
            }
            _ => app.clock().advance(chrono::TimeDelta::hours(2)),
        }
        if way == "its home deleted" {
            // The stream ends with the home, the socket with the token: either may be first.
            if let Frame::Json(message) = end(&mut stream, way).await {
                assert_eq!(message["type"], "complete");
                assert!(matches!(end(&mut stream, way).await, Frame::Closed(4403, _)));
            }
            assert_eq!(holder.error_code(ME, json!({})).await, "UNAUTHENTICATED");
            let left = "select count(*) from users where home_id is not null and home_id = $1";
            let id: i64 = home.id.parse().unwrap();
            let n: i64 = app.database().client().await.query_one(left, &[&id]).await.unwrap().get(0);
            assert_eq!(n, 0);
        } else {
            is_revoked(&mut stream, &holder, way).await;
        }
    }
    assert!(!second.id.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_refused_after_its_revocation_is_deleted() {
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let (id, holder) = token(&app, &owner, &home, &["DEVICES_READ"], None).await;
    owner.query(REVOKE, json!({"i": id})).await;
    // Rows of `revocations` are deleted after a while.
    app.database().client().await.execute("delete from revocations", &[]).await.unwrap();
    let later = TestApp::builder().set("DATABASE_URL", app.database().url()).start().await;
    let holder = holder.at(later.addr());
    assert_eq!(holder.post(ME, json!({})).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_listed_with_their_last_use_and_their_number_is_limited() {
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let (other_home, other) = app.home().await;
    let foreign = app.device(&other, &other_home, "dev").await;
    let (id, holder) = token(&app, &owner, &home, &["DEVICES_READ", "TELEMETRY_READ"], None).await;
    let listed = owner.query(LIST, json!({"h": home.id})).await["home"]["integrationTokens"].take();
    let expected = json!({"id": id, "name": "Bridge", "scopes": ["DEVICES_READ", "TELEMETRY_READ"], "deviceIds": null, "lastUsedAt": null});
    assert_eq!(listed, json!([expected]));
    holder.query(ME, json!({})).await;
    let used = owner.query(LIST, json!({"h": home.id})).await["home"]["integrationTokens"][0]["lastUsedAt"].take();
    assert!(used.is_string());
    let input = |change: Value| {
        let mut input = json!({"homeId": home.id, "name": "B", "scopes": ["DEVICES_READ"]});
        input.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        json!({ "i": input })
    };
    for (change, code) in [
        (json!({"scopes": []}), "BAD_USER_INPUT"),
        // This scope has no meaning yet.
        (json!({"scopes": ["DEVICES_READ", "ALERTS_MANAGE"]}), "BAD_USER_INPUT"),
        (json!({"name": " "}), "BAD_USER_INPUT"),
        (json!({"deviceIds": []}), "BAD_USER_INPUT"),
        (json!({"deviceIds": [foreign.id]}), "NOT_FOUND"),
        (json!({"deviceIds": ["0"]}), "NOT_FOUND"),
        (json!({"expiresAt": "2020-01-01T00:00:00Z"}), "BAD_USER_INPUT"),
        (json!({"expiresAt": "soon"}), "BAD_USER_INPUT"),
        (json!({"homeId": other_home.id}), "NOT_FOUND"),
    ] {
        assert_eq!(owner.error_code(CREATE, input(change.clone())).await, code, "{change}");
    }
    let guest = app.user().await;
    join(&app, &home, &guest, "MEMBER").await;
    assert_eq!(guest.error_code(CREATE, input(json!({}))).await, "FORBIDDEN");
    assert_eq!(guest.error_code(REVOKE, json!({"i": id})).await, "FORBIDDEN");
    assert_eq!(other.error_code(REVOKE, json!({"i": id})).await, "NOT_FOUND");
    for _ in 1..50 {
        owner.query(CREATE, input(json!({}))).await;
    }
    assert_eq!(owner.error_code(CREATE, input(json!({}))).await, "CONFLICT");
    owner.query(REVOKE, json!({"i": id})).await;
    assert_eq!(owner.error_code(REVOKE, json!({"i": id})).await, "NOT_FOUND");
    owner.query(CREATE, input(json!({}))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_user_creates_and_revokes_a_bounded_number_of_tokens_a_minute() {
    let app = TestApp::builder().set("RATE_LIMITS", "on").start().await;
    let ((home, owner), (other_home, other)) = (app.home().await, app.home().await);
    for _ in 0..30 {
        let (id, _) = token(&app, &owner, &home, &["DEVICES_READ"], None).await;
        owner.query(REVOKE, json!({"i": id})).await;
    }
    let input = json!({"homeId": home.id, "name": "B", "scopes": ["DEVICES_READ"]});
    // The limit refills by one token a second.
    let refused = eventually("a token is refused", || async {
        let answer = owner.post(CREATE, json!({ "i": input })).await.json();
        let extensions = answer["errors"][0]["extensions"].clone();
        (!extensions.is_null()).then_some(extensions)
    });
    assert_eq!(refused.await, json!({"code": "RATE_LIMITED", "retryAfterSeconds": 1}));
    token(&app, &other, &other_home, &["DEVICES_READ"], None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_not_reported_as_invalid_while_the_database_fails() {
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let (_, holder) = token(&app, &owner, &home, &["DEVICES_READ"], None).await;
    let client = app.database().client().await;
    client.batch_execute("alter table integration_tokens rename to elsewhere").await.unwrap();
    let bearer = format!("Bearer {}", holder.token().unwrap());
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let answer = http::request(app.addr(), "POST", "/graphql", &headers, b"{\"query\":\"{__typename}\"}").await;
    assert_ne!(answer.status, 401, "{}", answer.text());
    client.batch_execute("alter table elsewhere rename to integration_tokens").await.unwrap();
    eventually("the token is accepted again", || async {
        (holder.post(ME, json!({})).await.status == 200).then_some(())
    })
    .await;
}
