//! Who sends a request: the bearer token to a viewer, the connection to an address.
//!
//! Invariant: a token is only ever read from a header (here) or from a socket's messages, never from
//! a URL, which ends up in logs and histories.

use axum::http::{HeaderMap, header, request::Parts};

use super::HttpState;
use super::serve::Connection;
use crate::auth::InvalidToken;
use crate::error::Error;
use crate::graphql::engine::Caller;
use crate::graphql::{Peer, Viewer};

/// The caller of a request. No token is nobody; a bad one is an error.
pub(super) async fn caller(parts: &Parts, state: &HttpState) -> Result<Caller, Error> {
    let peer = parts.extensions.get::<Connection>().map(|connection| connection.peer.ip());
    Ok(Caller { viewer: viewer(&parts.headers, state).await?, peer: Peer(peer) })
}

async fn viewer(headers: &HeaderMap, state: &HttpState) -> Result<Viewer, Error> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(Viewer(None)),
        (Some(value), None) => {
            let text = value.to_str().map_err(|_| InvalidToken)?;
            let (scheme, token) = text.trim().split_once(' ').ok_or(InvalidToken)?;
            if !scheme.eq_ignore_ascii_case("bearer") {
                return Err(InvalidToken.into());
            }
            state.admission.admit(token.trim()).await.map(|principal| Viewer(Some(principal)))
        }
        // Two of them: which one a proxy in front has looked at is unknown.
        (Some(_), Some(_)) => Err(InvalidToken.into()),
    }
}
