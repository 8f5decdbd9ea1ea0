//! The parameters of one request, from JSON or from the query string of a URL. Unknown parameters are ignored, as
//! the GraphQL-over-HTTP draft requires. Known parameters must have their type.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};

use async_graphql::Variables;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::document::Hash;
use super::request_error::RequestError;

/// Identifies a request while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct RequestId(u64);

impl Default for RequestId {
    /// An id that no other request of this process has.
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// The parameters of one request, as the client sent them.
#[derive(Debug, Default)]
pub struct GraphQLRequest {
    /// The document.
    pub query: Option<String>,
    /// The name of the operation to run.
    pub operation_name: Option<String>,
    pub variables: Variables,
    /// The hash of a persisted document, in place of its text or beside it.
    pub persisted: Option<Hash>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(borrow)]
    query: Option<&'a RawValue>,
    #[serde(borrow)]
    operation_name: Option<&'a RawValue>,
    #[serde(borrow)]
    variables: Option<&'a RawValue>,
    #[serde(borrow)]
    extensions: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Extensions {
    persisted_query: Option<PersistedQuery>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PersistedQuery {
    version: u32,
    sha256_hash: String,
}

impl GraphQLRequest {
    /// Reads the parameters from a JSON object.
    pub fn from_json(text: &str) -> Result<Self, RequestError> {
        match text.trim_start().as_bytes().first() {
            Some(b'{') => {}
            Some(b'[') => {
                return Err(RequestError::parameter("query", "one operation per request: batches are not supported"));
            }
            _ => {
                return Err(RequestError::new(
                    super::request_error::BAD_USER_INPUT,
                    "the request must be a JSON object",
                ));
            }
        }
        let body: Body<'_> = serde_json::from_str(text)
            .map_err(|_| RequestError::new(super::request_error::BAD_USER_INPUT, "the request is not valid JSON"))?;
        Ok(Self {
            query: body.query.map(|raw| string("query", raw)).transpose()?,
            operation_name: body.operation_name.map(|raw| string("operationName", raw)).transpose()?,
            variables: body.variables.map(|raw| variables(raw.get())).transpose()?.unwrap_or_default(),
            persisted: body.extensions.map(|raw| persisted(raw.get())).transpose()?.flatten(),
        })
    }

    /// Reads the parameters from the query string of a URL.
    ///
    /// `form_urlencoded` replaces invalid UTF-8 silently; here it is an error.
    pub fn from_url_query(query: &str) -> Result<Self, RequestError> {
        let mut request = Self::default();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let text = |name| decode(value).ok_or_else(|| RequestError::parameter(name, "not percent-encoded UTF-8"));
            match name {
                "query" => request.query = Some(text("query")?).filter(|text| !text.is_empty()),
                "operationName" => request.operation_name = Some(text("operationName")?),
                "variables" => request.variables = json(&text("variables")?, variables)?.unwrap_or_default(),
                "extensions" => request.persisted = json(&text("extensions")?, persisted)?.flatten(),
                _ => {}
            }
        }
        Ok(request)
    }
}

/// A parameter that is JSON inside a URL. Empty text and `null` count as absent.
fn json<T>(text: &str, read: impl Fn(&str) -> Result<T, RequestError>) -> Result<Option<T>, RequestError> {
    match text.trim() {
        "" | "null" => Ok(None),
        text => read(text).map(Some),
    }
}

fn decode(value: &str) -> Option<String> {
    let spaced: Cow<'_, str> =
        if value.contains('+') { Cow::Owned(value.replace('+', " ")) } else { Cow::Borrowed(value) };
    percent_encoding::percent_decode_str(&spaced).decode_utf8().ok().map(Cow::into_owned)
}

fn string(name: &'static str, raw: &RawValue) -> Result<String, RequestError> {
    serde_json::from_str(raw.get()).map_err(|_| RequestError::parameter(name, format!("{name} must be a string")))
}

fn variables(raw: &str) -> Result<Variables, RequestError> {
    let map = raw.starts_with('{').then(|| serde_json::from_str(raw).ok()).flatten();
    map.ok_or_else(|| RequestError::parameter("variables", "variables must be a JSON object"))
}

fn persisted(raw: &str) -> Result<Option<Hash>, RequestError> {
    if !raw.starts_with('{') {
        return Err(RequestError::parameter("extensions", "extensions must be a JSON object"));
    }
    let invalid =
        || RequestError::parameter("extensions", "persistedQuery must be {version: 1, sha256Hash: 64 hex digits}");
    let extensions: Extensions = serde_json::from_str(raw).map_err(|_| invalid())?;
    let Some(persisted) = extensions.persisted_query else { return Ok(None) };
    if persisted.version != 1 {
        return Err(invalid());
    }
    hash(&persisted.sha256_hash).map(Some).ok_or_else(invalid)
}

fn hash(hex: &str) -> Option<Hash> {
    let digits = hex.as_bytes();
    let mut hash = Hash::default();
    if digits.len() != 2 * hash.len() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_parameters_must_have_their_type_and_unknown_ones_are_ignored() {
        let request =
            GraphQLRequest::from_json(r#" {"query":"{a}","operationName":null,"variables":{"x":1},"more":[1]}"#)
                .unwrap();
        assert_eq!((request.query.as_deref(), request.operation_name, request.variables.len()), (Some("{a}"), None, 1));
        for wrong in [
            "",
            "null",
            "7",
            "[]",
            r#"[{"query":"{a}"}]"#,
            r#"{"query":7}"#,
            r#"{"query":"{a}","query":"{b}"}"#,
            r#"{"query":"{a}","variables":[]}"#,
            r#"{"query":"{a}","variables":"{}"}"#,
            r#"{"query":"{a}","operationName":{}}"#,
            r#"{"query":"{a}","extensions":0}"#,
            r#"{"extensions":{"persistedQuery":{"version":2,"sha256Hash":"00"}}}"#,
            r#"{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"zz"}}}"#,
            r#"{"query":"{a}""#,
        ] {
            assert!(GraphQLRequest::from_json(wrong).is_err(), "{wrong}");
        }
        let deep = format!(r#"{{"query":"{{a}}","variables":{{"x":{}{}}}}}"#, "[".repeat(5000), "]".repeat(5000));
        assert!(GraphQLRequest::from_json(&deep).is_err());
    }

    #[test]
    fn a_url_has_the_same_parameters() {
        let request =
            GraphQLRequest::from_url_query("query=%7Ba+b%7D&variables=%7B%22x%22%3A1%7D&operationName=A&x").unwrap();
        assert_eq!((request.query.as_deref(), request.operation_name.as_deref()), (Some("{a b}"), Some("A")));
        assert_eq!(request.variables.len(), 1);
        for wrong in ["query=%FF", "variables=%5B%5D", "variables=x", "extensions=1"] {
            assert!(GraphQLRequest::from_url_query(wrong).is_err(), "{wrong}");
        }
        assert!(GraphQLRequest::from_url_query("").unwrap().query.is_none());
        let hash = "ab".repeat(32);
        let extensions = format!(r#"{{"persistedQuery":{{"version":1,"sha256Hash":"{hash}"}}}}"#);
        let encoded: String = extensions.bytes().map(|b| format!("%{b:02x}")).collect();
        assert_eq!(
            GraphQLRequest::from_url_query(&format!("extensions={encoded}")).unwrap().persisted,
            Some([0xab; 32])
        );
    }
}
