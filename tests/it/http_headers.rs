//! Headers of every response, and what pages of other sites may do.

#![expect(clippy::unwrap_used, reason = "what can't be read fails the test")]

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::edge::Edge;
use super::support::PATIENCE;
use super::support::app::TestApp;

/// On every response, for every path and method.
const EVERYWHERE: [&str; 6] = [
    "x-content-type-options: nosniff\r\n",
    "x-frame-options: deny\r\n",
    "referrer-policy: no-referrer\r\n",
    "frame-ancestors 'none'\r\n",
    "cross-origin-resource-policy: same-origin\r\n",
    "cross-origin-opener-policy: same-origin\r\n",
];
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"];
/// A path and request headers.
const PATHS: [(&str, &str); 17] = [
    ("/graphql", ""),
    ("/graphql?query=%7B__typename%7D", ""),
    ("/graphql?query=%7B", ""),
    ("/graphql?query=%7B__typename%7D", "Authorization: Bearer x\r\n"),
    ("/graphql?query=%7B__typename%7D", "Accept: text/html\r\n"),
    ("/graphql?query=%7B__typename%7D", "Accept: text/event-stream\r\n"),
    ("/graphql", "Upgrade: websocket\r\n"),
    ("/graphql", "Upgrade: websocket\r\nOrigin: null\r\n"),
    ("/graphql/ws", ""),
    ("/", ""),
    ("/graphiql", ""),
    ("/assets/page.js", ""),
    ("/schema.graphql", ""),
    ("/.well-known/jwks.json", ""),
    ("/livez", ""),
    ("/metrics", "Origin: https://app.example.com\r\n"),
    ("/nothing/at/all", ""),
];

/// The header of a response in lower case, ended by a line break.
async fn head(addr: std::net::SocketAddr, request: &str) -> String {
    let mut tcp = TcpStream::connect(addr).await.unwrap();
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut text = Vec::new();
    let read = async {
        while !text.ends_with(b"\r\n\r\n") {
            text.push(tcp.read_u8().await.unwrap_or_else(|_| panic!("no response to {request:?}")));
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("a response");
    text.truncate(text.len() - 2);
    String::from_utf8(text).unwrap().to_lowercase()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_response_has_the_security_headers() {
    let app = TestApp::builder().set("GRAPHIQL", "on").set("CORS_ORIGINS", "https://app.example.com").start().await;
    for (path, headers) in PATHS {
        for method in METHODS {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n{headers}\r\n");
            let head = head(app.addr(), &request).await;
            for wanted in EVERYWHERE {
                assert!(head.contains(wanted), "{method} {path} {headers}: no {wanted} in {head}");
            }
            for unwanted in ["\r\nserver:", "x-powered-by", "strict-transport-security", "set-cookie"] {
                assert!(!head.contains(unwanted), "{method} {path} {headers}: {unwanted} in {head}");
            }
            let is_file = ["GET", "HEAD"].contains(&method) && head.contains(" 200 ok");
            let cached = if is_file && path.starts_with("/assets/") { "no-cache" } else { "no-store" };
            assert!(head.contains(&format!("\r\ncache-control: {cached}")), "{method} {path} {headers}: {head}");
            let scripts = if is_file && path == "/graphiql" { "script-src 'self';" } else { "" };
            assert!(head.contains("content-security-policy: default-src 'none'; ") && head.contains(scripts), "{head}");
            assert!(!head.contains("'unsafe-eval'") && !head.contains(" 'self' 'unsafe-inline'"), "{path}: {head}");
        }
    }
}

#[tokio::test]
async fn hsts_is_sent_only_to_clients_that_came_by_tls() {
    let edge = Edge::behind("127.0.0.1", |_| {}, true).await;
    let ask = |path: &str, proto: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\nX-Forwarded-Proto: {proto}\r\n\r\n");
    for path in ["/livez", "/nothing", "/graphql?query=%7Bhello%7D"] {
        let by_tls = head(edge.addr, &ask(path, "https")).await;
        assert!(by_tls.contains("\r\nstrict-transport-security: max-age=31536000\r\n"), "{by_tls}");
        assert!(!head(edge.addr, &ask(path, "http")).await.contains("strict-transport"), "{path}");
    }
    let nobody = Edge::start().await;
    assert!(
        !head(nobody.addr, &ask("/livez", "https")).await.contains("strict-transport"),
        "the claim of an untrusted peer"
    );
}

/// Request headers of clients and of their error reporting.
const CLIENT_HEADERS: [&str; 14] = [
    "accept",
    "authorization",
    "content-type",
    "cache-control",
    "apollographql-client-name",
    "apollographql-client-version",
    "apollo-require-preflight",
    "x-apollo-operation-name",
    "x-requested-with",
    "x-request-id",
    "traceparent",
    "tracestate",
    "sentry-trace",
    "baggage",
];

#[tokio::test(flavor = "multi_thread")]
async fn apps_and_the_headers_of_their_clients_pass() {
    let origins = "capacitor://localhost, ionic://localhost,https://app.example.com";
    let app =
        TestApp::builder().set("CORS_ORIGINS", origins).set("CORS_HEADERS", "X-Tenant, x-b3-traceid").start().await;
    for origin in ["capacitor://localhost", "ionic://localhost", "https://app.example.com"] {
        let asked = [&CLIENT_HEADERS[..], &["x-tenant", "x-b3-traceid"]].concat();
        let request = format!(
            "OPTIONS /graphql HTTP/1.1\r\nHost: x\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: POST\r\n\
             Access-Control-Request-Headers: {}\r\n\r\n",
            asked.join(",")
        );
        let preflight = head(app.addr(), &request).await;
        let value = |name: &str| {
            let line = preflight.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_once(": ").map_or("", |(_, value)| value).to_owned()
        };
        assert_eq!(value("access-control-allow-origin"), origin, "{preflight}");
        let allowed = value("access-control-allow-headers");
        let allowed: Vec<&str> = allowed.split(',').map(str::trim).collect();
        for header in asked {
            assert!(allowed.contains(&header), "{header}: {preflight}");
        }
        assert_ne!(value("access-control-max-age"), "", "{preflight}");
        let request = format!("GET /livez HTTP/1.1\r\nHost: x\r\nOrigin: {origin}\r\n\r\n");
        let exposed = head(app.addr(), &request).await;
        assert!(exposed.contains("access-control-expose-headers: ") && exposed.contains("retry-after"), "{exposed}");
        let upgrade = format!(
            "GET /graphql HTTP/1.1\r\nHost: x\r\nOrigin: {origin}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
        );
        assert!(head(app.addr(), &upgrade).await.starts_with("http/1.1 101"), "{origin}");
    }
}

#[tokio::test]
async fn pages_of_other_sites_may_call_only_if_they_are_listed() {
    let edge = Edge::start().await;
    let good = "https://app.example.com";
    for origin in [
        good,
        "https://app.example.com.evil.com",
        "https://notapp.example.com",
        "https://evil.com",
        "http://app.example.com",
        "https://app.example.com:8443",
        "https://APP.example.com",
        "null",
        "*",
    ] {
        for (path, method) in [("/graphql", "POST"), ("/graphql", "DELETE"), ("/livez", "GET"), ("/nothing", "POST")] {
            let request = format!(
                "OPTIONS {path} HTTP/1.1\r\nHost: x\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: {method}\r\n\
                 Access-Control-Request-Headers: authorization,content-type,x-evil\r\n\r\n"
            );
            let preflight = head(edge.addr, &request).await;
            let is_listed = origin == good;
            assert_eq!(preflight.contains("access-control-allow-origin: "), is_listed, "{origin}: {preflight}");
            if is_listed {
                assert!(preflight.contains(&format!("access-control-allow-origin: {good}\r\n")));
            }
            let allowed = |name: &str| {
                let line = preflight.lines().find(|line| line.starts_with(name)).unwrap_or_default();
                line.split_once(": ").map_or("", |(_, value)| value).to_owned()
            };
            assert_eq!(allowed("access-control-allow-methods"), "get,post", "{origin}");
            assert!(!allowed("access-control-allow-headers").contains("x-evil"), "{origin}");
            assert!(preflight.contains("vary: ") && preflight.contains("origin"), "{preflight}");
            for unwanted in ["access-control-allow-credentials", "access-control-allow-private-network", ": *\r\n"] {
                assert!(!preflight.contains(unwanted), "{origin}: {preflight}");
            }
        }
        let request = format!("GET /livez HTTP/1.1\r\nHost: x\r\nOrigin: {origin}\r\n\r\n");
        assert_eq!(head(edge.addr, &request).await.contains("access-control-allow-origin"), origin == good);
        // CORS does not cover sockets: browsers open them without a preflight.
        let opened = edge.socket("graphql-transport-ws", &[("origin", origin)]).await.err();
        assert_eq!(opened, (origin != good).then_some(403), "{origin}");
    }
    let own = format!("http://{}", edge.addr);
    assert!(edge.socket("graphql-transport-ws", &[("origin", &own)]).await.is_ok());
}
