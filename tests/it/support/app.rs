//! A server in the test's process, with its own database and topic prefix.
//!
//! A database and not a schema, because the advisory locks of ingest and migrations belong to a database: so no test
//! waits for another test.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use smarthome::app::{App, Options};
use smarthome::auth::{Principal, Tokens};
use smarthome::clock::Clock;
use smarthome::http::Limits;
use smarthome::settings::{Secret, Settings};
use tokio::sync::OnceCell;

use super::mqtt::Mqtt;
use super::proxy::{Proxy, Target};
use super::services::services;
use super::user::{Device, Home, User};
use super::ws::Subscription;
use super::{unique, until};

/// The key that signs the tests' tokens.
pub const JWT_SECRET: &str = "a secret for tests, 32 bytes and more";

/// Makes the next use of a used refresh token a replay.
pub const END_REFRESH_GRACE: &str = "update refresh_tokens set used_at = used_at - interval '1 minute'";

/// A test's database; dropped with the value.
pub struct Database {
    name: String,
}

impl Database {
    pub async fn create() -> Self {
        let name = unique("t");
        admin(format!("create database {name}")).await;
        Self { name }
    }

    /// A database that compares text byte by byte, as `initdb --locale=C` makes it.
    pub async fn create_with_locale_c() -> Self {
        let name = unique("t");
        admin(format!("create database {name} template template0 encoding 'UTF8' locale 'C'")).await;
        Self { name }
    }

    pub fn url(&self) -> String {
        services().database_url(&self.name)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The next server does not continue the broker session of the one before: in a session of its own it receives what the
    /// broker retains.
    pub async fn forget_broker_session(&self) {
        self.client().await.batch_execute("delete from ingest_sessions").await.expect("deleted");
    }

    /// The URL for an account.
    pub fn url_as(&self, account: &str) -> String {
        self.url().replacen("//smarthome@", &format!("//{account}@"), 1)
    }

    /// Creates an account that is no superuser and owns the database.
    pub async fn account(&self) -> String {
        let account = unique("account");
        admin(format!("create role {account} login")).await;
        admin(format!("alter database {} owner to {account}", self.name)).await;
        account
    }

    /// A proxy in front of it, and the URL through the proxy.
    pub async fn proxied(&self) -> (Proxy, String) {
        let proxy = Proxy::start(Target::Unix(services().database_socket())).await;
        let url = format!("postgres://smarthome@{}/{}", proxy.addr(), self.name);
        (proxy, url)
    }

    /// A connection for the test's own statements.
    pub async fn client(&self) -> tokio_postgres::Client {
        connect(&self.url()).await
    }

    /// A connection as an account.
    pub async fn client_as(&self, account: &str) -> tokio_postgres::Client {
        connect(&self.url_as(account)).await
    }

    /// Every row of every table as text, sorted.
    pub async fn rows(&self) -> BTreeMap<String, Vec<String>> {
        let client = self.client().await;
        // Rows of a partition are rows of its table.
        let tables = "select relname::text from pg_class where relnamespace = 'public'::regnamespace \
                      and relkind in ('r', 'p') and not relispartition";
        let mut all = BTreeMap::new();
        for table in client.query(tables, &[]).await.expect("the tables") {
            let table: String = table.get(0);
            let rows = format!("select t::text from {table} t order by 1");
            let rows = client.query(&rows, &[]).await.expect("its rows");
            all.insert(table, rows.iter().map(|row| row.get(0)).collect());
        }
        all
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let drop = format!("drop database if exists {} with (force)", self.name);
        // A destructor can't await, but a thread can with its own runtime.
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(admin(drop));
        });
        let _ = thread.join();
    }
}

async fn admin(sql: String) {
    let client = connect(&services().database_url("postgres")).await;
    client.batch_execute(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("the database");
    tokio::spawn(connection);
    client
}

/// The server and what a test needs around it.
pub struct TestApp {
    app: App,
    clock: Clock,
    settings: Settings,
    mqtt_port: u16,
    mqtt: OnceCell<Mqtt>,
    database: Database,
}

/// How a test's server differs from the default.
pub struct Builder {
    variables: HashMap<String, String>,
    mqtt_port: u16,
    clock: Clock,
    limits: Limits,
}

impl Builder {
    /// Sets an environment variable, as `serve` would read it.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.insert(name.to_owned(), value.into());
        self
    }

    /// Removes a variable.
    #[must_use]
    pub fn unset(mut self, name: &str) -> Self {
        self.variables.remove(name);
        self
    }

    /// Uses a broker on this port of the loopback instead of the shared one.
    #[must_use]
    pub fn broker(mut self, port: u16) -> Self {
        self.mqtt_port = port;
        self
    }

    /// Changes the bounds of the HTTP server.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Starts it and waits until it listens.
    pub async fn start(self) -> TestApp {
        self.start_on(Database::create().await).await
    }

    /// Another server with the database and the clock of a running one.
    pub async fn second(self, first: &TestApp) -> App {
        let settings = settings(&self.variables, &first.database.url(), self.mqtt_port);
        let options = Options { clock: first.clock.clone(), ..Options::default() };
        App::start(settings, options).await.expect("the server starts")
    }

    /// As [`Builder::start`], on an existing database.
    pub async fn start_on(self, database: Database) -> TestApp {
        let settings = settings(&self.variables, &database.url(), self.mqtt_port);
        let options = Options { clock: self.clock.clone(), limits: self.limits, ..Options::default() };
        let app = App::start(settings.clone(), options).await.expect("the server starts");
        TestApp { app, clock: self.clock, settings, mqtt_port: self.mqtt_port, mqtt: OnceCell::new(), database }
    }
}

/// The environment of a test's server, in this process or in its own.
pub fn variables(overrides: &HashMap<String, String>, database_url: &str, mqtt_port: u16) -> HashMap<String, String> {
    let name = unique("t");
    let mut variables: HashMap<String, String> = [
        ("DATABASE_URL", database_url),
        ("DATABASE_POOL_SIZE", "5"),
        ("MQTT_BROKER_URL", &format!("mqtt://127.0.0.1:{mqtt_port}")),
        ("MQTT_CLIENT_ID", &name),
        ("MQTT_TOPIC_PREFIX", &name),
        ("JWT_SECRET", JWT_SECRET),
        ("REGISTRATION", "open"),
        ("RATE_LIMITS", "off"),
        ("GRAPHQL_INTROSPECTION", "on"),
        ("HTTP_ADDR", "127.0.0.1:0"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    variables.extend(overrides.clone());
    variables
}

fn settings(overrides: &HashMap<String, String>, database_url: &str, mqtt_port: u16) -> Settings {
    let variables = variables(overrides, database_url, mqtt_port);
    Settings::read(&move |name: &str| variables.get(name).cloned()).expect("usable settings")
}

impl TestApp {
    /// A server with the default settings.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    pub fn builder() -> Builder {
        let _ = rustls_provider();
        Builder {
            variables: HashMap::new(),
            mqtt_port: services().mqtt_port(),
            clock: Clock::movable(),
            limits: Limits::default(),
        }
    }

    pub fn app(&self) -> &App {
        &self.app
    }

    pub fn addr(&self) -> SocketAddr {
        self.app.http_addr()
    }

    /// The value of a metric without labels, by its name after `smarthome_`.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.app.services().metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("smarthome_{name} ")));
        line.unwrap_or_else(|| panic!("no metric {name}")).parse().expect("a number")
    }

    /// Its clock, which a test may move.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The first segment of its topics.
    pub fn prefix(&self) -> &str {
        &self.settings.mqtt.prefix
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Its broker's port on the loopback.
    pub fn mqtt_port(&self) -> u16 {
        self.mqtt_port
    }

    pub fn database(&self) -> &Database {
        &self.database
    }

    /// A client on its broker, created at the first call.
    pub async fn mqtt(&self) -> &Mqtt {
        let connect = async || {
            // What is published before the server's first subscription is lost. A standby never subscribes.
            let connected = &self.app.services().metrics.mqtt_connected;
            let subscribed = until("the server is subscribed", || connected.get() == 1);
            let _ = tokio::time::timeout(Duration::from_secs(5), subscribed).await;
            Mqtt::connect(self.mqtt_port).await
        };
        self.mqtt.get_or_init(connect).await
    }

    /// Another client on its broker, with its own subscriptions.
    pub async fn another_mqtt(&self) -> Mqtt {
        Mqtt::connect(self.mqtt_port).await
    }

    /// A caller without a token.
    pub fn stranger(&self) -> User {
        User::stranger(self.addr())
    }

    /// A new account.
    pub async fn user(&self) -> User {
        User::register(self.addr()).await
    }

    /// The principal of a user's token.
    pub fn principal(&self, user: &User) -> Principal {
        let tokens = Tokens::new(&Secret::new(JWT_SECRET), self.clock.clone());
        tokens.verify(user.token().expect("a token")).expect("a good one")
    }

    /// A new home and its owner.
    pub async fn home(&self) -> (Home, User) {
        let owner = self.user().await;
        (owner.home().await, owner)
    }

    /// A new account that an owner has invited to a home as an ordinary member.
    pub async fn member(&self, home: &Home, owner: &User) -> User {
        let member = self.user().await;
        let invite = "mutation($h: ID!, $e: String!) { inviteMember(input: {homeId: $h, email: $e}) { token } }";
        let invited = owner.query(invite, json!({"h": home.id, "e": member.email})).await;
        let accept = "mutation($t: String!) { acceptInvitation(token: $t) { id } }";
        member.query(accept, json!({"t": invited["inviteMember"]["token"]})).await;
        member
    }

    /// A device of a home, registered by a member.
    pub async fn device(&self, owner: &User, home: &Home, key: &str) -> Device {
        owner.device(self.prefix(), home, key).await
    }

    /// Publishes a device's message with QoS 1 and waits for the broker's acknowledgement.
    pub async fn publish(&self, device: &Device, kind: &str, payload: impl AsRef<[u8]>) {
        self.mqtt().await.publish(&device.topic(kind), payload).await.expect("the broker takes it");
    }

    /// Waits until no message is left that was received.
    pub async fn all_messages_are_done(&self) {
        let metrics = &self.app.services().metrics;
        until("all messages are stored, known or rejected", || {
            let done = metrics.mqtt_stored.get() + metrics.mqtt_duplicate.get() + metrics.mqtt_rejected_total.get();
            metrics.mqtt_received.get() == done
        })
        .await;
    }

    /// Subscribes and waits until the server counts one more running subscription: its resolver has then subscribed to
    /// the hub.
    pub async fn subscribe(&self, user: &User, query: &str, variables: Value) -> Subscription {
        let running = self.app.services().metrics.subscriptions.clone();
        let before = running.get();
        let subscription = user.subscribe(query, variables).await;
        until("the subscription runs", || running.get() > before).await;
        subscription
    }

    /// Makes the next use of a user's used refresh tokens a replay.
    pub async fn end_refresh_grace(&self, user: &User) {
        let (client, id) = (self.database.client().await, user.id.parse::<i64>().expect("an id"));
        client.execute(&format!("{END_REFRESH_GRACE} where user_id = $1"), &[&id]).await.expect("an update");
    }

    /// Stops the server and returns its database.
    pub async fn stop(self) -> Database {
        self.app.stop().await;
        self.database
    }
}

/// Two crypto providers are compiled in, so one is chosen, once per process.
fn rustls_provider() -> Result<(), std::sync::Arc<rustls::crypto::CryptoProvider>> {
    rustls::crypto::aws_lc_rs::default_provider().install_default()
}
