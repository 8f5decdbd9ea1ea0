//! Users as capabilities: a test may do what the user may do on whose behalf it calls.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::http::{self, Answer};
use super::ws::{Socket, Subscription};
use super::{eventually, unique};

/// A caller of a server, signed in or not.
#[derive(Debug, Clone)]
pub struct User {
    addr: SocketAddr,
    token: Option<String>,
    /// The login name; empty for a stranger.
    pub email: String,
    /// The password; empty for a stranger.
    pub password: String,
    /// The refresh token; empty for a stranger.
    pub refresh_token: String,
    /// The user's id; empty for a stranger.
    pub id: String,
}

/// A test's home.
#[derive(Debug, Clone)]
pub struct Home {
    pub id: String,
    /// Its name in topics.
    pub key: String,
}

/// A test's device.
#[derive(Debug, Clone)]
pub struct Device {
    pub id: String,
    /// Its name in topics.
    pub key: String,
    pub home: Home,
    /// Its user name at the broker.
    pub username: String,
    /// Its password at the broker.
    pub password: String,
    /// Its client id at the broker.
    pub client_id: String,
    prefix: String,
}

impl Device {
    /// One of its topics, such as `telemetry`.
    pub fn topic(&self, kind: &str) -> String {
        format!("{}/{}/{}/{kind}", self.prefix, self.home.key, self.key)
    }
}

impl User {
    /// A caller without a token.
    pub fn stranger(addr: SocketAddr) -> Self {
        let none = String::new;
        Self { addr, token: None, email: none(), password: none(), refresh_token: none(), id: none() }
    }

    /// A caller with the given token.
    pub fn with_token(addr: SocketAddr, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..Self::stranger(addr) }
    }

    /// A new account.
    pub async fn register(addr: SocketAddr) -> Self {
        let email = format!("{}@test.example", unique("user"));
        let password = "a long enough password for a test".to_owned();
        let input = json!({"email": email, "password": password, "name": "Test"});
        let data = Self::stranger(addr)
            .query(
                "mutation($input: RegisterInput!) { register(input: $input) { accessToken refreshToken user { id } } }",
                json!({ "input": input }),
            )
            .await;
        let payload = &data["register"];
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let token = Some(text(&payload["accessToken"]));
        let (refresh_token, id) = (text(&payload["refreshToken"]), text(&payload["user"]["id"]));
        Self { addr, token, email, password, refresh_token, id }
    }

    /// The same account on another server of the same database, or after a restart.
    pub fn at(&self, addr: SocketAddr) -> Self {
        Self { addr, ..self.clone() }
    }

    /// The same account with a new session.
    pub async fn signed_in_again(&self) -> Self {
        let login = "mutation($input: LoginInput!) { login(input: $input) { accessToken refreshToken } }";
        let input = json!({"email": self.email, "password": self.password});
        let data = Self::stranger(self.addr).query(login, json!({ "input": input })).await;
        let text = |name: &str| data["login"][name].as_str().expect("text").to_owned();
        Self { token: Some(text("accessToken")), refresh_token: text("refreshToken"), ..self.clone() }
    }

    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Sends an operation by POST and returns the HTTP response.
    pub async fn post(&self, query: &str, variables: Value) -> Answer {
        let body = json!({"query": query, "variables": variables}).to_string();
        let bearer = self.token.as_ref().map(|token| format!("Bearer {token}"));
        let mut headers = vec![("content-type", "application/json"), ("accept", "application/graphql-response+json")];
        headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
        http::request(self.addr, "POST", "/graphql", &headers, body.as_bytes()).await
    }

    /// The `data` of an operation that must succeed.
    pub async fn query(&self, query: &str, variables: Value) -> Value {
        let mut answer = self.post(query, variables).await.json();
        assert!(answer["errors"].is_null(), "{query}: {answer}");
        answer["data"].take()
    }

    /// The `extensions.code` of the first error of an operation that must fail.
    pub async fn error_code(&self, query: &str, variables: Value) -> String {
        let answer = self.post(query, variables).await.json();
        let code = answer["errors"][0]["extensions"]["code"].as_str();
        code.unwrap_or_else(|| panic!("{query}: no coded error in {answer}")).to_owned()
    }

    /// Starts a subscription over a WebSocket of its own, and waits until the server has read it.
    pub async fn subscribe(&self, query: &str, variables: Value) -> Subscription {
        let mut subscription = Subscription::start(self.addr, self.token(), query, variables).await;
        subscription.wait_until_read().await;
        subscription
    }

    /// A signed-in WebSocket.
    pub async fn socket(&self) -> Socket {
        Socket::signed_in(self.addr, self.token()).await
    }

    /// Waits until a device has a reading. The id of its latest one.
    pub async fn latest_reading(&self, device: &Device) -> String {
        eventually("a reading is stored", async || {
            let latest = "query($d: ID!) { device(id: $d) { latestTelemetry { id } } }";
            let data = self.query(latest, json!({"d": device.id})).await;
            data["device"]["latestTelemetry"]["id"].as_str().map(str::to_owned)
        })
        .await
    }

    /// Creates a home with a unique key.
    pub async fn home(&self) -> Home {
        let key = unique("home").replace('_', "-");
        let query = "mutation($key: String) { createHome(input: {name: \"Test\", key: $key}) { id } }";
        let data = self.query(query, json!({ "key": key })).await;
        Home { id: data["createHome"]["id"].as_str().expect("an id").to_owned(), key }
    }

    /// Registers a device under this key.
    pub async fn device(&self, prefix: &str, home: &Home, key: &str) -> Device {
        let query = "mutation($home: ID!, $key: String!) { registerDevice(input: {homeId: $home, key: $key, name: $key}) \
                     { device { id } credentials { username password clientId } } }";
        let data = self.query(query, json!({"home": home.id, "key": key})).await;
        let registered = &data["registerDevice"];
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        Device {
            id: text(&registered["device"]["id"]),
            key: key.to_owned(),
            home: home.clone(),
            username: text(&registered["credentials"]["username"]),
            password: text(&registered["credentials"]["password"]),
            client_id: text(&registered["credentials"]["clientId"]),
            prefix: prefix.to_owned(),
        }
    }
}
