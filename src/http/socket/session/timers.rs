//! The deadlines of a session: initialisation, pings, token expiry and idle anonymous sockets.

use axum::extract::ws::Message;
use tokio::time::Instant;

use super::Session;
use crate::auth::Principal;
use crate::clock::Clock;
use crate::http::socket::close::Close;
use crate::http::socket::message::Protocol;
use crate::http::streaming::next_expiry_check;

impl Session {
    /// When to call [`Session::check_timers`] next. Calling it early does no harm.
    pub(super) fn next_deadline(&self) -> Instant {
        let limits = &self.state.limits;
        let ping = match self.pinged_at {
            Some(at) => at + limits.socket_pong_timeout,
            None => self.received_at + limits.socket_ping_interval,
        };
        let anonymous = self.is_unused().then(|| self.used_at + limits.socket_anonymous_timeout);
        let init = (!self.is_acknowledged).then(|| self.opened_at + limits.socket_init_timeout);
        let expiry = self.caller.viewer.0.as_ref().map(|principal| next_expiry_check(principal, &self.state.clock));
        [init, anonymous, expiry].into_iter().flatten().fold(ping, Instant::min)
    }

    /// Closes the socket when a deadline has passed; returns the messages to send, such as a ping.
    pub(super) fn check_timers(&mut self) -> Result<Vec<Message>, Close> {
        let (now, limits) = (Instant::now(), &self.state.limits);
        if !self.is_acknowledged && now >= self.opened_at + limits.socket_init_timeout {
            return Err(Close::INIT_TIMEOUT);
        }
        if self.caller.viewer.0.as_ref().is_some_and(|principal| self.has_expired(principal)) {
            return Err(Close::EXPIRED);
        }
        if !self.is_unused() {
            self.used_at = now;
        } else if now >= self.used_at + limits.socket_anonymous_timeout {
            return Err(Close::ANONYMOUS);
        }
        match self.pinged_at {
            Some(at) if now >= at + limits.socket_pong_timeout => Err(Close::NO_PONG),
            None if now >= self.received_at + limits.socket_ping_interval => {
                self.pinged_at = Some(now);
                Ok([Message::Ping(Default::default())].into_iter().chain(self.keep_alive()).collect())
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Whether the socket has neither a signed-in user nor a running operation.
    pub(super) fn is_unused(&self) -> bool {
        self.caller.viewer.0.is_none() && self.operations.len() == 0
    }

    /// Clients of the legacy protocol expect a message: browsers hide pings from them.
    pub(super) fn keep_alive(&self) -> Option<Message> {
        (self.is_acknowledged && self.protocol == Protocol::Legacy).then(Protocol::keep_alive)
    }

    pub(super) fn has_expired(&self, principal: &Principal) -> bool {
        principal.expires_at <= self.state.clock.now()
    }
}

/// Waits until the token has expired. The first check comes at once, so nothing is sent after the expiry.
pub(super) async fn until_expired(principal: Option<&Principal>, clock: &Clock) {
    let Some(principal) = principal else { return std::future::pending().await };
    while principal.expires_at > clock.now() {
        tokio::time::sleep_until(next_expiry_check(principal, clock)).await;
    }
}
