//! `JWT_TRUSTED_ISSUERS`: external issuers whose access tokens are accepted, and where their keys are.

use std::collections::HashSet;
use std::path::PathBuf;

use serde::Deserialize;
use url::Url;

use super::{SettingsError, Source, bad};

const NAME: &str = "JWT_TRUSTED_ISSUERS";
/// Most issuers in the list.
const MAX_ISSUERS: usize = 16;
/// Bytes of an issuer's name and of an audience.
const MAX_NAME_BYTES: usize = 255;
/// Bytes of the file.
const MAX_FILE_BYTES: u64 = 64 << 10;
/// Algorithms that may be configured. No HMAC: the issuer would have to share its secret with us.
const ALGORITHMS: [&str; 9] = ["EdDSA", "ES256", "ES384", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];
/// Algorithms of an issuer that lists none.
const DEFAULT_ALGORITHMS: [&str; 3] = ["EdDSA", "ES256", "RS256"];

/// An external issuer whose tokens are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedIssuer {
    /// `iss` of its tokens, compared byte by byte.
    pub issuer: String,
    /// The audience that `aud` of its tokens must contain.
    pub audience: String,
    pub keys: KeySource,
    /// Names of the signature algorithms it may use.
    pub algorithms: Vec<String>,
    /// Domains, in lower case, whose e-mail addresses it may verify; `None` for all.
    pub email_domains: Option<HashSet<String>>,
}

/// The source of a JWK set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A file, read again when it changes.
    File(PathBuf),
    /// An `https` URL.
    Url {
        url: Url,
        /// PEM of the authority that signed its certificate; `None` for the system's authorities.
        ca_file: Option<PathBuf>,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    issuer: String,
    audience: String,
    jwks: String,
    ca_file: Option<PathBuf>,
    algorithms: Option<Vec<String>>,
    email_domains: Option<Vec<String>>,
}

impl TrustedIssuer {
    /// Reads the list, or the file with the list. `own` is the issuer of our own tokens.
    pub(super) fn read(source: &impl Source, own: &str) -> Result<Vec<Self>, SettingsError> {
        let Some(value) = source.get("JWT_TRUSTED_ISSUERS") else { return Ok(Vec::new()) };
        let text = if value.trim_start().starts_with('[') { value } else { file(&value)? };
        let entries: Vec<Entry> = serde_json::from_str(&text).map_err(|error| {
            bad(NAME, format!("expected a list such as [{{\"issuer\": …, \"audience\": …, \"jwks\": …}}], or a file with it: {error}"))
        })?;
        if entries.len() > MAX_ISSUERS {
            return Err(bad(NAME, format!("at most {MAX_ISSUERS} issuers")));
        }
        let mut issuers: Vec<Self> = Vec::with_capacity(entries.len());
        for (n, entry) in entries.into_iter().enumerate() {
            let issuer = entry.check(own).map_err(|problem| bad(NAME, format!("issuer {}: {problem}", n + 1)))?;
            if issuers.iter().any(|known| known.issuer == issuer.issuer) {
                return Err(bad(NAME, format!("issuer {}: named twice", n + 1)));
            }
            issuers.push(issuer);
        }
        Ok(issuers)
    }
}

impl Entry {
    fn check(self, own: &str) -> Result<TrustedIssuer, String> {
        for (name, value) in [("issuer", &self.issuer), ("audience", &self.audience)] {
            if !(1..=MAX_NAME_BYTES).contains(&value.len()) {
                return Err(format!("{name} must have 1 to {MAX_NAME_BYTES} bytes"));
            }
        }
        if self.issuer == own {
            return Err("this is JWT_ISSUER: our own tokens are accepted anyway".to_owned());
        }
        let default = || DEFAULT_ALGORITHMS.map(str::to_owned).to_vec();
        let algorithms = self.algorithms.unwrap_or_else(default);
        if algorithms.is_empty() || !algorithms.iter().all(|name| ALGORITHMS.contains(&name.as_str())) {
            return Err(format!("algorithms must be some of {}", ALGORITHMS.join(", ")));
        }
        let domains = self.email_domains.map(|domains| domains.iter().map(|d| d.to_ascii_lowercase()).collect());
        Ok(TrustedIssuer {
            issuer: self.issuer,
            audience: self.audience,
            keys: key_source(&self.jwks, self.ca_file)?,
            algorithms,
            email_domains: domains,
        })
    }
}

fn key_source(jwks: &str, ca_file: Option<PathBuf>) -> Result<KeySource, String> {
    if !jwks.contains("://") {
        return match ca_file {
            None if !jwks.is_empty() => Ok(KeySource::File(jwks.into())),
            None => Err("jwks is empty: name a file or an https URL".to_owned()),
            Some(_) => Err("caFile belongs to a jwks by https".to_owned()),
        };
    }
    let url = Url::parse(jwks).map_err(|error| format!("jwks: {error}"))?;
    let is_plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    if url.scheme() != "https" || !url.has_host() || !is_plain {
        return Err("jwks must be a file or an https URL without user, password and fragment".to_owned());
    }
    Ok(KeySource::Url { url, ca_file })
}

fn file(path: &str) -> Result<String, SettingsError> {
    use std::io::Read;
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text));
    match read {
        Ok(_) if text.len() as u64 <= MAX_FILE_BYTES => Ok(text),
        Ok(_) => Err(bad(NAME, format!("{path} is longer than {MAX_FILE_BYTES} bytes"))),
        Err(error) => Err(bad(NAME, format!("neither a JSON list nor a file that can be read, {path}: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Result<Vec<TrustedIssuer>, SettingsError> {
        let value = value.to_owned();
        TrustedIssuer::read(&move |name: &str| (name == NAME).then(|| value.clone()), "smarthome")
    }

    const BY_URL: &str = r#"{"issuer": "https://id.example.com/", "audience": "home", "jwks": "https://id.example.com/keys",
        "caFile": "/ca.pem", "algorithms": ["RS256"], "emailDomains": ["Example.com"]}"#;
    const BY_FILE: &str = r#"{"issuer": "b", "audience": "home", "jwks": "/keys.json"}"#;

    #[test]
    fn a_list_may_stand_in_the_variable_or_in_a_file() {
        let list = format!(" [{BY_URL}, {BY_FILE}]");
        let issuers = read(&list).unwrap();
        assert!(matches!(&issuers[0].keys, KeySource::Url { ca_file: Some(_), url } if url.path() == "/keys"));
        assert_eq!(issuers[0].email_domains, Some(HashSet::from(["example.com".to_owned()])));
        assert_eq!(issuers[1].keys, KeySource::File("/keys.json".into()));
        assert_eq!(issuers[1].algorithms, DEFAULT_ALGORITHMS);
        let path = std::env::temp_dir().join(format!("smarthome-issuers-{}", std::process::id()));
        std::fs::write(&path, &list).unwrap();
        assert_eq!(read(path.to_str().unwrap()).unwrap(), issuers);
        std::fs::remove_file(path).unwrap();
        assert_eq!(read("[]").unwrap(), []);
    }

    #[test]
    fn an_unusable_issuer_is_refused_in_one_line() {
        let with = |from: &str, to: &str| {
            assert!(BY_URL.contains(from));
            format!("[{}]", BY_URL.replace(from, to))
        };
        for value in [
            "/no/such/file".to_owned(),
            "[".to_owned(),
            "[{}]".to_owned(),
            format!("[{BY_FILE}, {BY_FILE}]"),
            format!("[{}]", vec![BY_FILE; MAX_ISSUERS + 1].join(",")),
            with("https://id.example.com/keys", "http://id.example.com/keys"),
            with("https://id.example.com/keys", "https://me:secret@id.example.com/keys"),
            with("https://id.example.com/keys", "file:///keys"),
            with("https://id.example.com/keys", "/keys.json"),
            with("https://id.example.com/keys", ""),
            with("https://id.example.com/\"", "smarthome\""),
            with("https://id.example.com/\"", "\""),
            with("\"home\"", "\"\""),
            with("RS256", "HS256"),
            with("RS256", "none"),
            with("[\"RS256\"]", "[]"),
            with("emailDomains", "createUsers"),
        ] {
            let error = read(&value).unwrap_err();
            assert_eq!(error.name, NAME);
            assert!(!error.to_string().contains('\n') && !error.to_string().contains("secret"), "{error}");
        }
    }
}
