//! The files of web/dist, embedded in the binary. A build without Node has none of them.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rust_embed::{EmbeddedFile, RustEmbed};

use crate::http::compression;

#[derive(RustEmbed)]
#[folder = "web/dist"]
#[allow_missing = true]
struct Files;

pub(super) fn text(name: &str) -> Option<String> {
    let file = Files::get(name)?;
    String::from_utf8(file.data.into_owned()).ok()
}

/// Serves a file: compressed if the client accepts gzip, 304 if the client has it already.
pub(super) fn serve(name: &str, request: &HeaderMap) -> Option<Response> {
    let content_type = content_type(name)?;
    let plain = Files::get(name)?;
    let compressed = Files::get(&format!("{name}.gz")).filter(|_| compression::accepts_gzip(request));
    let etag = etag(&plain, compressed.is_some());
    let mut response = if has(request, &etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let is_compressed = compressed.is_some();
        let mut response = Response::new(Body::from(compressed.unwrap_or(plain).data.into_owned()));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        if is_compressed {
            response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, etag);
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    // File names carry no version, so the client must revalidate each time.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Some(response)
}

/// `None` for every file that is not an asset of the page, such as the page itself or a `.gz` file.
fn content_type(name: &str) -> Option<&'static str> {
    match name.rsplit_once('.')?.1 {
        "js" => Some("text/javascript; charset=utf-8"),
        "css" => Some("text/css; charset=utf-8"),
        "svg" => Some("image/svg+xml"),
        "txt" => Some("text/plain; charset=utf-8"),
        _ => None,
    }
}

/// Each encoding is a representation of its own and needs its own tag.
fn etag(file: &EmbeddedFile, is_compressed: bool) -> HeaderValue {
    let hash = file.metadata.sha256_hash();
    let hex: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let suffix = if is_compressed { "-gz" } else { "" };
    HeaderValue::try_from(format!("\"{hex}{suffix}\"")).expect("hexadecimal is a valid header value")
}

fn has(request: &HeaderMap, etag: &HeaderValue) -> bool {
    let known = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let etag = etag.to_str().expect("hexadecimal");
    known.flat_map(|value| value.split(',')).any(|tag| tag.trim().trim_start_matches("W/") == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_assets_are_served() {
        for name in ["graphiql.html", "page.js.gz", "../Cargo.toml", "", "x"] {
            assert!(serve(name, &HeaderMap::new()).is_none(), "{name}");
        }
    }
}
