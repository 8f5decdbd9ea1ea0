//! The labelled series of HTTP and sockets.

use super::limits::QUOTAS;
use super::negotiate::Streaming;
use super::{broker_auth, measure, socket, tls};
use crate::error::codes::CODES;
use crate::metrics::{HttpResponses, HttpRoute, Metrics, Protocol, Reason, Status, Transport};

/// Begins all series, with zero.
pub fn begin_series(metrics: &Metrics) {
    for route in measure::ROUTES {
        drop(metrics.http_request_time.get_or_create(&HttpRoute { route }));
        for status in measure::CLASSES {
            drop(metrics.http_requests.get_or_create(&HttpResponses { route, status }));
        }
    }
    for code in CODES {
        drop(metrics.http_refused.get_or_create(&Reason { reason: code.name }));
    }
    for reason in QUOTAS {
        drop(metrics.quota_exceeded.get_or_create(&Reason { reason }));
    }
    for reason in socket::close_reasons() {
        drop(metrics.sockets_closed.get_or_create(&Reason { reason }));
    }
    for protocol in socket::protocols() {
        drop(metrics.sockets.get_or_create(&Protocol { protocol }));
    }
    for status in tls::HANDSHAKES {
        drop(metrics.tls_handshakes.get_or_create(&Status { status }));
    }
    for reason in broker_auth::OUTCOMES {
        drop(metrics.broker_auth_requests.get_or_create(&Reason { reason }));
    }
    for transport in Streaming::ALL.map(Streaming::name).into_iter().chain([socket::WEBSOCKET]) {
        drop(metrics.subscription_delivery.get_or_create(&Transport { transport }));
    }
}
