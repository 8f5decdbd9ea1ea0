//! What every part of the server shares.

use super::series;
use crate::auth::Tokens;
use crate::clock::Clock;
use crate::db::{self, Frozen, Pool, PoolMetrics};
use crate::ingest;
use crate::mail::Mailer;
use crate::metrics::{Metrics, PoolState};
use crate::revocation::Revocations;
use crate::settings::{DatabaseSettings, Settings, SettingsError};
use crate::throttle::Throttle;
use crate::traces::{Exporter, Traces};
use crate::turns::{TurnLimits, Turns};

/// The shared base of the services and the background tasks.
#[derive(Clone)]
pub struct Base {
    pub database: DatabaseSettings,
    pub clock: Clock,
    pub metrics: Metrics,
    /// Written by ingest, read by `/readyz`.
    pub ingest_progress: ingest::Progress,
    pub pool: Pool,
    /// Whether the database is frozen.
    pub frozen: Frozen,
    pub throttle: Throttle,
    /// Of queries and mutations.
    pub operation_turns: Turns,
    /// Of the statements of these.
    pub statement_turns: Turns,
    /// Of subscriptions that read from the database.
    pub subscription_turns: Turns,
    pub tokens: Tokens,
    pub revocations: Revocations,
    /// `None` if the server sends no mail.
    pub mailer: Option<Mailer>,
    /// Records nothing without a collector.
    pub traces: Traces,
}

impl Base {
    /// Connects to nothing yet: the pool opens its connections when they are needed. Records no traces.
    pub fn new(settings: &Settings, clock: Clock) -> Result<Self, SettingsError> {
        let metrics = Metrics::new();
        series::begin(&metrics);
        let turns = |limits| if settings.rate_limits { Turns::new(limits, metrics.clone()) } else { Turns::default() };
        let frozen = Frozen::default();
        let pool = db::pool(&settings.database, frozen.clone(), pool_metrics(&metrics));
        sample_pool(&pool, settings.database.pool_size, &metrics);
        Ok(Self {
            database: settings.database.clone(),
            pool,
            frozen,
            throttle: Throttle::new(settings.rate_limits),
            operation_turns: turns(TurnLimits::of_operations(settings.database.pool_size)),
            statement_turns: turns(TurnLimits::of_statements(settings.database.pool_size)),
            subscription_turns: turns(TurnLimits::of_subscriptions()),
            tokens: Tokens::from_settings(&settings.auth, clock.clone())?,
            revocations: Revocations::new(clock.clone()),
            mailer: settings.mail.as_ref().map(|mail| Mailer::new(mail, metrics.clone())).transpose()?,
            ingest_progress: ingest::Progress::new(
                metrics.ingest_oldest_unstored.clone(),
                metrics.ingest_parked.clone(),
            ),
            metrics,
            clock,
            traces: Traces::default(),
        })
    }

    /// Records traces if there is a collector, to which the exporter sends them.
    pub(super) fn with_traces(self, settings: &Settings) -> Result<(Self, Option<Exporter>), SettingsError> {
        let Some(settings) = &settings.traces else { return Ok((self, None)) };
        let (traces, exporter) = Traces::new(settings, self.clock.clone(), self.metrics.clone())?;
        Ok((Self { traces, ..self }, Some(exporter)))
    }
}

/// The metrics of the API's pool.
fn pool_metrics(metrics: &Metrics) -> PoolMetrics {
    PoolMetrics {
        statements: metrics.db_statements.clone(),
        statement_time: metrics.db_statement_time.clone(),
        wait: metrics.db_pool_wait.clone(),
        waiting: metrics.db_pool_waiting.clone(),
    }
}

/// Shows in the metrics what the connections of the pool do.
fn sample_pool(pool: &Pool, limit: u32, metrics: &Metrics) {
    metrics.db_pool_limit.set(i64::from(limit));
    for (state, is_idle) in [("busy", false), ("idle", true)] {
        let (gauge, pool) = (metrics.db_pool_connections.get_or_create(&PoolState { state }).clone(), pool.clone());
        gauge.read_from(move || {
            let (busy, idle) = pool.connections();
            f64::from(if is_idle { idle } else { busy })
        });
    }
}
