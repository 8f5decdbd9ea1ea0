//! Settings of the HTTP server.

use std::net::SocketAddr;

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

#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// `HTTP_ADDR`.
    pub addr: SocketAddr,
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
            introspection: switch(source, "GRAPHQL_INTROSPECTION", ("on", "off"), false),
            graphiql: switch(source, "GRAPHIQL", ("on", "off"), false),
            cors: CorsSettings::read(source),
            log_requests: LogRequests::read(source),
            trusted_proxies: proxies.parse().map_err(|problem: String| bad("TRUSTED_PROXIES", problem)),
        })
    }
}
