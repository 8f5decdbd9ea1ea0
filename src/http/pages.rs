//! GraphiQL and its assets, served from the binary. The pages load nothing from other hosts.

mod assets;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::get;
use serde_json::json;
use uuid::Uuid;

/// The path of GraphiQL.
pub const GRAPHIQL: &str = "/graphiql";
/// Where the token and the nonce go in web/src/graphiql.html.
const TOKEN_PLACEHOLDER: &str = "name=\"smarthome-token\" content=\"\"";
const NONCE_PLACEHOLDER: &str = "name=\"style-nonce\" content=\"\"";
const NOT_BUILT: &str = "<!doctype html><title>smarthome GraphiQL</title><p>GraphiQL is not in this build: \
     it needs Node. Run <code>make web</code> and build again. The API itself is at <code>/graphql</code>.";

/// Settings of the pages.
#[derive(Clone, Default)]
pub struct Page {
    /// Whether GraphiQL is served at all.
    pub graphiql: bool,
    /// A token that signs visitors in; `dev` only.
    pub token: Option<String>,
}

/// `/`, `/graphiql`, `/favicon.ico` and `/assets/…`.
pub fn routes(page: Page) -> Router {
    Router::new()
        .route("/", get(root))
        .route(GRAPHIQL, get(graphiql))
        .route("/favicon.ico", get(favicon))
        .route("/assets/{name}", get(asset))
        .with_state(page)
}

async fn root(State(page): State<Page>) -> Response {
    if page.graphiql { Redirect::temporary(GRAPHIQL).into_response() } else { not_found() }
}

async fn graphiql(State(page): State<Page>, request: HeaderMap) -> Response {
    if !page.graphiql {
        return not_found();
    }
    let Some(html) = assets::text("graphiql.html") else {
        return (StatusCode::NOT_FOUND, Html(NOT_BUILT)).into_response();
    };
    with_token(&html, page.token, &request)
}

/// The page with a token that signs its visitor in, if it was requested under a loopback name.
fn with_token(html: &str, token: Option<String>, request: &HeaderMap) -> Response {
    let token = token.filter(|_| is_loopback_host(request)).unwrap_or_default();
    // Every character of a JWT is safe in an HTML attribute. Anything else is not a token of ours.
    let is_safe = token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    let token = if is_safe { token } else { String::new() };
    let nonce = Uuid::new_v4().simple().to_string();
    let html = html
        .replace(TOKEN_PLACEHOLDER, &format!("name=\"smarthome-token\" content=\"{token}\""))
        .replace(NONCE_PLACEHOLDER, &format!("name=\"style-nonce\" content=\"{nonce}\""));
    let mut response = Html(html).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, content_security_policy(&nonce));
    // The page may contain a token.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Scripts and style sheets come from this server only. GraphiQL sets style attributes, embeds its fonts in its style
/// sheet, and inserts a style element for its dialogs, which has the nonce.
fn content_security_policy(nonce: &str) -> HeaderValue {
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; style-src-attr 'unsafe-inline'; \
         font-src data:; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    HeaderValue::try_from(policy).expect("a nonce in hexadecimal is a valid header value")
}

async fn favicon(state: State<Page>, request: HeaderMap) -> Response {
    asset(state, Path("favicon.svg".to_owned()), request).await
}

async fn asset(State(page): State<Page>, Path(name): Path<String>, request: HeaderMap) -> Response {
    let served = if page.graphiql { assets::serve(&name, &request) } else { None };
    served.unwrap_or_else(not_found)
}

/// Whether the request was addressed to a loopback name. A site whose DNS name points to the loopback address (DNS
/// rebinding) could read the page through its visitor's browser, but the browser still sends that site's name.
fn is_loopback_host(request: &HeaderMap) -> bool {
    let host = request.get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = host.and_then(|host| host.parse::<Authority>().ok());
    authority.is_some_and(|authority| matches!(authority.host(), "localhost" | "127.0.0.1" | "[::1]"))
}

fn not_found() -> Response {
    let body = json!({"errors": [{"message": "not found", "extensions": {"code": "NOT_FOUND"}}]});
    (StatusCode::NOT_FOUND, axum::Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    async fn get(page: Page, path: &str, host: &str) -> (StatusCode, HeaderMap, String) {
        let request = Request::get(path).header("host", host).body(Body::empty()).unwrap();
        let response = routes(page).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status, parts.headers, String::from_utf8_lossy(&body).into_owned())
    }

    fn on() -> Page {
        Page { graphiql: true, token: Some("aaa.bbb.ccc".to_owned()) }
    }

    #[tokio::test]
    async fn switched_off_every_path_is_not_found() {
        for path in ["/", "/graphiql", "/favicon.ico", "/assets/page.js"] {
            let (status, _, body) = get(Page::default(), path, "localhost").await;
            assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
            assert!(body.contains("NOT_FOUND"), "{path}");
        }
    }

    #[tokio::test]
    async fn the_root_redirects_to_graphiql() {
        let (status, headers, _) = get(on(), "/", "localhost").await;
        assert_eq!(
            (status, &headers["location"]),
            (StatusCode::TEMPORARY_REDIRECT, &HeaderValue::from_static("/graphiql"))
        );
    }

    #[tokio::test]
    async fn the_token_is_given_to_loopback_hosts_only() {
        // The source of the page: a build without Node has no other.
        const HTML: &str = include_str!("../../web/src/graphiql.html");
        let page = async |token: &str, host: &'static str| {
            let request = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(host))]);
            let (parts, body) = with_token(HTML, Some(token.to_owned()), &request).into_parts();
            assert_eq!(parts.headers["cache-control"], "no-store");
            String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
        };
        for host in ["localhost:4000", "127.0.0.1:4000", "[::1]:4000"] {
            assert!(page("aaa.bbb.ccc", host).await.contains("content=\"aaa.bbb.ccc\""), "{host}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example:4000", "localhost.evil.example"] {
            let body = page("aaa.bbb.ccc", host).await;
            assert!(body.contains(TOKEN_PLACEHOLDER) && !body.contains("aaa.bbb.ccc"), "{host}");
        }
        assert!(!page("\"><script>", "localhost").await.contains("\"><script>"));
    }

    #[test]
    fn each_page_has_its_own_nonce() {
        const HTML: &str = include_str!("../../web/src/graphiql.html");
        let policies = [(); 2].map(|()| {
            let response = with_token(HTML, None, &HeaderMap::new());
            response.headers()["content-security-policy"].to_str().unwrap().to_owned()
        });
        assert_ne!(policies[0], policies[1]);
        assert!(policies[0].contains("style-src 'self' 'nonce-"), "{}", policies[0]);
    }

    #[tokio::test]
    async fn graphiql_is_served_or_its_absence_explained() {
        let (status, _, body) = get(on(), "/graphiql", "localhost").await;
        match assets::text("graphiql.html") {
            Some(_) => assert!(status == StatusCode::OK && body.contains("content=\"aaa.bbb.ccc\""), "{body}"),
            None => assert!(status == StatusCode::NOT_FOUND && body.contains("make web"), "{body}"),
        }
    }
}
