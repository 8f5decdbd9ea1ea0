//! The GraphQL schema over a real database, without HTTP: permissions, rules and the number of statements.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what is missing fails the test")]

mod audit;
mod broker_cleanups;
mod budget;
mod command_outbox;
mod commands;
mod config_outbox;
mod deletions;
mod device_config;
mod devices;
mod hang_ups;
mod history;
mod homes;
mod live;
mod live_devices;
mod lookups;
mod members;
mod mutation_inputs;
mod rotation;
mod rows;
mod sessions;
mod statements;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_graphql::{Request, Variables};
use serde_json::{Value, json};
use smarthome::app::{Base, Hubs};
use smarthome::auth::{Actor, Principal};
use smarthome::clock::Clock;
use smarthome::db;
use smarthome::device_config::{ConfigHub, KeyRing};
use smarthome::devices::RegistryListener;
use smarthome::graphql::limits::budget::Budget;
use smarthome::graphql::response::GraphQLResponse;
use smarthome::graphql::{self, Schema, Services, Viewer};
use smarthome::ids::{DeviceId, HomeId, UserId};
use smarthome::settings::Settings;
use smarthome::telemetry::ReadingHub;
use tokio::task::JoinHandle;
use tokio_postgres::types::ToSql;

use super::support::app::{Database, END_REFRESH_GRACE, JWT_SECRET};
use super::support::{eventually, unique};

/// The schema over the server's services, on a database of its own.
struct Graph {
    schema: Schema,
    services: Services,
    clock: Clock,
    readings: ReadingHub,
    config_hub: ConfigHub,
    registry_changes: Arc<RegistryChanges>,
    key_ring: Option<KeyRing>,
    sql: tokio_postgres::Client,
    database: Database,
}

/// Encrypts secrets in tests.
const ENCRYPTION_KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

/// A signed-in user, or a caller without a token.
#[derive(Clone)]
struct Person(Option<Principal>);

/// Counts the changes of the registry that are published, and passes them on.
struct RegistryChanges(AtomicU32, Arc<dyn RegistryListener>);

impl RegistryListener for RegistryChanges {
    fn device_changed(&self, home: HomeId, device: DeviceId) {
        self.0.fetch_add(1, Ordering::SeqCst);
        self.1.device_changed(home, device);
    }

    fn home_changed(&self, home: HomeId) {
        self.0.fetch_add(1, Ordering::SeqCst);
        self.1.home_changed(home);
    }

    fn rooms_changed(&self, home: HomeId) {
        self.1.rooms_changed(home);
    }
}

impl Graph {
    async fn start() -> Self {
        Self::start_with(Some(ENCRYPTION_KEY)).await
    }

    /// With another encryption key, or none.
    async fn start_with(encryption_key: Option<&'static str>) -> Self {
        let database = Database::create().await;
        let url = database.url();
        let settings = Settings::read(&move |name: &str| match name {
            "DATABASE_URL" => Some(url.clone()),
            "MQTT_BROKER_URL" => Some("mqtt://broker.example".to_owned()),
            "JWT_SECRET" => Some(JWT_SECRET.to_owned()),
            "REGISTRATION" => Some("open".to_owned()),
            "RATE_LIMITS" => Some("off".to_owned()),
            "ENCRYPTION_KEY" => encryption_key.map(str::to_owned),
            _ => None,
        })
        .unwrap();
        db::migrate(&settings.database).await.unwrap();
        let sql = database.client().await;
        sql.batch_execute("create table telemetry_rest partition of telemetry default").await.unwrap();
        let clock = Clock::movable();
        let base = Base::new(&settings, clock.clone()).unwrap();
        let mut hubs = Hubs::new(&base.metrics);
        let registry_changes = Arc::new(RegistryChanges(AtomicU32::new(0), hubs.registry_listener));
        hubs.registry_listener = registry_changes.clone();
        let services = Services::build(&base, &hubs, &settings);
        Self {
            schema: graphql::schema(services.clone()),
            services,
            clock,
            readings: hubs.readings,
            config_hub: hubs.configs,
            registry_changes,
            key_ring: KeyRing::new(&settings.encryption),
            sql,
            database,
        }
    }

    /// A new account without a usable password.
    async fn person(&self) -> Person {
        let insert = "insert into users (email, name, password_hash) values ($1, 'Test', '-') returning id";
        let id: i64 = self.sql.query_one(insert, &[&format!("{}@test.example", unique("p"))]).await.unwrap().get(0);
        let (user, issued_at) = (UserId::from_database(id), self.clock.now());
        let expires_at = issued_at + Duration::from_secs(900);
        Person(Some(Principal { user, actor: Actor::Operator, issued_at, expires_at }))
    }

    /// The whole response.
    async fn answer(&self, who: &Person, query: &str, variables: Value) -> Value {
        self.start_answer(who, query, variables).await.unwrap()
    }

    /// Executes the query in a task, as HTTP does.
    fn start_answer(&self, who: &Person, query: &str, variables: Value) -> JoinHandle<Value> {
        let budget = Budget::default();
        let request = Request::new(query)
            .variables(Variables::from_json(variables))
            .data(budget.clone())
            .data(Viewer(who.0.clone()));
        let schema = self.schema.clone();
        tokio::spawn(async move {
            match budget.run_within(schema.execute(request)).await {
                Ok(response) => serde_json::to_value(response).unwrap(),
                Err(refusal) => {
                    let mut out = Vec::new();
                    GraphQLResponse::from(refusal).write(&mut out);
                    serde_json::from_slice(&out).unwrap()
                }
            }
        })
    }

    /// The data of a query that must succeed.
    async fn ask(&self, who: &Person, query: &str, variables: Value) -> Value {
        let mut answer = self.answer(who, query, variables).await;
        assert!(answer.get("errors").is_none(), "{query}: {answer}");
        answer["data"].take()
    }

    /// The error code of a query that must fail.
    async fn code(&self, who: &Person, query: &str, variables: Value) -> String {
        let answer = self.answer(who, query, variables).await;
        let code = answer["errors"][0]["extensions"]["code"].as_str();
        code.unwrap_or_else(|| panic!("{query}: no coded error in {answer}")).to_owned()
    }

    /// A new home of `owner`.
    async fn home(&self, owner: &Person) -> String {
        let made = self.ask(owner, "mutation { createHome(input: {name: \"Test\"}) { id } }", json!({})).await;
        text(&made["createHome"]["id"])
    }

    /// Makes `who` a member of a home.
    async fn join(&self, home: &str, who: &Person, role: &str) {
        let insert = "insert into memberships (home_id, user_id, role) values ($1, $2, $3)";
        let user = who.0.as_ref().unwrap().user.get();
        self.sql.execute(insert, &[&number(home), &user, &role]).await.unwrap();
    }

    /// Devices `d0`, `d1`, … of a home; their ids.
    async fn devices(&self, owner: &Person, home: &str, n: usize) -> Vec<String> {
        let devices: Vec<_> = (0..n).map(|n| json!({"key": format!("d{n}"), "name": format!("Device {n}")})).collect();
        let register = "mutation($input: RegisterDevicesInput!) { registerDevices(input: $input) { device { id } } }";
        let made = self.ask(owner, register, json!({"input": {"homeId": home, "devices": devices}})).await;
        made["registerDevices"].as_array().unwrap().iter().map(|made| text(&made["device"]["id"])).collect()
    }

    /// A stored reading of a device, `minute` minutes into 2026, with that temperature.
    async fn reading(&self, home: &str, device: &str, minute: i64) {
        let insert = "insert into telemetry (home_id, device_id, recorded_at, received_at, dedup, device_clock, temperature) \
                      values ($1, $2, '2026-01-01Z'::timestamptz + make_interval(mins => $3::int), now(), $3, true, $3)";
        let values: [&(dyn ToSql + Sync); 3] = [&number(home), &number(device), &minute];
        let insert = insert.replace("$3::int", "$3::bigint::int").replace("true, $3)", "true, $3::bigint::float8)");
        self.sql.execute(&insert, &values).await.unwrap();
    }

    /// Dates the uses of refresh tokens back, so that a further use is a replay. They are dated by the database's
    /// clock, which a test can't move.
    async fn end_refresh_grace(&self) {
        self.sql.batch_execute(END_REFRESH_GRACE).await.unwrap();
    }

    /// Waits until `n` statements wait for a lock.
    async fn wait_for_waiting(&self, n: i64) {
        let waiting = "pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
        eventually("statements wait", || async { (self.count(waiting).await >= n).then_some(()) }).await;
    }

    /// Rows of a table.
    async fn count(&self, table: &str) -> i64 {
        self.sql.query_one(&format!("select count(*) from {table}"), &[]).await.unwrap().get(0)
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

fn number(id: &str) -> i64 {
    id.parse().unwrap()
}
