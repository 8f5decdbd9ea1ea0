//! The graph over a real database, without HTTP: who may see and change what, and at what price.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what is missing fails the test")]

mod audit;
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
mod members;
mod rotation;
mod sessions;
mod statements;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_graphql::{Request, Variables};
use serde_json::{Value, json};
use smarthome::auth::{Actor, Principal, Tokens};
use smarthome::clock::Clock;
use smarthome::commands::{CommandHub, Commands, Expectations};
use smarthome::db;
use smarthome::device_config::{ConfigHub, DeviceConfigs, KeyRing};
use smarthome::devices::{DeletionHub, Devices, RegistryListener, StateHub};
use smarthome::graphql::limits::budget::Budget;
use smarthome::graphql::response::GraphQLResponse;
use smarthome::graphql::{self, Schema, Services, Viewer};
use smarthome::homes::{Homes, Integrations};
use smarthome::hub::HomeChannel;
use smarthome::ids::{DeviceId, HomeId, UserId};
use smarthome::metrics::Metrics;
use smarthome::outbox::Wake;
use smarthome::revocation::Revocations;
use smarthome::settings::{Secret, Settings};
use smarthome::telemetry::history::Readings;
use smarthome::telemetry::{LiveReadings, ReadingHub};
use smarthome::throttle::Throttle;
use smarthome::users::Users;
use tokio::task::JoinHandle;
use tokio_postgres::types::ToSql;

use super::support::app::{Database, JWT_SECRET};
use super::support::{eventually, unique};

/// The schema over services of its own, on a database of its own.
struct Graph {
    schema: Schema,
    services: Services,
    clock: Clock,
    readings: ReadingHub,
    config_hub: ConfigHub,
    told: Arc<Told>,
    key_ring: Option<KeyRing>,
    sql: tokio_postgres::Client,
    database: Database,
}

/// Seals secrets in tests.
const ENCRYPTION_KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

/// Somebody signed in, or nobody.
#[derive(Clone)]
struct Person(Option<Principal>);

/// Counts the changes it hears of.
#[derive(Default)]
struct Told(AtomicU32);

impl RegistryListener for Told {
    fn device_changed(&self, _home: HomeId, _device: DeviceId) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn home_changed(&self, _home: HomeId) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Graph {
    async fn start() -> Self {
        Self::start_with(Some(ENCRYPTION_KEY)).await
    }

    /// With another key that seals, or with none.
    async fn start_with(encryption_key: Option<&'static str>) -> Self {
        let database = Database::create().await;
        let url = database.url();
        let settings = Settings::read(&move |name: &str| match name {
            "DATABASE_URL" => Some(url.clone()),
            "MQTT_BROKER_URL" => Some("mqtt://broker.example".to_owned()),
            "JWT_SECRET" => Some(JWT_SECRET.to_owned()),
            "ENCRYPTION_KEY" => encryption_key.map(str::to_owned),
            _ => None,
        })
        .unwrap();
        db::migrate(&settings.database).await.unwrap();
        let sql = database.client().await;
        sql.batch_execute("create table telemetry_rest partition of telemetry default").await.unwrap();
        let (metrics, clock) = (Metrics::new(), Clock::movable());
        let pool = db::pool(&settings.database, metrics.db_statements.clone());
        let (readings, states, deletions) = (ReadingHub::default(), StateHub::default(), DeletionHub::default());
        let (command_hub, expectations) = (CommandHub::default(), Expectations::default());
        let told = Arc::<Told>::default();
        let config_hub = ConfigHub::default();
        let key_ring = KeyRing::new(&settings.encryption);
        let channels: [Arc<dyn HomeChannel>; 5] = [
            Arc::new(readings.clone()),
            Arc::new(states.clone()),
            Arc::new(deletions.clone()),
            Arc::new(command_hub.clone()),
            Arc::new(config_hub.clone()),
        ];
        let revocations = Revocations::new(clock.clone());
        let tokens = Tokens::new(&Secret::new(JWT_SECRET), clock.clone());
        let services = Services {
            integrations: Integrations::new(pool.clone(), clock.clone(), tokens.clone(), revocations.clone()),
            users: Users::new(
                pool.clone(),
                tokens.clone(),
                clock.clone(),
                revocations.clone(),
                Throttle::new(false),
                true,
            ),
            homes: Homes::new(
                pool.clone(),
                clock.clone(),
                told.clone(),
                channels,
                revocations.clone(),
                Throttle::new(false),
            ),
            devices: Devices::new(pool.clone(), clock.clone(), told.clone(), deletions, &settings.mqtt),
            readings: Readings::new(pool.clone()),
            live_readings: LiveReadings::new(pool.clone(), readings.clone(), metrics.clone()),
            commands: Commands::new(smarthome::commands::Dependencies {
                pool: pool.clone(),
                clock: clock.clone(),
                hub: command_hub,
                expectations,
                wake: Wake::default(),
                metrics: metrics.clone(),
            }),
            states,
            configs: DeviceConfigs::new(smarthome::device_config::Dependencies {
                pool: pool.clone(),
                clock: clock.clone(),
                hub: config_hub.clone(),
                key_ring: key_ring.clone(),
                wake: Wake::default(),
                metrics: metrics.clone(),
            }),
            revocations,
            metrics,
            clock: clock.clone(),
            pool,
            started: tokio::time::Instant::now(),
        };
        Self {
            schema: graphql::schema(services.clone()),
            services,
            clock,
            readings,
            config_hub,
            told,
            key_ring,
            sql,
            database,
        }
    }

    /// Somebody with an account, whose password nobody knows.
    async fn person(&self) -> Person {
        let insert = "insert into users (email, name, password_hash) values ($1, 'Test', '-') returning id";
        let id: i64 = self.sql.query_one(insert, &[&format!("{}@test.example", unique("p"))]).await.unwrap().get(0);
        let (user, issued_at) = (UserId::from_database(id), self.clock.now());
        let expires_at = issued_at + Duration::from_secs(900);
        Person(Some(Principal { user, actor: Actor::Operator, issued_at, expires_at }))
    }

    /// The whole answer.
    async fn answer(&self, who: &Person, query: &str, variables: Value) -> Value {
        self.start_answer(who, query, variables).await.unwrap()
    }

    /// The answer's making, on a worker, as behind HTTP.
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
                Err(refusal) => serde_json::to_value(GraphQLResponse::from(refusal)).unwrap(),
            }
        })
    }

    /// The data of what must succeed.
    async fn ask(&self, who: &Person, query: &str, variables: Value) -> Value {
        let mut answer = self.answer(who, query, variables).await;
        assert!(answer.get("errors").is_none(), "{query}: {answer}");
        answer["data"].take()
    }

    /// The code of what must fail.
    async fn code(&self, who: &Person, query: &str, variables: Value) -> String {
        let answer = self.answer(who, query, variables).await;
        let code = answer["errors"][0]["extensions"]["code"].as_str();
        code.unwrap_or_else(|| panic!("{query}: no coded error in {answer}")).to_owned()
    }

    /// A home of somebody.
    async fn home(&self, owner: &Person) -> String {
        let made = self.ask(owner, "mutation { createHome(input: {name: \"Test\"}) { id } }", json!({})).await;
        text(&made["createHome"]["id"])
    }

    /// Puts somebody into a home.
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
