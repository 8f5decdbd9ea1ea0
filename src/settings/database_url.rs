//! TLS parameters of libpq URLs that the driver does not know.

use std::borrow::Cow;
use std::path::PathBuf;

/// A PostgreSQL URL, or a keyword string, split into the part for the driver and the TLS root certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    /// The URL for the driver.
    pub url: String,
    /// `sslrootcert`: PEM of the authority that signed the server's certificate. Without it, or with `system`, the
    /// system's authorities are trusted.
    pub root_cert: Option<PathBuf>,
}

impl DatabaseUrl {
    /// Removes `sslrootcert` and translates `sslmode` for the driver. `verify-ca` and `verify-full` become `require`:
    /// the driver verifies certificate and host name whenever it uses TLS.
    pub fn split(text: &str) -> Self {
        let mut root_cert = None;
        let is_url = text.starts_with("postgres://") || text.starts_with("postgresql://");
        let url = if is_url {
            let Some((base, query)) = text.split_once('?') else {
                return Self { url: text.to_owned(), root_cert };
            };
            let parameters: Vec<_> = query.split('&').filter_map(|one| parameter(one, true, &mut root_cert)).collect();
            if parameters.is_empty() { base.to_owned() } else { format!("{base}?{}", parameters.join("&")) }
        } else {
            let keywords = text.split_ascii_whitespace();
            // Quoted values may contain spaces, so a string without our keywords is left as it is.
            if !text.contains("sslmode=verify-") && !text.contains("sslrootcert=") {
                return Self { url: text.to_owned(), root_cert };
            }
            keywords.filter_map(|one| parameter(one, false, &mut root_cert)).collect::<Vec<_>>().join(" ")
        };
        Self { url, root_cert }
    }
}

fn parameter<'a>(one: &'a str, is_encoded: bool, root_cert: &mut Option<PathBuf>) -> Option<&'a str> {
    match one.split_once('=') {
        Some(("sslmode", "verify-ca" | "verify-full")) => Some("sslmode=require"),
        Some(("sslrootcert", path)) => {
            let path = if is_encoded {
                percent_encoding::percent_decode_str(path).decode_utf8_lossy()
            } else {
                Cow::Borrowed(path.trim_matches('\''))
            };
            *root_cert = (path != "system").then(|| PathBuf::from(path.into_owned()));
            None
        }
        _ => Some(one),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libpq_tls_parameters_are_translated_and_the_rest_is_unchanged() {
        for (text, url, root_cert) in [
            ("postgres://a:b@h/d", "postgres://a:b@h/d", None),
            ("postgres://h/d?sslmode=verify-full", "postgres://h/d?sslmode=require", None),
            (
                "postgresql://h/d?sslrootcert=%2Fetc%2Fca.pem&sslmode=verify-ca&connect_timeout=3",
                "postgresql://h/d?sslmode=require&connect_timeout=3",
                Some("/etc/ca.pem"),
            ),
            ("postgres://h/d?sslrootcert=/etc/ca.pem", "postgres://h/d", Some("/etc/ca.pem")),
            ("postgres://h/d?sslrootcert=system&sslmode=require", "postgres://h/d?sslmode=require", None),
            ("host=h password='a  b'", "host=h password='a  b'", None),
            ("host=h sslmode=verify-full sslrootcert='/ca.pem'", "host=h sslmode=require", Some("/ca.pem")),
        ] {
            let expected = DatabaseUrl { url: url.to_owned(), root_cert: root_cert.map(PathBuf::from) };
            assert_eq!(DatabaseUrl::split(text), expected, "{text}");
        }
    }
}
