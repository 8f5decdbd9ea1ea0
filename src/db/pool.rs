//! The API's pool of connections.

use std::pin::Pin;
use std::time::{Duration, Instant};

use diesel::connection::{Instrumentation, InstrumentationEvent};
use diesel::result::DatabaseErrorKind;
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, PoolError, PoolableConnection, RecyclingMethod,
};
use diesel_async::{AsyncConnection, SimpleAsyncConnection};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::connection::connect_until_frozen;
use super::{Connection, Frozen};
use crate::error::Chain;
use crate::metrics::{Latency, Timer};
use crate::settings::DatabaseSettings;

/// Limit on a statement of the API.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request waits for a free connection before it fails with UNAVAILABLE.
const POOL_WAIT: Duration = Duration::from_millis(1800);
/// How long [`is_reachable`] waits.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

type Manager = AsyncDieselConnectionManager<Connection>;
pub type PooledConnection<'a> = bb8::PooledConnection<'a, Manager>;
type Taken<'a> = Result<PooledConnection<'a>, bb8::RunError<PoolError>>;

/// What is measured of a pool. The default is read by nobody.
#[derive(Clone, Default)]
pub struct PoolMetrics {
    pub statements: Counter,
    pub statement_time: Latency,
    /// Time until a connection is given out, or refused.
    pub wait: Latency,
    /// Callers that wait for a connection.
    pub waiting: Gauge,
}

/// The API's connections. Cheap to clone; all clones share them.
#[derive(Clone)]
pub struct Pool {
    connections: bb8::Pool<Manager>,
    frozen: Frozen,
    metrics: PoolMetrics,
}

/// A caller that waits for a connection.
struct Waiting<'a> {
    waiting: &'a Gauge,
    _timer: Timer,
}

impl<'a> Waiting<'a> {
    fn begin(metrics: &'a PoolMetrics) -> Self {
        metrics.waiting.inc();
        Self { waiting: &metrics.waiting, _timer: metrics.wait.start() }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.waiting.dec();
    }
}

impl Pool {
    /// The open connections: those in use, and those that are idle.
    pub fn connections(&self) -> (u32, u32) {
        let state = self.connections.state();
        (state.connections.saturating_sub(state.idle_connections), state.idle_connections)
    }

    /// A free connection. Fails when none is free in time, and at once while the database is frozen.
    pub async fn get(&self) -> Taken<'_> {
        self.unless_frozen(Box::pin(self.connections.get())).await
    }

    /// A connection that does not borrow the pool.
    pub async fn get_owned(&self) -> Taken<'static> {
        self.unless_frozen(Box::pin(self.connections.get_owned())).await
    }

    /// The futures are in boxes because this one is part of every resolver's, which nest deeply on the stack.
    async fn unless_frozen<'a>(&self, taken: Pin<Box<dyn Future<Output = Taken<'a>> + Send + '_>>) -> Taken<'a> {
        let _waiting = Waiting::begin(&self.metrics);
        tokio::select! {
            biased;
            taken = taken => taken,
            () = async { Box::pin(self.frozen.wait()).await } => Err(bb8::RunError::TimedOut),
        }
    }
}

/// The API's pool. It opens its connections when they are needed, so the server starts while the database is away.
/// All connections are closed when the database freezes.
pub fn pool(settings: &DatabaseSettings, frozen: Frozen, metrics: PoolMetrics) -> Pool {
    let mut config = ManagerConfig::default();
    // A connection may be closed while it is idle, as by a restart of the database. This looks at its state only: a
    // round trip for each use would cost more.
    config.recycling_method = RecyclingMethod::CustomFunction(Box::new(|conn: &mut Connection| {
        let is_usable = if conn.is_broken() { Err(closed_while_idle()) } else { Ok(()) };
        Box::pin(std::future::ready(is_usable))
    }));
    let (watched, measured) = (frozen.clone(), metrics.clone());
    config.custom_setup = Box::new(move |url| {
        let (url, frozen) = (url.to_owned(), watched.clone());
        let statements = Statements::new(&measured);
        Box::pin(async move {
            let mut conn = connect_until_frozen(&url, STATEMENT_TIMEOUT, frozen).await?;
            conn.set_instrumentation(statements);
            Ok(conn)
        })
    });
    let manager = AsyncDieselConnectionManager::new_with_config(settings.url.reveal(), config);
    let connections = bb8::Pool::builder()
        .max_size(settings.pool_size)
        .connection_timeout(POOL_WAIT)
        .idle_timeout(Some(Duration::from_secs(300)))
        // Of few connections in use each has its plans and caches in the processor's.
        .queue_strategy(bb8::QueueStrategy::Lifo)
        .error_sink(Box::new(LogConnectErrors))
        .build_unchecked(manager);
    Pool { connections, frozen, metrics }
}

/// The pool drops the connection and takes another.
fn closed_while_idle() -> diesel::result::Error {
    let message = "it was closed while it was idle".to_owned();
    diesel::result::Error::DatabaseError(DatabaseErrorKind::ClosedConnection, Box::new(message))
}

/// bb8 reports a time-out to its callers, whatever the reason; the reason is logged here.
#[derive(Debug, Clone)]
struct LogConnectErrors;

impl bb8::ErrorSink<PoolError> for LogConnectErrors {
    fn sink(&self, error: PoolError) {
        tracing::warn!(error = %Chain(&error), "a pooled database connection failed");
    }

    fn boxed_clone(&self) -> Box<dyn bb8::ErrorSink<PoolError>> {
        Box::new(self.clone())
    }
}

/// Whether the database answers at the moment.
pub async fn is_reachable(pool: &Pool) -> bool {
    let probe = async {
        let mut conn = pool.get().await.ok()?;
        conn.batch_execute("select 1").await.ok()
    };
    matches!(tokio::time::timeout(PROBE_TIMEOUT, probe).await, Ok(Some(())))
}

/// Counts and measures the statements of one connection, which sends one at a time.
struct Statements {
    count: Counter,
    time: Latency,
    began: Option<Instant>,
}

impl Statements {
    fn new(metrics: &PoolMetrics) -> Self {
        Self { count: metrics.statements.clone(), time: metrics.statement_time.clone(), began: None }
    }
}

impl Instrumentation for Statements {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        match event {
            InstrumentationEvent::StartQuery { .. } => {
                self.count.inc();
                self.began = Some(Instant::now());
            }
            InstrumentationEvent::FinishQuery { .. } => {
                if let Some(began) = self.began.take() {
                    self.time.observe(began.elapsed());
                }
            }
            _ => {}
        }
    }
}
