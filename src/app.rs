//! The composition root: everything is made here, handed what it needs, started and stopped.
//!
//! Every task is spawned on one tracker. Those that must live for the server to be of use are
//! critical: one that ends early ends the server, instead of leaving half a service. The stop goes
//! in flow order: no new requests, no new messages, drain, flush, acknowledge, disconnect.

mod ingest;
mod migrate;
mod outboxes;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use ingest::Ingest;
use migrate::migrate;
use outboxes::{Outboxes, Parts};

use crate::audit;
use crate::auth::{Tokens, TrustedIssuers};
use crate::authentication::Authenticator;
use crate::clock::Clock;
use crate::commands::{self, CommandHub, CommandOutbox, Commands, Expectations};
use crate::db::{self, Pool};
use crate::device_config::{self, ConfigHub, ConfigOutbox, DeviceConfigs, KeyRing};
use crate::devices::{CredentialCache, DeletionHub, Devices, DirectoryVersion, Logins, StateHub};
use crate::graphql::engine::Engine;
use crate::graphql::{self, Services};
use crate::homes::{self, Homes, Integrations};
use crate::http::broker_auth::{self, BrokerAuth};
use crate::http::health::{Check, Readiness};
use crate::http::pages::{self, Page};
use crate::http::{self, HttpState, Limits, Quotas};
use crate::hub::HomeChannel;
use crate::ingest::{Writer, WriterParts};
use crate::metrics::Metrics;
use crate::mqtt::Link;
use crate::mqtt::provision::Provisioner;
use crate::outbox::{Outbox, Wake};
use crate::revocation::Revocations;
use crate::settings::{DatabaseSettings, Provisioning, Secret, Settings, TrustedProxies};
use crate::telemetry::history::Readings;
use crate::telemetry::{LiveReadings, ReadingHub};
use crate::throttle::Throttle;
use crate::users::Users;

/// Longest wait for everything to end by itself.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Part of it that sockets and requests get before the broker's link is let go too.
const HTTP_DRAIN: Duration = Duration::from_secs(3);
/// Connections to the database for the questions of brokers alone.
const BROKER_AUTH_CONNECTIONS: u32 = 4;

/// What differs between `serve`, `dev` and tests.
#[derive(Clone, Default)]
pub struct Options {
    /// The wall clock.
    pub clock: Clock,
    /// A token for the GraphiQL page: on `dev` alone.
    pub graphiql_token: Option<Secret>,
    /// Leaves the database's schema as it is.
    pub skip_migrations: bool,
    /// Bounds of the HTTP surface.
    pub limits: Limits,
}

/// A running server.
pub struct App {
    http_addr: SocketAddr,
    broker_auth_addr: Option<SocketAddr>,
    services: Services,
    tokens: Tokens,
    /// Ends the HTTP surface.
    stop_http: CancellationToken,
    http_tasks: TaskTracker,
    outboxes: Outboxes,
    /// Ends the telling of accounts to the broker.
    stop_telling: CancellationToken,
    ingest: Ingest,
    /// Cancelled by a critical task that ends.
    ended: CancellationToken,
}

impl App {
    /// Migrates, connects, listens. The broker may be away: the server starts and says so in
    /// `/readyz`.
    pub async fn start(settings: Settings, options: Options) -> anyhow::Result<Self> {
        let ended = CancellationToken::new();
        let migrated = migrate(&settings.database, options.skip_migrations, &ended).await?;
        let listener = TcpListener::bind(settings.http.addr)
            .await
            .with_context(|| format!("HTTP_ADDR: can't listen on {}", settings.http.addr))?;
        let http_addr = listener.local_addr()?;

        let clock = options.clock;
        let metrics = Metrics::new();
        let pool = db::pool(&settings.database, metrics.db_statements.clone());
        let (readings, states) = (ReadingHub::default(), StateHub::default());
        let (command_hub, config_hub) = (CommandHub::default(), ConfigHub::default());
        let (expectations, command_wake, config_wake) = (Expectations::default(), Wake::default(), Wake::default());
        let (deletions, directory_version) = (DeletionHub::default(), DirectoryVersion::default());
        let key_ring = KeyRing::new(&settings.encryption);
        let tokens = Tokens::from_settings(&settings.auth, clock.clone())?;
        let issuers = TrustedIssuers::new(&settings.auth, clock.clone())?;

        let revocations = Revocations::new(clock.clone());
        let throttle = Throttle::new(settings.rate_limits);
        if !settings.rate_limits {
            tracing::warn!(
                "RATE_LIMITS=off: anybody may guess passwords, take all sockets, and any device may flood; for load tests alone"
            );
        }

        let credential_cache = CredentialCache::new(metrics.clone());
        let registry: Arc<dyn crate::devices::RegistryListener> =
            Arc::new((directory_version.clone(), credential_cache.clone()));
        let channels: [Arc<dyn HomeChannel>; 5] = [
            Arc::new(readings.clone()),
            Arc::new(states.clone()),
            Arc::new(deletions.clone()),
            Arc::new(command_hub.clone()),
            Arc::new(config_hub.clone()),
        ];
        let integrations = Integrations::new(pool.clone(), clock.clone(), tokens.clone(), revocations.clone());
        let services = Services {
            users: Users::new(
                pool.clone(),
                tokens.clone(),
                clock.clone(),
                revocations.clone(),
                throttle.clone(),
                settings.auth.registration_open,
            ),
            homes: Homes::new(
                pool.clone(),
                clock.clone(),
                registry.clone(),
                channels,
                revocations.clone(),
                throttle.clone(),
            ),
            integrations: integrations.clone(),
            devices: Devices::new(pool.clone(), clock.clone(), registry, deletions, &settings.mqtt),
            readings: Readings::new(pool.clone()),
            live_readings: LiveReadings::new(pool.clone(), readings.clone(), metrics.clone()),
            commands: Commands::new(commands::Dependencies {
                pool: pool.clone(),
                clock: clock.clone(),
                hub: command_hub.clone(),
                expectations: expectations.clone(),
                wake: command_wake.clone(),
                metrics: metrics.clone(),
            }),
            states: states.clone(),
            configs: DeviceConfigs::new(device_config::Dependencies {
                pool: pool.clone(),
                clock: clock.clone(),
                hub: config_hub.clone(),
                key_ring: key_ring.clone(),
                wake: config_wake.clone(),
                metrics: metrics.clone(),
            }),
            revocations: revocations.clone(),
            metrics: metrics.clone(),
            clock: clock.clone(),
            pool: pool.clone(),
            started: Instant::now(),
        };

        let (link, ends) =
            Link::new(settings.mqtt.clone(), clock.clone(), metrics.clone()).context("set up the MQTT link")?;
        let outboxes = Outboxes::new(Parts {
            downlink: Arc::new(ends.publisher.clone()),
            database: settings.database.clone(),
            client_id: settings.mqtt.client_id.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
            migrated: migrated.clone(),
            ended: ended.clone(),
        });
        let commands = CommandOutbox::new(command_hub.clone(), expectations.clone(), metrics.clone());
        outboxes.start(commands, command_wake.clone());
        outboxes.start(ConfigOutbox::new(config_hub.clone(), key_ring, metrics.clone()), config_wake.clone());
        let (ready, is_migrated) = (CancellationToken::new(), migrated.clone());
        let writer = Writer::new(WriterParts {
            database: settings.database.clone(),
            mqtt: settings.mqtt.clone(),
            presence_timeout: settings.presence_timeout,
            device_limit: settings.device_limit,
            link: ends,
            directory_version,
            readings,
            states,
            commands: command_hub,
            configs: config_hub,
            expectations,
            outboxes: [(CommandOutbox::NAME, command_wake), (ConfigOutbox::NAME, config_wake)],
            metrics: metrics.clone(),
            clock: clock.clone(),
            ready: ready.clone(),
        });
        let ingest = Ingest::start(link, writer, [migrated, ready], &ended)?;

        let stop_telling = CancellationToken::new();
        if let (Provisioning::Dynsec(account), Some(changes)) =
            (&settings.mqtt.provisioning, services.devices.account_changes())
        {
            let (mqtt, database) = (settings.mqtt.clone(), settings.database.clone());
            let provisioner =
                Provisioner { mqtt, account: account.clone(), database, changes, metrics: metrics.clone() };
            let (stop, is_migrated) = (stop_telling.clone(), is_migrated.clone());
            tokio::spawn(async move {
                if stop.run_until_cancelled(is_migrated.cancelled()).await.is_some() {
                    provisioner.run(stop).await;
                }
            });
        }

        let limits = if settings.rate_limits { options.limits } else { options.limits.without_quotas() };
        let (stop_http, http_tasks) = (CancellationToken::new(), TaskTracker::new());
        let broker_auth_addr = match &settings.mqtt.auth_endpoint {
            Some(endpoint) => {
                let listener = TcpListener::bind(endpoint.addr)
                    .await
                    .with_context(|| format!("MQTT_AUTH_ADDR: can't listen on {}", endpoint.addr))?;
                let addr = listener.local_addr()?;
                // Whatever the API is busy with: a broker that waits drops its devices' messages.
                let database = DatabaseSettings { pool_size: BROKER_AUTH_CONNECTIONS, ..settings.database.clone() };
                let pool = db::pool(&database, metrics.db_statements.clone());
                let router = broker_auth::router(BrokerAuth {
                    logins: Logins::new(pool, clock.clone(), credential_cache),
                    prefix: settings.mqtt.prefix.clone(),
                    server: settings.mqtt.username.clone().zip(settings.mqtt.password.clone()),
                    secret: endpoint.secret.clone(),
                    metrics: metrics.clone(),
                });
                let (limits, metrics) = (limits.clone(), metrics.clone());
                let (stop, tracker) = (stop_http.clone(), http_tasks.clone());
                let proxies = TrustedProxies::default();
                let server = http::Server { listener, router, limits, proxies, metrics, stop, tracker };
                spawn_critical(&ended, server.run());
                Some(addr)
            }
            None => None,
        };
        spawn_critical(&ended, audit::run_retention(pool.clone(), is_migrated.clone(), stop_http.clone()));
        spawn_critical(&ended, homes::run_deletion_worker(pool.clone(), is_migrated.clone(), stop_http.clone()));
        spawn_critical(&ended, services.users.clone().run_token_cleanup(is_migrated, stop_http.clone()));
        let page = Page {
            graphiql: settings.http.graphiql,
            token: options.graphiql_token.map(|token| token.reveal().to_owned()),
        };
        let state = HttpState {
            engine: Engine::new(graphql::schema(services.clone()), settings.http.introspection)
                .with_oversized_counter(metrics.graphql_answers_too_large.clone()),
            authenticator: Authenticator::new(tokens.clone(), revocations.clone())
                .with_integrations(integrations)
                .with_trusted_issuers(issuers, services.users.clone()),
            tokens: tokens.clone(),
            revocations: revocations.clone(),
            throttle,
            clock,
            metrics: metrics.clone(),
            readiness: Arc::new(Dependencies { pool, metrics: metrics.clone(), revocations: revocations.clone() }),
            sdl: settings.http.introspection.then(|| graphql::sdl().into()),
            quotas: Quotas::new(&limits, metrics.clone()),
            limits: Arc::new(limits.clone()),
            cors_origins: settings.http.cors_origins.into(),
            pages: pages::routes(page),
            stop: stop_http.clone(),
            tracker: http_tasks.clone(),
        };
        let followed = metrics.revocations_followed.clone();
        spawn_critical(&ended, revocations.follow(settings.database, followed, stop_http.clone()));
        let (proxies, stop, tracker) = (settings.http.trusted_proxies, stop_http.clone(), http_tasks.clone());
        let router = http::router(state);
        let server = http::Server { listener, router, limits, proxies, metrics, stop, tracker };
        spawn_critical(&ended, server.run());
        tracing::info!(%http_addr, "listening");
        Ok(Self {
            http_addr,
            broker_auth_addr,
            services,
            tokens,
            stop_http,
            http_tasks,
            stop_telling,
            outboxes,
            ingest,
            ended,
        })
    }

    /// Where HTTP is served.
    pub fn http_addr(&self) -> SocketAddr {
        self.http_addr
    }

    /// Where brokers ask, if they may.
    pub fn broker_auth_addr(&self) -> Option<SocketAddr> {
        self.broker_auth_addr
    }

    /// The features, for the demo home and for tests.
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// What makes tokens.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Waits until something without which the server is of no use has ended.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Stops in flow order, in at most some ten seconds.
    pub async fn stop(self) {
        self.stop_http.cancel();
        self.stop_telling.cancel();
        self.http_tasks.close();
        if timeout(HTTP_DRAIN, self.http_tasks.wait()).await.is_err() {
            tracing::warn!(n = self.http_tasks.len(), "connections did not end in time");
        }
        self.outboxes.stop().await;
        self.ingest.stop(STOP_TIMEOUT - HTTP_DRAIN).await;
        tracing::info!("stopped");
    }
}

/// Runs a task whose end is the server's end.
fn spawn_critical(ended: &CancellationToken, task: impl Future<Output = ()> + Send + 'static) {
    let guard = ended.clone().drop_guard();
    tokio::spawn(async move {
        let _guard = guard;
        task.await;
    });
}

/// What `/readyz` asks.
struct Dependencies {
    pool: Pool,
    metrics: Metrics,
    revocations: Revocations,
}

impl Readiness for Dependencies {
    fn check(&self) -> BoxFuture<'_, Vec<(&'static str, Check)>> {
        Box::pin(async {
            let (database, migrations) = match timeout(Duration::from_secs(3), db::pending(&self.pool)).await {
                Ok(Ok(0)) => (Ok(()), Ok(())),
                Ok(Ok(_)) => (Ok(()), Err("migrations are pending: run `smarthome migrate`")),
                Ok(Err(_)) | Err(_) => (Err("the database does not answer"), Err("unknown while the database is away")),
            };
            let broker =
                if self.metrics.mqtt_connected.get() == 1 { Ok(()) } else { Err("no link to the MQTT broker") };
            let revocations = match self.revocations.is_current() {
                true => Ok(()),
                false => Err("what has ended elsewhere can't be read: no access token is taken"),
            };
            vec![("database", database), ("migrations", migrations), ("broker", broker), ("revocations", revocations)]
        })
    }
}
