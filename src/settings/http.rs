//! Settings of the HTTP server.

use std::net::SocketAddr;

use super::{CorsSettings, SettingsErrors, Source, TrustedProxies, all, bad, switch};

#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// `HTTP_ADDR`.
    pub addr: SocketAddr,
    /// `GRAPHQL_INTROSPECTION`.
    pub introspection: bool,
    /// `GRAPHIQL`.
    pub graphiql: bool,
    pub cors: CorsSettings,
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
            trusted_proxies: proxies.parse().map_err(|problem: String| bad("TRUSTED_PROXIES", problem)),
        })
    }
}
