//! GraphQL over WebSocket: `graphql-transport-ws` and the legacy `graphql-ws`.
//!
//! async-graphql's `WebSocket` is not used: it sends no `error` for a refused subscribe and none of the close codes
//! 4401, 4408 and 4409, has no ping of its own, and lets a busy stream starve the others.

mod close;
mod message;
mod operations;
mod read_error;
mod session;
mod wakes;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{FromRequestParts, Request};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use url::Url;

use super::caller::RefusedCaller;
use super::negotiate::Media;
use super::request_log::{Logged, Refusal, StreamLog, trace_of};
use super::serve::ClientConnection;
use super::{HttpState, caller, responses};
use crate::metrics;
use crate::settings::CorsSettings;
use close::Close;
use message::Protocol;
pub(super) use session::WEBSOCKET;
use session::{SLOW_READER, Session};

/// Bytes read at a time: small, so that an idle socket costs little memory. Most messages of clients are smaller.
const READ_BUFFER_BYTES: usize = 1 << 10;
/// Bytes gathered before a write. The library's own bound on waiting bytes (`max_write_buffer_size`) stays off: it
/// would refuse every larger message. The buffer holds at most this and one message, because a message is added
/// only once the previous ones are written, and the size of a response is bounded.
const WRITE_BUFFER_BYTES: usize = 16 << 10;
/// The library reads messages up to this many times the limit, so that we can close with a reason.
const OVERSIZE_GRACE: usize = 4;

/// Why the server closes sockets, for the documentation: the code, the reason, and what a client does then.
pub fn close_codes() -> Vec<(u16, String, &'static str)> {
    Close::all().into_iter().map(|(close, advice)| (close.code, close.reason.into_owned(), advice)).collect()
}

/// The values of the label `protocol`.
pub(super) fn protocols() -> [&'static str; 2] {
    [Protocol::Transport, Protocol::Legacy].map(Protocol::name)
}

/// The reasons in `smarthome_sockets_closed_total`.
pub(super) fn close_reasons() -> impl Iterator<Item = &'static str> {
    Close::all().into_iter().map(|(close, _)| close.counted).chain([SLOW_READER])
}

/// Whether a request asks for a WebSocket.
pub(super) fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Upgrades a request, or returns the error response.
pub(super) async fn accept(state: Arc<HttpState>, request: Request<Body>) -> Response {
    let (mut parts, _) = request.into_parts();
    if !is_origin_allowed(&parts.headers, &state.cors) {
        let message = "this origin may not open a socket";
        let logged = Logged::refused(None, Refusal::new("FORBIDDEN", Some(message)));
        return logged.on(responses::problem(StatusCode::FORBIDDEN, "FORBIDDEN", message));
    }
    // An invalid token is refused before the upgrade, while there still is a status code.
    let caller = match caller::caller(&parts, &state).await {
        Ok(caller) => caller,
        Err(RefusedCaller { error, logged }) => {
            state.metrics.count_http_rejection(error.code());
            return logged.on(responses::auth_error(Media::Json, &error));
        }
    };
    let Ok(quota) = state.quotas.socket(&caller) else {
        state.metrics.count_http_rejection("RATE_LIMITED");
        let message = "too many sockets are open: close one of them first";
        let logged = Logged::refused(caller.user(), Refusal::new("RATE_LIMITED", Some(message)));
        return logged.on(responses::quota_exceeded(Media::Json, message));
    };
    let protocol = Protocol::negotiate(&parts.headers);
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
    let (Some(protocol), Ok(upgrade)) = (protocol, upgrade) else {
        let message = "open a WebSocket 13 with the subprotocol graphql-transport-ws or graphql-ws";
        let logged = Logged::refused(caller.user(), Refusal::new("BAD_USER_INPUT", Some(message)));
        return logged.on(responses::problem(StatusCode::BAD_REQUEST, "BAD_USER_INPUT", message));
    };
    let log = StreamLog::of_request(&state, trace_of(&parts.extensions));
    let limit = state.limits.socket_message_bytes * OVERSIZE_GRACE;
    let upgrade = upgrade
        .protocols([protocol.name()])
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_message_size(limit)
        .max_frame_size(limit);
    // Both are held as long as the socket is open: its connection slot, and its entry in the drain.
    let slot = parts.extensions.get::<ClientConnection>().map(|connection| connection.slot.clone());
    let tracked = state.tracker.token();
    upgrade.on_upgrade(move |socket| async move {
        let open = state.metrics.sockets.get_or_create(&metrics::Protocol { protocol: protocol.name() }).clone();
        open.inc();
        Session::new(state, protocol, caller, quota, log).run(socket).await;
        open.dec();
        drop((slot, tracked));
    })
}

/// Whether a page of this origin may connect: pages of other sites must not use their visitor's network to reach us.
/// Clients other than browsers send no `Origin`.
fn is_origin_allowed(headers: &HeaderMap, cors: &CorsSettings) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    if cors.allows(origin) {
        return true;
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let (Ok(origin), Some(host)) = (Url::parse(origin), host) else { return false };
    // The scheme is not compared: TLS may end at a proxy.
    let Ok(own) = Url::parse(&format!("{}://{host}", origin.scheme())) else { return false };
    ["http", "https"].contains(&origin.scheme())
        && (origin.host(), origin.port_or_known_default()) == (own.host(), own.port_or_known_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_this_host_and_of_listed_origins_may_connect() {
        let allowed = CorsSettings { origins: vec!["https://app.example.com".to_owned()], ..CorsSettings::default() };
        for (origin, host, good) in [
            (None, "hub.example.com", true),
            (Some("https://hub.example.com"), "hub.example.com", true),
            (Some("http://127.0.0.1:4000"), "127.0.0.1:4000", true),
            (Some("https://hub.example.com"), "hub.example.com:443", true),
            (Some("https://app.example.com"), "hub.example.com", true),
            (Some("http://127.0.0.1:4001"), "127.0.0.1:4000", false),
            (Some("https://evil.example.com"), "hub.example.com", false),
            (Some("https://hub.example.com.evil.com"), "hub.example.com", false),
            (Some("https://app.example.com.evil.com"), "hub.example.com", false),
            (Some("https://app.example.com@evil.com"), "hub.example.com", false),
            (Some("https://evil.com/https://app.example.com"), "hub.example.com", false),
            (Some("https://app.example.com:8443"), "hub.example.com", false),
            (Some("http://app.example.com"), "hub.example.com", false),
            (Some("https://app.example.com,https://evil.com"), "hub.example.com", false),
            (Some("https://notapp.example.com"), "hub.example.com", false),
            (Some(""), "hub.example.com", false),
            (Some("null"), "null", false),
            (Some("null"), "hub.example.com", false),
            (Some("file://"), "hub.example.com", false),
            (Some("capacitor://localhost"), "localhost", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            assert_eq!(is_origin_allowed(&headers, &allowed), good, "{origin:?} at {host}");
        }
    }
}
