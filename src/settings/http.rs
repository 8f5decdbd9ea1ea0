//! Settings of the HTTP server.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::{CorsSettings, SettingsError, SettingsErrors, Source, TrustedProxies, all, bad, switch};

/// The requests that are logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogRequests {
    Off,
    #[default]
    Refused,
    All,
}

impl LogRequests {
    fn read(source: &impl Source) -> Result<Self, SettingsError> {
        match source.get("LOG_REQUESTS").as_deref() {
            None | Some("refused") => Ok(Self::Refused),
            Some("off") => Ok(Self::Off),
            Some("all") => Ok(Self::All),
            Some(_) => Err(bad("LOG_REQUESTS", "expected `off`, `refused` or `all`")),
        }
    }

    /// Whether a request is logged.
    pub fn includes(self, is_refused: bool) -> bool {
        match self {
            Self::Off => false,
            Self::Refused => is_refused,
            Self::All => true,
        }
    }
}

/// PEM files of the listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// `HTTP_TLS_CERT_FILE`: the certificate, and those of intermediate authorities after it.
    pub cert: PathBuf,
    /// `HTTP_TLS_KEY_FILE`.
    pub key: PathBuf,
}

impl TlsFiles {
    fn read(source: &impl Source) -> Result<Option<Self>, SettingsError> {
        match (source.get("HTTP_TLS_CERT_FILE"), source.get("HTTP_TLS_KEY_FILE")) {
            (Some(cert), Some(key)) => Ok(Some(Self { cert: cert.into(), key: key.into() })),
            (None, None) => Ok(None),
            (Some(_), None) => Err(bad("HTTP_TLS_KEY_FILE", "missing: set it together with HTTP_TLS_CERT_FILE")),
            (None, Some(_)) => Err(bad("HTTP_TLS_CERT_FILE", "missing: set it together with HTTP_TLS_KEY_FILE")),
        }
    }
}

#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// `HTTP_ADDR`.
    pub addr: SocketAddr,
    /// TLS at this address; a proxy in front of it otherwise.
    pub tls: Option<TlsFiles>,
    /// `GRAPHQL_INTROSPECTION`.
    pub introspection: bool,
    /// `GRAPHIQL`.
    pub graphiql: bool,
    pub cors: CorsSettings,
    /// `LOG_REQUESTS`.
    pub log_requests: LogRequests,
    /// `TRUSTED_PROXIES`: comma-separated addresses and networks of reverse proxies; none by default.
    pub trusted_proxies: TrustedProxies,
}

impl HttpSettings {
    pub fn read(source: &impl Source) -> Result<Self, SettingsErrors> {
        let addr = source.get("HTTP_ADDR").unwrap_or_else(|| "127.0.0.1:4000".to_owned());
        let proxies = source.get("TRUSTED_PROXIES").unwrap_or_default();
        all!(Self {
            addr: addr.parse().map_err(|_| bad("HTTP_ADDR", "expected an address and port such as 0.0.0.0:4000")),
            tls: TlsFiles::read(source),
            introspection: switch(source, "GRAPHQL_INTROSPECTION", ("on", "off"), false),
            graphiql: switch(source, "GRAPHIQL", ("on", "off"), false),
            cors: CorsSettings::read(source),
            log_requests: LogRequests::read(source),
            trusted_proxies: proxies.parse().map_err(|problem: String| bad("TRUSTED_PROXIES", problem)),
        })
    }
}
