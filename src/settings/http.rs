//! Settings of the HTTP server.

use std::net::SocketAddr;

use super::{SettingsError, SettingsErrors, Source, TrustedProxies, all, bad, switch};

#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// `HTTP_ADDR`.
    pub addr: SocketAddr,
    /// `GRAPHQL_INTROSPECTION`.
    pub introspection: bool,
    /// `GRAPHIQL`.
    pub graphiql: bool,
    /// `CORS_ORIGINS`: comma-separated origins whose pages may call the API; none by default.
    pub cors_origins: Vec<String>,
    /// `TRUSTED_PROXIES`: comma-separated addresses and networks of reverse proxies; none by default.
    pub trusted_proxies: TrustedProxies,
}

impl HttpSettings {
    pub fn read(source: &impl Source) -> Result<Self, SettingsErrors> {
        let addr = source.get("HTTP_ADDR").unwrap_or_else(|| "127.0.0.1:4000".to_owned());
        let addr = addr.parse().map_err(|_| bad("HTTP_ADDR", "expected an address and port such as 0.0.0.0:4000"));
        let introspection = switch(source, "GRAPHQL_INTROSPECTION", ("on", "off"), false);
        let graphiql = switch(source, "GRAPHIQL", ("on", "off"), false);
        let cors_origins = cors_origins(source);
        let proxies = source.get("TRUSTED_PROXIES").unwrap_or_default();
        let trusted_proxies = proxies.parse().map_err(|problem: String| bad("TRUSTED_PROXIES", problem));
        let (addr, introspection, graphiql, cors_origins, trusted_proxies) =
            all!(addr, introspection, graphiql, cors_origins, trusted_proxies)?;
        Ok(Self { addr, introspection, graphiql, cors_origins, trusted_proxies })
    }
}

fn cors_origins(source: &impl Source) -> Result<Vec<String>, SettingsError> {
    let text = source.get("CORS_ORIGINS").unwrap_or_default();
    let origins: Vec<_> = text.split(',').map(str::trim).filter(|o| !o.is_empty()).map(str::to_owned).collect();
    if !origins.iter().all(|origin| is_origin(origin)) {
        let problem = "expected origins as browsers send them, e.g. https://app.example.com: no path, no *";
        return Err(bad("CORS_ORIGINS", problem));
    }
    Ok(origins)
}

/// Whether a text is an origin exactly as browsers spell it: any other spelling would never match.
fn is_origin(text: &str) -> bool {
    url::Url::parse(text)
        .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.origin().ascii_serialization() == text)
}
