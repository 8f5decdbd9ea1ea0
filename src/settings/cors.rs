//! Which pages and apps of other origins may call the API, and with which request headers.

use super::{SettingsError, SettingsErrors, Source, all, bad};

/// Any port of one of these hosts can be listed as `*`: only programs of the visitor's own machine have such an origin.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

#[derive(Debug, Clone, Default)]
pub struct CorsSettings {
    /// `CORS_ORIGINS`: comma-separated origins whose pages may call the API; none by default.
    pub origins: Vec<String>,
    /// `CORS_HEADERS`: comma-separated request headers that these pages may send, beside those of common clients. In lower
    /// case.
    pub headers: Vec<String>,
}

impl CorsSettings {
    pub(super) fn read(source: &impl Source) -> Result<Self, SettingsErrors> {
        all!(Self { origins: origins(source), headers: headers(source) })
    }

    /// Whether pages of an origin, as the browser spells it, may call the API.
    pub fn allows(&self, origin: &str) -> bool {
        self.origins.iter().any(|listed| match listed.strip_suffix(":*") {
            Some(host) => origin
                .strip_prefix(host)
                .is_some_and(|rest| rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port)),
            None => listed == origin,
        })
    }
}

fn origins(source: &impl Source) -> Result<Vec<String>, SettingsError> {
    let origins = list(source, "CORS_ORIGINS");
    let problem = "expected origins as browsers send them, e.g. https://app.example.com, capacitor://localhost or \
                   http://localhost:*: no path, no other *";
    if origins.iter().all(|origin| is_origin(origin)) { Ok(origins) } else { Err(bad("CORS_ORIGINS", problem)) }
}

fn headers(source: &impl Source) -> Result<Vec<String>, SettingsError> {
    let headers = list(source, "CORS_HEADERS");
    if !headers.iter().all(|header| is_token(header)) {
        return Err(bad("CORS_HEADERS", "expected names of request headers, e.g. x-tenant,x-b3-traceid"));
    }
    Ok(headers.iter().map(|header| header.to_ascii_lowercase()).collect())
}

fn list(source: &impl Source, name: &str) -> Vec<String> {
    let text = source.get(name).unwrap_or_default();
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

/// Whether a text is an origin exactly as browsers spell it: any other spelling would never match.
fn is_origin(text: &str) -> bool {
    if let Some(url) = text.strip_suffix(":*").and_then(|host| url::Url::parse(host).ok()) {
        let origin = url.origin().ascii_serialization();
        return url.host_str().is_some_and(|host| LOOPBACK.contains(&host)) && format!("{origin}:*") == text;
    }
    let Ok(url) = url::Url::parse(text) else { return false };
    match url.scheme() {
        _ if text.contains('*') => false,
        "http" | "https" => url.origin().ascii_serialization() == text,
        // Of an app: browsers send the scheme and the host.
        scheme => !is_of_documents(scheme) && url.host_str().is_some_and(|host| format!("{scheme}://{host}") == text),
    }
}

/// Schemes whose documents send the origin `null`.
fn is_of_documents(scheme: &str) -> bool {
    ["about", "blob", "data", "file", "ftp", "javascript", "ws", "wss"].contains(&scheme)
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The name of a header (RFC 9110).
fn is_token(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)) && text != "*"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(origins: &str, headers: &str) -> Result<CorsSettings, SettingsErrors> {
        CorsSettings::read(&|name: &str| {
            Some(if name == "CORS_ORIGINS" { origins.to_owned() } else { headers.to_owned() })
        })
    }

    #[test]
    fn origins_are_listed_as_browsers_send_them() {
        for good in ["https://app.example.com", "http://[::1]:5173", "capacitor://localhost", "tauri://localhost"] {
            assert!(read(good, "").unwrap().allows(good), "{good}");
        }
        for wrong in
            ["*", "null", "app", "https://*.example.com", "https://app.example.com:*", "https://a.example.com/"]
        {
            assert!(read(wrong, "").is_err(), "{wrong}");
        }
        for wrong in ["capacitor://localhost/", "Capacitor://localhost", "file:///", "data:x", "http://localhost:*/"] {
            assert!(read(wrong, "").is_err(), "{wrong}");
        }
        assert_eq!(read("", "X-Tenant, x-b3").unwrap().headers, ["x-tenant", "x-b3"]);
        for wrong in ["x tenant", "x-tenant:", "*", "x\u{e9}"] {
            assert!(read("", wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_port_of_the_own_machine_can_be_allowed() {
        let cors = read("http://localhost:*, http://127.0.0.1:*,http://[::1]:*", "").unwrap();
        for (origin, good) in [
            ("http://localhost:5173", true),
            ("http://localhost", true),
            ("http://127.0.0.1:3000", true),
            ("http://[::1]:8080", true),
            ("https://localhost:5173", false),
            ("http://localhost.evil.com", false),
            ("http://localhost:5173.evil.com", false),
            ("http://localhost:", false),
            ("http://localhost:*", false),
            ("http://127.0.0.1.evil.com:80", false),
        ] {
            assert_eq!(cors.allows(origin), good, "{origin}");
        }
    }
}
