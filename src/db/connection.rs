//! Connections with TLS and time-outs.

use std::time::Duration;

use diesel::{ConnectionError, ConnectionResult};
use diesel_async::AsyncPgConnection;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Socket};

use super::Frozen;
use super::tls::OfferedTls;
use crate::error::Chain;
use crate::settings::DatabaseUrl;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// What moves the bytes of a connection, with or without TLS.
type Driver = tokio_postgres::Connection<Socket, <OfferedTls as MakeTlsConnect<Socket>>::Stream>;

/// A connection, as the functions of a store take it.
pub type Connection = AsyncPgConnection;

/// Opens one connection outside the pool.
///
/// The database cancels statements that take longer than `statement_timeout`; `None` for migrations.
pub async fn connect(url: &str, statement_timeout: Option<Duration>) -> ConnectionResult<Connection> {
    let (client, connection) = open(url, statement_timeout).await?;
    AsyncPgConnection::try_from_client_and_connection(client, connection).await
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
pub(super) async fn open_in_background(url: &str, statement_timeout: Duration) -> ConnectionResult<Client> {
    let (client, connection) = open(url, Some(statement_timeout)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = %Chain(&error), "a database connection was closed");
        }
    });
    Ok(client)
}

pub(super) fn bad(error: tokio_postgres::Error) -> ConnectionError {
    ConnectionError::BadConnection(error.to_string())
}

async fn open(url: &str, statement_timeout: Option<Duration>) -> ConnectionResult<(Client, Driver)> {
    let DatabaseUrl { url, root_cert } = DatabaseUrl::split(url);
    let mut config: tokio_postgres::Config = url.parse().map_err(bad)?;
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
    let tls = OfferedTls::new(root_cert.as_deref())
        .map_err(|error| ConnectionError::BadConnection(format!("sslrootcert: {error}")))?;
    let connecting = config.connect(tls);
    tokio::time::timeout(CONNECT_TIMEOUT, connecting)
        .await
        .map_err(|_| ConnectionError::BadConnection("no answer within the connect time-out".to_owned()))?
        .map_err(bad)
}
