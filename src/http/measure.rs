//! Counts and measures requests by route, and has them logged.

use std::time::Instant;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;

use super::log_limit::RequestLog;
use super::request_log;
use crate::metrics::{HttpResponses, HttpRoute, Metrics};

/// The values of the label `route`.
pub(super) const ROUTES: [&str; 12] = [
    "/graphql",
    "/graphql/ws",
    "/livez",
    "/readyz",
    "/health",
    "/metrics",
    "/schema.graphql",
    "/.well-known/jwks.json",
    "/",
    "/graphiql",
    ASSETS,
    OTHER,
];
const ASSETS: &str = "/assets";
/// Clients choose other paths, so they get no series of their own.
const OTHER: &str = "other";

/// The values of the label `status`.
pub(super) const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Runs a request, measures and logs it.
pub(super) async fn measure(
    State((metrics, log)): State<(Metrics, RequestLog)>,
    request: Request,
    next: Next,
) -> Response {
    let (began, route) = (Instant::now(), route(request.uri().path()));
    let response = next.run(request).await;
    let took = began.elapsed();
    let class = usize::from(response.status().as_u16() / 100).clamp(1, CLASSES.len()) - 1;
    metrics.http_requests.get_or_create(&HttpResponses { route, status: CLASSES[class] }).inc();
    metrics.http_request_time.get_or_create(&HttpRoute { route }).observe(took);
    request_log::log_response(&log, &response, took);
    response
}

/// The route of a path.
pub(super) fn route(path: &str) -> &'static str {
    let is_asset = || path.starts_with("/assets/");
    ROUTES.into_iter().find(|route| *route == path).unwrap_or_else(|| if is_asset() { ASSETS } else { OTHER })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_clients_make_up_share_one_route() {
        for (path, expected) in [
            ("/graphql", "/graphql"),
            ("/assets/graphiql.js", ASSETS),
            ("/", "/"),
            ("/graphql/", OTHER),
            ("/wp-admin", OTHER),
        ] {
            assert_eq!(route(path), expected, "{path}");
        }
    }
}
