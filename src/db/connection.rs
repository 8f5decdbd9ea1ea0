//! Connections with TLS and time-outs.

use std::time::Duration;

use diesel::{ConnectionError, ConnectionResult};
use diesel_async::AsyncPgConnection;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Socket};

use super::Frozen;
use super::tls::OfferedTls;
use crate::error::Chain;
use crate::settings::{DatabaseUrl, SettingsError};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// What moves the bytes of a connection, with or without TLS.
type Driver = tokio_postgres::Connection<Socket, <OfferedTls as MakeTlsConnect<Socket>>::Stream>;

/// A connection, as the functions of a store take it.
pub type Connection = AsyncPgConnection;

/// Why a connection could not be opened, with every cause.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConnectError {
    message: String,
    /// PostgreSQL's code, if it answered.
    sqlstate: Option<SqlState>,
}

impl ConnectError {
    fn new(message: String) -> Self {
        Self { message, sqlstate: None }
    }

    /// PostgreSQL's code; empty if it did not answer.
    pub fn sqlstate(&self) -> &str {
        self.sqlstate.as_ref().map_or("", SqlState::code)
    }

    /// The wrong setting, where PostgreSQL refuses the account or has no such database: waiting does not help.
    pub fn refused_setting(&self) -> Option<SettingsError> {
        let code = self.sqlstate();
        // Class 28: invalid authorization. 3D000: no such database. 42501: the account may not connect to it.
        let is_refusal = code.starts_with("28") || ["3D000", "42501"].contains(&code);
        let problem = format!("PostgreSQL refuses it: {self}");
        is_refusal.then(|| SettingsError { name: "DATABASE_URL".to_owned(), problem })
    }
}

impl From<tokio_postgres::Error> for ConnectError {
    fn from(error: tokio_postgres::Error) -> Self {
        let answer = error.as_db_error();
        let message = match answer {
            Some(answer) => format!("{} (SQLSTATE {})", answer.message(), answer.code().code()),
            None => Chain(&error).to_string(),
        };
        Self { message, sqlstate: answer.map(|answer| answer.code().clone()) }
    }
}

impl From<ConnectionError> for ConnectError {
    fn from(error: ConnectionError) -> Self {
        Self::new(error.to_string())
    }
}

impl From<ConnectError> for ConnectionError {
    fn from(error: ConnectError) -> Self {
        Self::BadConnection(error.message)
    }
}

/// Opens one connection outside the pool.
///
/// The database cancels statements that take longer than `statement_timeout`; `None` for migrations.
pub async fn connect(url: &str, statement_timeout: Option<Duration>) -> Result<Connection, ConnectError> {
    let (client, connection) = open(url, statement_timeout).await?;
    Ok(AsyncPgConnection::try_from_client_and_connection(client, connection).await?)
}

/// Opens one connection that is closed when the database freezes: what waits for its answer fails then.
pub(super) async fn connect_until_frozen(
    url: &str,
    statement_timeout: Duration,
    frozen: Frozen,
) -> ConnectionResult<Connection> {
    let (client, connection) = open(url, Some(statement_timeout)).await?;
    tokio::spawn(async move {
        tokio::select! {
            closed = connection => if let Err(error) = closed {
                tracing::debug!(error = %Chain(&error), "a pooled database connection was closed");
            },
            () = frozen.wait() => {}
        }
    });
    AsyncPgConnection::try_from(client).await
}

/// Opens one connection for the driver's own client. It is closed when the client is dropped.
pub(super) async fn open_in_background(url: &str, statement_timeout: Duration) -> Result<Client, ConnectError> {
    let (client, connection) = open(url, Some(statement_timeout)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = %Chain(&error), "a database connection was closed");
        }
    });
    Ok(client)
}

async fn open(url: &str, statement_timeout: Option<Duration>) -> Result<(Client, Driver), ConnectError> {
    let DatabaseUrl { url, root_cert } = DatabaseUrl::split(url);
    let mut config: tokio_postgres::Config = url.parse()?;
    // Planning over many partitions costs more than running the query: plan once, prune at run time. With keepalives
    // the database notices within a minute that this machine is gone, and releases its locks. None is sent
    // while an answer is not acknowledged: `tcp_user_timeout` is for those.
    let mut options = config.get_options().unwrap_or_default().to_owned();
    // The default cost of a random page is that of a spinning disk: with it a page of a home's devices reads whole
    // tables. To compile a statement takes longer than any of ours runs.
    options.push_str(
        " -c plan_cache_mode=force_generic_plan -c random_page_cost=1.1 -c jit=off -c tcp_keepalives_idle=30 \
         -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3 -c tcp_user_timeout=30000",
    );
    if let Some(timeout) = statement_timeout {
        options.push_str(&format!(" -c statement_timeout={} -c lock_timeout=2000", timeout.as_millis()));
    }
    config.options(options.trim()).connect_timeout(CONNECT_TIMEOUT);
    if config.get_application_name().is_none() {
        config.application_name("smarthome");
    }
    // Notice within about a minute, instead of two hours, that the database's machine is gone.
    config.keepalives_idle(Duration::from_secs(30)).tcp_user_timeout(Duration::from_secs(30));
    let tls =
        OfferedTls::new(root_cert.as_deref()).map_err(|error| ConnectError::new(format!("sslrootcert: {error}")))?;
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, config.connect(tls)).await;
    Ok(connecting.map_err(|_| ConnectError::new(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs())))??)
}
