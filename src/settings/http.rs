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
        let addr = addr.parse().map_err(|_| bad("HTTP_ADDR", "expected an address and port such as 0.0.0.0:4000"));
        let introspection = switch(source, "GRAPHQL_INTROSPECTION", ("on", "off"), false);
        let graphiql = switch(source, "GRAPHIQL", ("on", "off"), false);
        let cors = CorsSettings::read(source);
        let proxies = source.get("TRUSTED_PROXIES").unwrap_or_default();
        let trusted_proxies = proxies.parse().map_err(|problem: String| bad("TRUSTED_PROXIES", problem));
        let (addr, introspection, graphiql, cors, trusted_proxies) =
            all!(addr, introspection, graphiql, cors, trusted_proxies)?;
        Ok(Self { addr, introspection, graphiql, cors, trusted_proxies })
    }
}
