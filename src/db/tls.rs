//! TLS of database connections. The system's authorities are read only where the database offers TLS: most databases beside
//! their server don't, and a start need not wait for some 300 files.

use std::convert::Infallible;
use std::error::Error;
use std::path::Path;

use futures_util::future::BoxFuture;
use rustls::ClientConfig;
use tokio_postgres::Socket;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::tls::{self, TlsError};

/// A connection with TLS.
type Stream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

/// How connections to a database are encrypted if it offers that.
#[derive(Clone)]
pub(super) struct OfferedTls {
    /// Trusts the authorities of a file; `None` for those of the system.
    of_file: Option<ClientConfig>,
}

impl OfferedTls {
    /// Reads the file of authorities, if there is one.
    pub(super) fn new(root_cert: Option<&Path>) -> Result<Self, TlsError> {
        Ok(Self { of_file: root_cert.map(|path| config(Some(path))).transpose()? })
    }
}

fn config(root_cert: Option<&Path>) -> Result<ClientConfig, TlsError> {
    Ok(tls::client_config(root_cert)?.with_no_client_auth())
}

impl MakeTlsConnect<Socket> for OfferedTls {
    type Stream = Stream;
    type TlsConnect = Handshake;
    type Error = Infallible;

    fn make_tls_connect(&mut self, host: &str) -> Result<Handshake, Infallible> {
        Ok(Handshake { of_file: self.of_file.clone(), host: host.to_owned() })
    }
}

/// The handshake with a database that offers TLS.
pub(super) struct Handshake {
    of_file: Option<ClientConfig>,
    host: String,
}

impl TlsConnect<Socket> for Handshake {
    type Stream = Stream;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<Stream, Self::Error>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move {
            let config = self.of_file.map_or_else(|| config(None), Ok)?;
            let mut rustls = MakeRustlsConnect::new(config);
            let handshake = MakeTlsConnect::<Socket>::make_tls_connect(&mut rustls, &self.host)?;
            Ok(handshake.connect(socket).await?)
        })
    }
}
