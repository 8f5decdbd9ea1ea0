//! The composition root: makes every part of the server, hands it what it needs, starts and stops it.
//!
//! Every task belongs to a group of `Tasks` that is awaited at the stop; the MQTT connection and the writer have
//! a thread of their own. Critical tasks are those without which the server is of no use: when one ends early, the
//! server ends instead of running in part. The stop follows the flow: no new requests, no new messages, drain,
//! flush, acknowledge, disconnect.

mod background;
mod base;
mod check;
mod clock_check;
mod http;
mod hubs;
mod ingest;
mod migrate;
mod outboxes;
mod readiness;
mod series;
mod services;
mod start_line;
mod tasks;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use base::Base;
pub use check::{check, settings_of_serve};
pub use clock_check::compare_clocks;
pub use hubs::Hubs;

use self::http::Http;
use self::ingest::Ingest;
use self::migrate::migrate;
use self::outboxes::Outboxes;
use self::tasks::Tasks;
use crate::auth::Tokens;
use crate::clock::Clock;
use crate::graphql::Services;
use crate::http::Limits;
use crate::latch::Latch;
use crate::mqtt::Publisher;
use crate::settings::{Secret, Settings};

/// Longest stop, apart from the dispatchers' wait for confirmations.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Part of it for requests and sockets, before the connection to the broker is closed too.
const HTTP_DRAIN: Duration = Duration::from_secs(3);
/// Longest wait for background tasks, which were cancelled first.
const BACKGROUND_STOP: Duration = Duration::from_secs(1);

/// What differs between `serve`, `dev` and tests.
#[derive(Clone, Default)]
pub struct Options {
    pub clock: Clock,
    /// A token for the GraphiQL page, in `dev` only.
    pub graphiql_token: Option<Secret>,
    /// Leaves the database's schema as it is.
    pub skip_migrations: bool,
    /// Limits of the HTTP surface.
    pub limits: Limits,
}

/// What the parts of the server are made from.
struct Parts {
    settings: Settings,
    base: Base,
    hubs: Hubs,
    services: Services,
    /// Set when the schema is up to date.
    migrated: Latch,
}

/// A running server.
pub struct App {
    services: Services,
    tokens: Tokens,
    http: Http,
    outboxes: Outboxes,
    ingest: Ingest,
    background: Tasks,
    /// The exporter of traces, which stops last.
    exports: Tasks,
}

impl App {
    /// Migrates, connects, listens, with settings that were checked. The broker and the database may be away: the server starts
    /// and reports it in `/readyz`.
    pub async fn start(settings: Settings, options: Options) -> anyhow::Result<Self> {
        start_line::log(&settings);
        let background = Tasks::default();
        let migrated = migrate(&settings.database, options.skip_migrations, &background).await?;
        let listener = http::bind("HTTP_ADDR", settings.http.addr).await?;
        if !settings.rate_limits {
            tracing::warn!("RATE_LIMITS=off: passwords can be guessed and devices can flood; for load tests only");
        }
        let (base, exporter) = Base::new(&settings, options.clock.clone())?.with_traces(&settings)?;
        let exports = background.group();
        if let Some(exporter) = exporter {
            exports.critical("the exporter of traces", exporter.run(exports.stop.clone()));
        }
        let hubs = Hubs::new(&base.metrics);
        let services = Services::build(&base, &hubs, &settings);
        let parts = Parts { settings, base, hubs, services, migrated };

        let Parts { settings: Settings { mqtt, .. }, base, .. } = &parts;
        let publisher = Publisher::new(mqtt.prefix.clone(), base.clock.clone(), base.metrics.clone());
        let outboxes = Outboxes::start(&parts, Arc::new(publisher.clone()), background.group());
        let ingest = Ingest::start(&parts, publisher, &background.ended)?;
        background::start(&parts, &background);
        let http = Http::start(&parts, options, listener, background.group()).await?;
        let Parts { base, services, .. } = parts;
        Ok(Self { services, tokens: base.tokens, http, outboxes, ingest, background, exports })
    }

    /// Where the API is served.
    pub fn http_addr(&self) -> SocketAddr {
        self.http.addr
    }

    /// Where brokers check passwords, if `MQTT_AUTH_ADDR` is set.
    pub fn broker_auth_addr(&self) -> Option<SocketAddr> {
        self.http.broker_auth_addr
    }

    pub fn services(&self) -> &Services {
        &self.services
    }

    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Waits until a critical task has ended.
    pub async fn ended(&self) {
        self.background.ended.wait().await;
    }

    /// Stops in the order of the flow.
    pub async fn stop(self) {
        self.background.stop.cancel();
        self.http.stop(HTTP_DRAIN).await;
        self.outboxes.stop().await;
        self.ingest.stop(STOP_TIMEOUT - HTTP_DRAIN).await;
        if !self.background.stop(BACKGROUND_STOP).await {
            tracing::warn!(n = self.background.tracker.len(), "background tasks did not end in time");
        }
        if !self.exports.stop(BACKGROUND_STOP).await {
            tracing::warn!("the last traces were not sent in time");
        }
        tracing::info!("stopped");
    }
}
