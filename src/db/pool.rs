//! The API's pool of connections.

use std::time::Duration;

use diesel::connection::{Instrumentation, InstrumentationEvent};
use diesel::result::DatabaseErrorKind;
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, PoolError, PoolableConnection, RecyclingMethod,
};
use diesel_async::{AsyncConnection, SimpleAsyncConnection};
use prometheus_client::metrics::counter::Counter;

use super::{Connection, connect};
use crate::error::Chain;
use crate::settings::DatabaseSettings;

/// Limit on a statement of the API.
pub(super) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request waits for a free connection before it fails with UNAVAILABLE.
const POOL_WAIT: Duration = Duration::from_secs(2);
/// How long [`is_reachable`] waits.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// The API's connections.
pub type Pool = bb8::Pool<AsyncDieselConnectionManager<Connection>>;
pub type PooledConnection<'a> = bb8::PooledConnection<'a, AsyncDieselConnectionManager<Connection>>;

/// The API's pool. It opens its connections when they are needed, so the server starts while the database is away.
/// `statements` counts the statements of the pool.
pub fn pool(settings: &DatabaseSettings, statements: Counter) -> Pool {
    let mut config = ManagerConfig::default();
    // A connection may be closed while it is idle, as by a restart of the database. This looks at its state only: a
    // round trip for each use would cost more.
    config.recycling_method = RecyclingMethod::CustomFunction(Box::new(|conn: &mut Connection| {
        let is_usable = if conn.is_broken() { Err(closed_while_idle()) } else { Ok(()) };
        Box::pin(std::future::ready(is_usable))
    }));
    config.custom_setup = Box::new(move |url| {
        let (url, statements) = (url.to_owned(), statements.clone());
        Box::pin(async move {
            let mut conn = connect(&url, Some(STATEMENT_TIMEOUT)).await?;
            conn.set_instrumentation(CountStatements(statements));
            Ok(conn)
        })
    });
    let manager = AsyncDieselConnectionManager::new_with_config(settings.url.reveal(), config);
    bb8::Pool::builder()
        .max_size(settings.pool_size)
        .connection_timeout(POOL_WAIT)
        .idle_timeout(Some(Duration::from_secs(300)))
        .error_sink(Box::new(LogConnectErrors))
        .build_unchecked(manager)
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

struct CountStatements(Counter);

impl Instrumentation for CountStatements {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        if let InstrumentationEvent::StartQuery { .. } = event {
            self.0.inc();
        }
    }
}
