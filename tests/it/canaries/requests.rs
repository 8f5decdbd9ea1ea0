//! Every request that contains or returns a secret, successful and refused.

use serde_json::{Value, json};

use super::client::Client;
use super::{Installation, canary};
use crate::support::app::END_REFRESH_GRACE;
use crate::support::eventually;
use crate::support::http::request;
use crate::support::installation::{enter, try_enter};
use crate::support::mqtt::Mqtt;
use crate::support::unique;
use crate::support::user::User;
use crate::support::ws::{Frame, Socket};

const REGISTER: &str =
    "mutation($i: RegisterInput!) { register(input: $i) { accessToken refreshToken user { id email } } }";
const LOGIN: &str = "mutation($i: LoginInput!) { login(input: $i) { accessToken refreshToken } }";
const FORGOTTEN: &str = "mutation($e: String!) { requestPasswordReset(email: $e) }";
const RESET: &str = "mutation($i: ResetPasswordInput!) { resetPassword(input: $i) }";
const VERIFY: &str = "mutation($t: String!) { verifyEmail(token: $t) }";
const CHANGE: &str = "mutation($i: ChangePasswordInput!) { changePassword(input: $i) }";
const REFRESH: &str = "mutation($t: String!) { refreshToken(refreshToken: $t) { accessToken refreshToken } }";
const LOGOUT: &str = "mutation($t: String!) { logout(refreshToken: $t) }";
const INVITE: &str = "mutation($i: InviteMemberInput!) { inviteMember(input: $i) { token } }";
const ACCEPT: &str = "mutation($t: String!) { acceptInvitation(token: $t) { id } }";
const DEVICE: &str = "mutation($i: RegisterDeviceInput!) { registerDevice(input: $i) \
                      { device { id } credentials { username password clientId } } }";
const ROTATE: &str = "mutation($d: ID!, $g: Int) { rotateDeviceCredentials(input: {deviceId: $d, graceSeconds: $g}) { username password } }";
const PUSH: &str = "mutation($i: PushConfigInput!) { pushConfig(input: $i) { version config } }";
const SEND: &str = "mutation($i: SendCommandInput!) { sendCommand(input: $i) { id } }";
const INTEGRATION: &str = "mutation($i: CreateIntegrationTokenInput!) { createIntegrationToken(input: $i) \
     { token integrationToken { id } } }";
const AUDIT: &str = "query($h: ID!) { auditLog(homeId: $h) { nodes { actor action target details } } }";
const ME: &str = "{ me { id } }";

const SESSION: [(&str, &str); 2] = [("an access token", "/accessToken"), ("a refresh token", "/refreshToken")];

fn session_pointers(field: &str) -> Vec<(&'static str, String)> {
    SESSION.map(|(name, pointer)| (name, format!("/data/{field}{pointer}"))).to_vec()
}

/// Executes an operation that starts or continues a session. Returns the access token and the refresh token.
async fn session(client: &mut Client, field: &str, query: &str, variables: Value) -> [String; 2] {
    let pointers = session_pointers(field);
    let pointers: Vec<_> = pointers.iter().map(|(name, pointer)| (*name, pointer.as_str())).collect();
    client.ask_for_secrets(None, query, variables, &pointers).await.1.try_into().expect("two tokens")
}

/// A signed-in user.
struct Person {
    email: String,
    password: String,
    access: String,
    refresh: String,
}

async fn person(client: &mut Client) -> Person {
    let (email, password) = (format!("{}@test.example", unique("canary")), canary());
    client.search.add_secret("a password", &password);
    let input = json!({"i": {"email": email, "name": "Test", "password": password}});
    let [access, refresh] = session(client, "register", REGISTER, input).await;
    Person { email, password, access, refresh }
}

/// Sends all requests.
pub(super) async fn send_all(installation: &Installation, client: &mut Client) {
    let mut ann = person(client).await;
    passwords(client, &mut ann).await;
    tokens(installation, client, &mut ann).await;
    malformed(client, &ann).await;
    sockets(client, &ann).await;
    let home =
        client.ask(Some(&ann.access), "mutation { createHome(input: {name: \"H\"}) { id key } }", json!({})).await;
    let home = &home["data"]["createHome"];
    invitations(client, &ann, home).await;
    devices(installation, client, &ann, home).await;
    integrations(client, &ann, home).await;
    // The audit log names all changes, without secrets.
    let log = client.ask(Some(&ann.access), AUDIT, json!({"h": home["id"]})).await;
    assert!(log["data"]["auditLog"]["nodes"].as_array().is_some_and(|entries| entries.len() > 8), "{log}");
}

async fn integrations(client: &mut Client, ann: &Person, home: &Value) {
    let token = Some(ann.access.as_str());
    let input = |name: &str| json!({"i": {"homeId": home["id"], "name": name, "scopes": ["DEVICES_READ"]}});
    let pointer = [("an integration's token", "/data/createIntegrationToken/token")];
    let (made, secrets) = client.ask_for_secrets(token, INTEGRATION, input("Bridge"), &pointer).await;
    let secret = secrets[0].as_str();
    client.ask(Some(secret), ME, json!({})).await;
    client.refused(Some(secret), INTEGRATION, input("Another"), "FORBIDDEN").await;
    client.refused(None, REFRESH, json!({"t": secret}), "UNAUTHENTICATED").await;
    client.refused(token, ACCEPT, json!({"t": secret}), "BAD_USER_INPUT").await;
    client
        .refused(token, "mutation($t: ID!) { revokeIntegrationToken(id: $t) }", json!({"t": secret}), "NOT_FOUND")
        .await;
    let id = &made["data"]["createIntegrationToken"]["integrationToken"]["id"];
    client.ask(token, "mutation($t: ID!) { revokeIntegrationToken(id: $t) }", json!({"t": id})).await;
    client.refused(Some(secret), ME, json!({}), "UNAUTHENTICATED").await;
}

async fn passwords(client: &mut Client, ann: &mut Person) {
    let (email, password) = (ann.email.clone(), ann.password.clone());
    let taken = json!({"i": {"email": email, "name": "Test", "password": password}});
    client.refused(None, REGISTER, taken, "CONFLICT").await;
    for input in [
        json!({"email": password, "name": "Test", "password": password}),
        json!({"email": format!("{password}@x"), "name": "Test", "password": "short"}),
        json!({"email": "x@test.example", "name": format!("\u{7}{password}"), "password": password}),
        json!({"email": "x@test.example", "name": "Test", "password": password.repeat(9)}),
        json!({"email": "x@test.example", "name": "Test", "password": [password]}),
        json!({"email": "x@test.example", "name": "Test", "password": {"is": password}}),
        json!({"email": "x@test.example", "name": "Test", "pasword": password}),
        json!({"email": "x@test.example", "name": "Test", password.as_str(): "x"}),
        json!(password),
        json!([password]),
    ] {
        client.refused(None, REGISTER, json!({"i": input}), "BAD_USER_INPUT").await;
    }
    let wrong = canary();
    client.search.add_secret("a password that is wrong", &wrong);
    for (email, password) in [(&email, &wrong), (&wrong, &password), (&password, &password), (&email, &String::new())] {
        client.refused(None, LOGIN, json!({"i": {"email": email, "password": password}}), "UNAUTHENTICATED").await;
    }
    let [access, refresh] = session(client, "login", LOGIN, json!({"i": {"email": email, "password": password}})).await;
    (ann.access, ann.refresh) = (access, refresh);
    let new = canary();
    client.search.add_secret("a new password", &new);
    let reset = json!({"i": {"token": password, "newPassword": new}});
    client.refused(None, RESET, reset, "BAD_USER_INPUT").await;
    client.refused(None, VERIFY, json!({"t": password}), "BAD_USER_INPUT").await;
    // The mail can't be sent: nothing listens there.
    client.ask(None, FORGOTTEN, json!({"e": email})).await;
    let token = Some(ann.access.as_str());
    let change = |old: &str, new: &str| json!({"i": {"currentPassword": old, "newPassword": new}});
    for variables in [change(&wrong, &new), change(&password, &new[..9]), change(&password, &email)] {
        client.ask(token, CHANGE, variables).await;
    }
    client.refused(None, CHANGE, change(&password, &new), "UNAUTHENTICATED").await;
    let changed = client.ask(token, CHANGE, change(&password, &new)).await;
    assert_eq!(changed["data"]["changePassword"], true, "{changed}");
    client.refused(None, LOGIN, json!({"i": {"email": email, "password": password}}), "UNAUTHENTICATED").await;
    ann.password = new;
}

async fn tokens(installation: &Installation, client: &mut Client, ann: &mut Person) {
    let input = json!({"i": {"email": ann.email, "password": ann.password}});
    // One session is ended by a replay, one by a logout, one stays open.
    let [access, refresh] = session(client, "login", LOGIN, input.clone()).await;
    session(client, "refreshToken", REFRESH, json!({"t": refresh})).await;
    installation.database.client().await.batch_execute(END_REFRESH_GRACE).await.expect("an update");
    client.refused(None, REFRESH, json!({"t": refresh}), "UNAUTHENTICATED").await;
    let [ended, signed_out] = session(client, "login", LOGIN, input).await;
    client.ask(None, LOGOUT, json!({"t": signed_out})).await;
    client.refused(None, REFRESH, json!({"t": signed_out}), "UNAUTHENTICATED").await;
    client.refused(None, REFRESH, json!({"t": ann.access}), "UNAUTHENTICATED").await;
    for token in [&access, &ended, &ann.refresh, &format!("{}x", ann.access), &ann.password] {
        client.refused(Some(token), ME, json!({}), "UNAUTHENTICATED").await;
    }
    let token = &ann.access;
    let json = ("content-type", "application/json");
    for header in [format!("Basic {token}"), format!("Bearer {token} {token}"), token.clone()] {
        client.raw("POST", "/graphql", &[json, ("authorization", &header)], br#"{"query":"{me{id}}"}"#).await;
    }
    let headers = [json, ("cookie", &*format!("token={token}")), ("x-api-key", token), ("x-request-id", token)];
    client.raw("POST", "/graphql", &headers, br#"{"query":"{me{id}}"}"#).await;
    // Some clients put a token into the URL.
    for path in [
        format!("/graphql?query=%7Bme%7Bid%7D%7D&token={token}"),
        format!("/graphql?access_token={token}"),
        format!("/graphql?query={token}"),
        format!("/graphql?query=%7Bme%7Bid%7D%7D&variables=%7B%22t%22:%22{token}%22"),
        format!("/graphql?query=query%20{token}%7Bme%7Bid%7D%7D&operationName={token}"),
        format!("/{token}"),
        format!("/graphiql?token={token}"),
        format!("/graphiql/{token}"),
        format!("/readyz?token={token}"),
        format!("/livez/{token}"),
    ] {
        for method in ["GET", "DELETE"] {
            client.raw(method, &path, &[], b"").await;
        }
    }
}

async fn malformed(client: &mut Client, ann: &Person) {
    let password = ann.password.replace('"', "\\\"");
    let token = &ann.access;
    let headers = |kind: &'static str| [("content-type", kind)];
    for body in [
        format!(r#"{{"query":"{LOGIN}","variables":{{"i":{{"email":"{}","password":"{password}"#, ann.email),
        format!(r#"{{"query":"{ME}","variables":"{password}"}}"#),
        format!(r#"{{"query":["{password}"]}}"#),
        format!(r#"["{password}"]"#),
        format!(r#"{{"query":"{ME}","extensions":{{"persistedQuery":{{"version":1,"sha256Hash":"{password}"}}}}}}"#),
        format!(r#"{{"query":"{ME}","operationName":"{token}"}}"#),
        format!(r#"{{"query":"{ME}","{password}":1}} {password}"#),
        password.clone(),
    ] {
        for kind in ["application/json", "text/plain", "application/x-www-form-urlencoded"] {
            client.raw("POST", "/graphql", &headers(kind), body.as_bytes()).await;
        }
    }
    // Secrets in the text of invalid operations.
    let escaped = password.replace('\\', "\\\\").replace('"', "\\\"");
    for query in [
        format!(r#"mutation {{ login(input: {{email: \"x@y\", password: \"{escaped}\"}} {{ accessToken }} }}"#),
        format!(r#"mutation {{ login(input: {{email: \"x@y\", pasword: \"{escaped}\"}}) {{ accessToken }} }}"#),
        format!(r#"mutation {{ login(input: {{email: \"x@y\", password: [\"{escaped}\"]}}) {{ accessToken }} }}"#),
        format!(r#"mutation {{ login(input: \"{escaped}\") {{ accessToken }} }}"#),
        format!(r#"mutation {{ logout(refreshToken: {{t: \"{token}\"}}) }}"#),
        format!(r#"mutation {{ logout(token: \"{token}\") }}"#),
        format!(r#"query($t: String = \"{token}\") {{ me {{ id }} }}"#),
        format!(r#"query($t: Int = \"{token}\") {{ me(t: $t) {{ id }} }}"#),
        format!(r#"{{ me {{ id }} }} \"{token}\""#),
        format!(
            r#"{{ home(id: \"{token}\") {{ id }} device(id: \"{token}\") {{ id }} command(id: \"{token}\") {{ id }} }}"#
        ),
        format!(r#"{{ devices(homeId: \"1\", after: \"{token}\") {{ nodes {{ id }} }} }}"#),
    ] {
        let bearer = format!("Bearer {token}");
        let headers = [("content-type", "application/json"), ("authorization", bearer.as_str())];
        client.raw("POST", "/graphql", &headers, format!(r#"{{"query":"{query}"}}"#).as_bytes()).await;
        client.raw("POST", "/graphql", &headers[..1], format!(r#"{{"query":"{query}"}}"#).as_bytes()).await;
    }
}

async fn sockets(client: &mut Client, ann: &Person) {
    let token = &ann.access;
    let inits = [
        json!({"Authorization": format!("Bearer {token}")}),
        json!({"token": token}),
        json!({"token": format!("{token}x")}),
        json!({"token": ann.refresh}),
        json!({"token": [token]}),
        json!(token),
    ];
    for init in inits {
        for protocol in ["graphql-transport-ws", "graphql-ws"] {
            let mut socket = Socket::open(client.addr, "/graphql", protocol).await;
            socket.send(&json!({"type": "connection_init", "payload": init})).await;
            if !matches!(socket.next().await, Frame::Json(ack) if ack["type"] == "connection_ack") {
                continue;
            }
            socket.send(&json!({"type": "ping", "payload": {"token": token}})).await;
            let start = if protocol == "graphql-ws" { "start" } else { "subscribe" };
            let variables = json!({"t": ann.password, "h": {"x": token}});
            let query = "subscription($h: ID!) { deviceStatus(homeId: $h) { id } }";
            socket
                .send(&json!({"id": token, "type": start, "payload": {"query": query, "variables": variables}}))
                .await;
            let mut frames = Vec::new();
            // The last message is none of the protocol, so the server closes the socket.
            socket.send(&json!({"type": token, "id": ann.password})).await;
            loop {
                match socket.next().await {
                    Frame::Json(mut message) => {
                        // The client chose the id of the operation, and the server returns it.
                        message["id"].take();
                        frames.push(message.to_string());
                    }
                    Frame::Closed(code, reason) => {
                        frames.push(format!("{code} {reason}"));
                        break;
                    }
                    Frame::Cut => break,
                }
            }
            client.search.add_output(format!("the frames of a {protocol} socket"), frames.join("\n"), vec![]);
        }
    }
    let path = format!("/graphql?token={token}");
    drop(Socket::open(client.addr, &path, "graphql-transport-ws").await);
}

async fn invitations(client: &mut Client, ann: &Person, home: &Value) {
    let bob = person(client).await;
    let invite = json!({"i": {"homeId": home["id"], "email": bob.email, "role": "MEMBER"}});
    let token = [("an invitation's token", "/data/inviteMember/token")];
    let (_, made) = client.ask_for_secrets(Some(&ann.access), INVITE, invite, &token).await;
    let accept = json!({"t": made[0]});
    client.refused(Some(&ann.access), ACCEPT, accept.clone(), "BAD_USER_INPUT").await;
    client.refused(None, ACCEPT, accept.clone(), "UNAUTHENTICATED").await;
    client.refused(Some(&made[0]), ME, json!({}), "UNAUTHENTICATED").await;
    client.refused(None, REFRESH, accept.clone(), "UNAUTHENTICATED").await;
    let home = client.ask(Some(&bob.access), ACCEPT, accept.clone()).await;
    assert!(home["errors"].is_null(), "{home}");
    client.refused(Some(&bob.access), ACCEPT, accept, "BAD_USER_INPUT").await;
    let wrong = json!({"i": {"homeId": made[0], "email": made[0]}});
    client.ask(Some(&ann.access), INVITE, wrong).await;
}

async fn devices(installation: &Installation, client: &mut Client, ann: &Person, home: &Value) {
    let token = Some(ann.access.as_str());
    let new = json!({"i": {"homeId": home["id"], "key": "lamp", "name": "Lamp"}});
    let pointer = [("a device's password", "/data/registerDevice/credentials/password")];
    let (lamp, passwords) = client.ask_for_secrets(token, DEVICE, new.clone(), &pointer).await;
    client.refused(token, DEVICE, new, "CONFLICT").await;
    let lamp = &lamp["data"]["registerDevice"];
    let credential = |name: &str| lamp["credentials"][name].as_str().expect("text").to_owned();
    let (id, client_id, username) = (lamp["device"]["id"].clone(), credential("clientId"), credential("username"));
    let port = installation.broker.port();
    let mut first = enter(port, &client_id, &username, &passwords[0]).await;
    let wrong = canary();
    client.search.add_secret("a device's wrong password", &wrong);
    assert!(try_enter(port, &client_id, &username, &wrong).await.is_none());
    broker_requests(installation, client, (&client_id, &username), &passwords[0], &wrong).await;
    configurations(client, &mut first, token, &id, &username).await;

    let pointer = [("a device's new password", "/data/rotateDeviceCredentials/password")];
    let (rotated, passwords) = client.ask_for_secrets(token, ROTATE, json!({"d": id, "g": 60}), &pointer).await;
    let username = rotated["data"]["rotateDeviceCredentials"]["username"].as_str().expect("text").to_owned();
    let second = enter(port, &client_id, &username, &passwords[0]).await;
    let own = format!("{}/{}/telemetry", installation.variable("MQTT_TOPIC_PREFIX"), username.trim_end_matches("~1"));
    second.publish(&own, br#"{"sensors": {"temperature": 21}}"#).await.expect("PUBACK");
    client.refused(token, ROTATE, json!({"d": id, "g": -1}), "BAD_USER_INPUT").await;
    client.ask_for_secrets(token, ROTATE, json!({"d": id, "g": 0}), &pointer).await;
}

/// Requests to the authentication endpoint for brokers.
async fn broker_requests(
    installation: &Installation,
    client: &mut Client,
    (client_id, name): (&str, &str),
    password: &str,
    wrong: &str,
) {
    let addr = installation.variable("MQTT_AUTH_ADDR").parse().expect("an address");
    let secret = installation.variable("MQTT_AUTH_SECRET");
    for password in [password, wrong] {
        let request_body = json!({"username": name, "password": password, "clientid": client_id}).to_string();
        for (secret, path, body) in [
            (secret, "/auth", request_body.as_str()),
            (secret, "/emqx/auth", &request_body),
            (secret, "/vernemq", &request_body),
            (secret, "/auth", &request_body[..request_body.len() - 1]),
            (secret, &format!("/auth?password={password}"), ""),
            (wrong, "/auth", &request_body),
        ] {
            let path = path.replace(['"', '%', ' '], "");
            let headers = [("content-type", "application/json"), ("x-auth-secret", secret)];
            let answer = request(addr, "POST", &path, &headers, body.as_bytes()).await;
            client.search.add_output(format!("the response to the broker at {path}"), answer.body, vec![]);
        }
    }
}

async fn configurations(client: &mut Client, device: &mut Mqtt, token: Option<&str>, id: &Value, username: &str) {
    let wifi = canary();
    client.search.add_secret("a password in a configuration", &wifi);
    let push = |config: Value| json!({"i": {"deviceId": id, "config": config}});
    for wrong in [
        json!({"wifiConfig": {"ssid": 7, "password": wifi}}),
        json!({"wifiConfig": {"ssid": "x", "password": wifi.repeat(3)}}),
        json!({"wifiConfig": {"ssid": "x", "password": [wifi]}, "sampleRate": -1}),
        json!({"wifiConfig": wifi}),
        json!({"alertThresholds": {"password": wifi}}),
        json!(wifi),
        json!([wifi]),
    ] {
        client.refused(token, PUSH, push(wrong), "BAD_USER_INPUT").await;
    }
    let send = json!({"i": {"deviceId": id, "type": "UPDATE_CONFIG", "payload": {"wifiConfig": {"password": wifi}}}});
    client.refused(token, SEND, send, "BAD_USER_INPUT").await;
    let valid = json!({"wifiConfig": {"ssid": "x", "password": wifi}, "my": {"apiToken": wifi}});
    let pushed = client.ask(token, PUSH, push(valid)).await;
    assert_eq!(pushed["data"]["pushConfig"]["config"]["wifiConfig"]["password"], "[secret]", "{pushed}");
    // Only the device receives the password.
    let topic = format!("smarthome/{username}/config");
    device.subscribe(&topic).await.expect("SUBACK");
    let (_, received) = device.next().await;
    let received: Value = serde_json::from_slice(&received).expect("JSON");
    assert_eq!(received["config"]["wifiConfig"]["password"], json!(wifi));
    let applied = json!({"configVersion": received["version"], "status": "APPLIED"}).to_string();
    device.publish(&format!("smarthome/{username}/ack"), applied).await.expect("PUBACK");
    let read = "query($d: ID!) { device(id: $d) { config { status config } configHistory { nodes { config } } } }";
    let watcher = User::with_token(client.addr, token.unwrap_or_default());
    eventually("it is applied", || async {
        let seen = watcher.query(read, json!({"d": id})).await;
        (seen["device"]["config"]["status"] == "APPLIED").then_some(())
    })
    .await;
    client.ask(token, read, json!({"d": id})).await;
}

/// Requests that need the database while it does not answer.
pub(super) async fn without_a_database(client: &mut Client) {
    let password = canary();
    client.search.add_secret("a password while there is no database", &password);
    let register = json!({"i": {"email": "y@test.example", "name": "Test", "password": password}});
    let login = json!({"i": {"email": "y@test.example", "password": password}});
    // At the same time, because each waits for a connection until it times out.
    let stranger = User::stranger(client.addr);
    let requests = [(REGISTER, register), (LOGIN, login), (REFRESH, json!({"t": password}))];
    let requests = requests.map(|(query, variables)| stranger.post(query, variables));
    for answer in futures_util::future::join_all(requests).await {
        assert_eq!(answer.json()["errors"][0]["extensions"]["code"], "UNAVAILABLE", "{}", answer.text());
        client.search.add_output("an answer without a database", answer.body, vec![]);
    }
}
