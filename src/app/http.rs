//! The HTTP surfaces: the API, and the endpoint at which brokers check passwords.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use tokio::net::TcpListener;

use super::readiness::Dependencies;
use super::tasks::Tasks;
use super::{Options, Parts};
use crate::auth::TrustedIssuers;
use crate::authentication::Authenticator;
use crate::db::{self, PoolMetrics};
use crate::devices::Logins;
use crate::graphql;
use crate::graphql::engine::Engine;
use crate::http::broker_auth::{self, BrokerAuth};
use crate::http::pages::{self, Page};
use crate::http::{self, HttpState, Limits, Quotas, RequestLog, ServerTls};
use crate::request_memory::RequestMemory;
use crate::settings::{AuthEndpoint, DatabaseSettings, Secret, TrustedProxies};

/// Database connections for brokers' requests alone.
const BROKER_AUTH_CONNECTIONS: u32 = 4;

/// The running HTTP servers.
pub(super) struct Http {
    pub(super) addr: SocketAddr,
    pub(super) broker_auth_addr: Option<SocketAddr>,
    tasks: Tasks,
}

/// Listens on an address; the error names the setting.
pub(super) async fn bind(setting: &str, addr: SocketAddr) -> anyhow::Result<TcpListener> {
    http::listen(addr).with_context(|| format!("{setting}: can't listen on {addr}"))
}

impl Http {
    /// Serves the API on `listener` and, if it is configured, the brokers' endpoint.
    pub(super) async fn start(
        parts: &Parts,
        options: Options,
        listener: TcpListener,
        tasks: Tasks,
    ) -> anyhow::Result<Self> {
        let limits = if parts.settings.rate_limits { options.limits.clone() } else { options.limits.without_quotas() };
        let starter = Starter { parts, limits, tasks: &tasks };
        let files = parts.settings.http.tls.as_ref();
        let tls = files.map(|files| ServerTls::read(files, parts.base.metrics.clone())).transpose()?;
        if let Some(tls) = tls.clone() {
            tasks.critical("the TLS certificate", tls.follow_files(tasks.stop.clone()));
        }
        let broker_auth_addr = match &parts.settings.mqtt.auth_endpoint {
            Some(endpoint) => Some(starter.serve_brokers(endpoint, tls.clone()).await?),
            None => None,
        };
        let addr = listener.local_addr()?;
        let router = http::router(starter.api_state(options.graphiql_token)?);
        starter.serve("the HTTP API", listener, tls, router, parts.settings.http.trusted_proxies.clone());
        tracing::info!(http_addr = %addr, "listening");
        Ok(Self { addr, broker_auth_addr, tasks })
    }

    /// Closes the listeners, then waits for connections and sockets.
    pub(super) async fn stop(self, limit: Duration) {
        if !self.tasks.stop(limit).await {
            tracing::warn!(n = self.tasks.tracker.len(), "connections did not end in time");
        }
    }
}

/// What both surfaces are started with.
struct Starter<'a> {
    parts: &'a Parts,
    limits: Limits,
    tasks: &'a Tasks,
}

impl Starter<'_> {
    fn serve(
        &self,
        name: &'static str,
        listener: TcpListener,
        tls: Option<ServerTls>,
        router: Router,
        proxies: TrustedProxies,
    ) {
        let (stop, tracker) = (self.tasks.stop.clone(), self.tasks.tracker.clone());
        let metrics = self.parts.base.metrics.clone();
        let server =
            http::Server { listener, tls, router, limits: self.limits.clone(), proxies, metrics, stop, tracker };
        self.tasks.critical(name, server.run());
    }

    /// Serves the brokers' endpoint, and returns its address. Passwords of devices leave this machine only by TLS: a broker on
    /// the same machine needs none, and the certificate would not have the name that it uses.
    async fn serve_brokers(&self, endpoint: &AuthEndpoint, tls: Option<ServerTls>) -> anyhow::Result<SocketAddr> {
        let listener = bind("MQTT_AUTH_ADDR", endpoint.addr).await?;
        let addr = listener.local_addr()?;
        let tls = tls.filter(|_| !addr.ip().is_loopback());
        if tls.is_none() && !addr.ip().is_loopback() {
            tracing::warn!(
                %addr,
                "MQTT_AUTH_ADDR: the passwords of devices cross the network unencrypted; set HTTP_TLS_CERT_FILE and \
                 HTTP_TLS_KEY_FILE, or use a loopback address"
            );
        }
        let router = broker_auth(self.parts, endpoint);
        self.serve("the brokers' endpoint", listener, tls, router, TrustedProxies::default());
        Ok(addr)
    }

    fn api_state(&self, graphiql_token: Option<Secret>) -> anyhow::Result<HttpState> {
        let Parts { settings, base, hubs, services, .. } = self.parts;
        let issuers = TrustedIssuers::new(&settings.auth, base.clock.clone())?;
        let page =
            Page { graphiql: settings.http.graphiql, token: graphiql_token.map(|token| token.reveal().to_owned()) };
        Ok(HttpState {
            engine: Engine::new(graphql::schema(services.clone()), settings.http.introspection)
                .with_memory(RequestMemory::new(self.limits.memory, base.metrics.clone()))
                .with_turns(base.operation_turns.clone(), base.statement_turns.clone())
                .with_times(base.metrics.graphql_operations.clone())
                .with_oversized_counter(base.metrics.graphql_answers_too_large.clone()),
            authenticator: Authenticator::new(base.tokens.clone(), base.revocations.clone())
                .with_integrations(services.integrations.clone())
                .with_trusted_issuers(issuers, services.users.clone()),
            tokens: base.tokens.clone(),
            revocations: base.revocations.clone(),
            throttle: base.throttle.clone(),
            clock: base.clock.clone(),
            metrics: base.metrics.clone(),
            readiness: Arc::new(Dependencies { base: base.clone(), standby: hubs.standby.clone() }),
            sdl: settings.http.introspection.then(|| graphql::sdl().into()),
            quotas: Quotas::new(&self.limits, base.metrics.clone()),
            limits: Arc::new(self.limits.clone()),
            traces: base.traces.clone(),
            log_requests: RequestLog::new(settings.http.log_requests, base.metrics.clone()),
            cors: Arc::new(settings.http.cors.clone()),
            graphiql: page.graphiql,
            pages: pages::routes(page),
            stop: self.tasks.stop.clone(),
            tracker: self.tasks.tracker.clone(),
        })
    }
}

/// The endpoint has a pool of its own, so that it answers while the API is busy: a broker that waits drops its
/// devices' messages.
fn broker_auth(parts: &Parts, endpoint: &AuthEndpoint) -> Router {
    let Parts { settings, base, hubs, .. } = parts;
    let database = DatabaseSettings { pool_size: BROKER_AUTH_CONNECTIONS, ..settings.database.clone() };
    let metrics = PoolMetrics { statements: base.metrics.db_statements.clone(), ..PoolMetrics::default() };
    let pool = db::pool(&database, base.frozen.clone(), metrics);
    broker_auth::router(BrokerAuth {
        logins: Logins::new(pool, base.clock.clone(), hubs.credential_cache.clone()),
        prefix: settings.mqtt.prefix.clone(),
        server: settings.mqtt.username.clone().zip(settings.mqtt.password.clone()),
        secret: endpoint.secret.clone(),
        metrics: base.metrics.clone(),
    })
}
