//! The caller of a request: the user behind the bearer token, and the client address.
//!
//! Invariant: tokens are read from a header (here) or from a socket's messages, never from a URL, which ends up in
//! logs and browser histories.

use axum::http::{HeaderMap, header, request::Parts};

use super::HttpState;
use super::client::Client;
use super::request_log::{Logged, Refusal};
use crate::auth::TokenError;
use crate::error::{CredentialsError, Error};
use crate::graphql::engine::Caller;
use crate::graphql::{Peer, Viewer};
use crate::ids::UserId;

/// A caller that is refused.
pub(super) struct RefusedCaller {
    pub(super) error: Error,
    pub(super) logged: Logged,
}

impl RefusedCaller {
    fn limited(error: Error, user: Option<UserId>, detail: &'static str) -> Self {
        let logged = Logged::refused(user, Refusal::new(error.code(), Some(detail)));
        Self { error, logged }
    }
}

impl From<Error> for RefusedCaller {
    fn from(error: Error) -> Self {
        let reason = error.reason().map(CredentialsError::name);
        let logged = Logged::refused(None, Refusal::new(error.code(), reason));
        Self { error, logged }
    }
}

/// Identifies the caller and counts the request against its rate limits. A missing token is an anonymous caller; an
/// invalid token is an error.
pub(super) async fn caller(parts: &Parts, state: &HttpState) -> Result<Caller, RefusedCaller> {
    let addr = parts.extensions.get::<Client>().map(|client| client.addr);
    let of_address = state.throttle.address_request(addr);
    of_address.map_err(|error| RefusedCaller::limited(error, None, "too many requests of this address"))?;
    let viewer = viewer(&parts.headers, state).await?;
    if let Some(principal) = &viewer.0 {
        let of_user = state.throttle.user_request(principal.user);
        let detail = "too many requests of this user";
        of_user.map_err(|error| RefusedCaller::limited(error, Some(principal.user), detail))?;
    }
    Ok(Caller { viewer, peer: Peer(addr) })
}

/// The caller without the token of the request.
pub(super) fn anonymous(parts: &Parts) -> Caller {
    Caller { viewer: Viewer(None), peer: Peer(parts.extensions.get::<Client>().map(|client| client.addr)) }
}

async fn viewer(headers: &HeaderMap, state: &HttpState) -> Result<Viewer, Error> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(Viewer(None)),
        (Some(value), None) => {
            let text = value.to_str().map_err(|_| TokenError::Invalid)?;
            let (scheme, token) = text.trim().split_once(' ').ok_or(TokenError::Invalid)?;
            if !scheme.eq_ignore_ascii_case("bearer") {
                return Err(TokenError::Invalid.into());
            }
            state.authenticator.authenticate(token.trim()).await.map(|principal| Viewer(Some(principal)))
        }
        // Two headers: a proxy in front may have checked the other one.
        (Some(_), Some(_)) => Err(TokenError::Invalid.into()),
    }
}
