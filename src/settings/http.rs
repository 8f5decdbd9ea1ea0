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
        let addr = addr.parse().map_err(|_| bad("HTTP_ADDR", "expected an address and port such as 0.0.0.0:4000"));
        let introspection = switch(source, "GRAPHQL_INTROSPECTION", ("on", "off"), false);
        let graphiql = switch(source, "GRAPHIQL", ("on", "off"), false);
        let cors = CorsSettings::read(source);
        let proxies = source.get("TRUSTED_PROXIES").unwrap_or_default();
        let trusted_proxies = proxies.parse().map_err(|problem: String| bad("TRUSTED_PROXIES", problem));
        let log_requests = LogRequests::read(source);
        let (addr, introspection, graphiql, cors, trusted_proxies, log_requests) =
            all!(addr, introspection, graphiql, cors, trusted_proxies, log_requests)?;
        Ok(Self { addr, introspection, graphiql, cors, log_requests, trusted_proxies })
    }
}
