//! PostgreSQL: connections with TLS and time-outs, the API's pool, the embedded migrations.

mod json;
pub mod locks;
mod memory_budget;
mod reconnecting;
pub mod schema;
mod spawn;
mod statement;
mod timeout;
mod transaction;

use std::time::Duration;

pub use json::JsonText;
pub use memory_budget::{MAX_OPERATION_BYTES, MemoryBudget, MemorySize, collect_bounded};
pub use reconnecting::ReconnectingConnection;
pub use spawn::spawn_and_join;
pub use statement::{Template, parameters, statement};
pub use timeout::with_timeout;
pub use transaction::{Transaction, run_to_completion, transaction};

use diesel::connection::{Instrumentation, InstrumentationEvent};
use diesel::migration::MigrationSource;
use diesel::sql_types::Text;
use diesel::{ConnectionError, ConnectionResult, QueryDsl, QueryResult};
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod};
use diesel_async::{AsyncConnection, AsyncMigrationHarness, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use prometheus_client::metrics::counter::Counter;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::{Chain, Error};
use crate::settings::{DatabaseSettings, DatabaseUrl};
use crate::tls;

/// The schema's history, compiled in.
pub const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Limit on a statement of the API.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request waits for a free connection before it is told UNAVAILABLE.
const POOL_WAIT: Duration = Duration::from_secs(2);

/// A connection, as store functions take it.
pub type Connection = AsyncPgConnection;
/// The API's connections.
pub type Pool = bb8::Pool<AsyncDieselConnectionManager<AsyncPgConnection>>;
/// One of them.
pub type PooledConnection<'a> = bb8::PooledConnection<'a, AsyncDieselConnectionManager<AsyncPgConnection>>;

/// Whether a statement failed because a value must be unique and is not.
pub fn is_unique_violation(error: &diesel::result::Error) -> bool {
    use diesel::result::{DatabaseErrorKind, Error};
    matches!(error, Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _))
}

/// The foreign key a statement would have violated: what it names has gone meanwhile.
pub fn violated_foreign_key(error: &diesel::result::Error) -> Option<&str> {
    use diesel::result::{DatabaseErrorKind, Error};
    match error {
        Error::DatabaseError(DatabaseErrorKind::ForeignKeyViolation, info) => {
            Some(info.constraint_name().unwrap_or_default())
        }
        _ => None,
    }
}

/// Opens one connection outside the pool.
///
/// `statement_timeout` bounds each statement on the server's side; `None` for migrations.
pub async fn connect(url: &str, statement_timeout: Option<Duration>) -> ConnectionResult<AsyncPgConnection> {
    let bad = |error: tokio_postgres::Error| ConnectionError::BadConnection(error.to_string());
    let DatabaseUrl { url, root_cert } = DatabaseUrl::split(url);
    let mut config: tokio_postgres::Config = url.parse().map_err(bad)?;
    // Planning over many partitions costs more than running the query: plan once, prune at run time.
    // And should this machine vanish without a word, the database lets go of our locks in a minute.
    let mut options = config.get_options().unwrap_or_default().to_owned();
    options.push_str(
        " -c plan_cache_mode=force_generic_plan -c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 \
         -c tcp_keepalives_count=3",
    );
    if let Some(timeout) = statement_timeout {
        options.push_str(&format!(" -c statement_timeout={} -c lock_timeout=2000", timeout.as_millis()));
    }
    config.options(options.trim()).connect_timeout(CONNECT_TIMEOUT);
    if config.get_application_name().is_none() {
        config.application_name("smarthome");
    }
    // A peer that vanished without a word is noticed in about a minute, not in two hours.
    config.keepalives_idle(Duration::from_secs(30)).tcp_user_timeout(Duration::from_secs(30));
    let tls = tls::client_config(root_cert.as_deref())
        .map_err(|error| ConnectionError::BadConnection(format!("sslrootcert: {error}")))?
        .with_no_client_auth();
    let connecting = config.connect(MakeRustlsConnect::new(tls));
    let (client, connection) = tokio::time::timeout(CONNECT_TIMEOUT, connecting)
        .await
        .map_err(|_| ConnectionError::BadConnection("no answer within the connect time-out".to_owned()))?
        .map_err(bad)?;
    AsyncPgConnection::try_from_client_and_connection(client, connection).await
}

/// The API's pool. It opens its connections when they are needed, so a database that is away does
/// not stop the start; `statements` counts what goes through it.
pub fn pool(settings: &DatabaseSettings, statements: Counter) -> Pool {
    let mut config = ManagerConfig::default();
    config.recycling_method = RecyclingMethod::Fast;
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

/// bb8 tells its callers "timed out" for a dead database and an empty pool alike; the reason is here.
#[derive(Debug, Clone)]
struct LogConnectErrors;

impl bb8::ErrorSink<diesel_async::pooled_connection::PoolError> for LogConnectErrors {
    fn sink(&self, error: diesel_async::pooled_connection::PoolError) {
        tracing::warn!(error = %crate::error::Chain(&error), "a pooled database connection failed");
    }

    fn boxed_clone(&self) -> Box<dyn bb8::ErrorSink<diesel_async::pooled_connection::PoolError>> {
        Box::new(self.clone())
    }
}

/// Whether the database answers now.
pub async fn answers(pool: &Pool) -> bool {
    const PATIENCE: Duration = Duration::from_secs(1);
    let ask = async {
        let mut conn = pool.get().await.ok()?;
        conn.batch_execute("select 1").await.ok()
    };
    matches!(tokio::time::timeout(PATIENCE, ask).await, Ok(Some(())))
}

struct CountStatements(Counter);

impl Instrumentation for CountStatements {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        if let InstrumentationEvent::StartQuery { .. } = event {
            self.0.inc();
        }
    }
}

/// Runs pending migrations under an advisory lock and returns their names.
pub async fn migrate(settings: &DatabaseSettings) -> Result<Vec<String>, Error> {
    let mut conn = connect(settings.url.reveal(), None).await.map_err(Error::unavailable)?;
    // The lock goes with the connection, whatever happens.
    conn.batch_execute(&format!("select pg_advisory_lock({})", locks::MIGRATION)).await?;
    // The harness blocks its thread.
    tokio::task::spawn_blocking(move || {
        let mut harness = AsyncMigrationHarness::new(conn);
        let applied = harness.run_pending_migrations(MIGRATIONS).map_err(Error::Internal)?;
        Ok(applied.iter().map(ToString::to_string).collect())
    })
    .await
    .map_err(Error::internal)?
}

/// Whether this build has a migration that the database does not have.
pub async fn has_pending(pool: &Pool) -> Result<bool, Error> {
    diesel::table! { __diesel_schema_migrations (version) { version -> Text, } }

    let mut conn = pool.get().await?;
    let applied: Vec<String> =
        __diesel_schema_migrations::table.select(__diesel_schema_migrations::version).load(&mut conn).await?;
    let known = MigrationSource::<diesel::pg::Pg>::migrations(&MIGRATIONS).map_err(Error::Internal)?;
    Ok(known.iter().any(|migration| !applied.contains(&migration.name().version().to_string())))
}

/// Warns if PostgreSQL does not report errors in English: some are told apart by their text, because no SQLSTATE
/// reaches us (see [`crate::error`]).
pub async fn warn_about_message_language(settings: &DatabaseSettings) {
    statement! { struct ShowMessageLanguage("sql/message_language.sql") -> Text {} }
    let language: QueryResult<String> = match connect(settings.url.reveal(), Some(STATEMENT_TIMEOUT)).await {
        Ok(mut conn) => ShowMessageLanguage {}.get_result(&mut conn).await,
        Err(error) => return tracing::debug!(error = %Chain(&error), "the language of messages is not known"),
    };
    match language {
        Ok(language) if is_english(&language) => {}
        Ok(language) => tracing::warn!(
            lc_messages = language,
            "PostgreSQL reports errors in another language than English: a deadlock or a time-out is then reported \
             to clients as INTERNAL instead of UNAVAILABLE. As its superuser: alter role … set lc_messages = 'C'"
        ),
        Err(error) => tracing::debug!(error = %Chain(&error), "the language of messages is not known"),
    }
}

fn is_english(language: &str) -> bool {
    ["C", "POSIX"].contains(&language) || language.starts_with("C.") || language.starts_with("en")
}
