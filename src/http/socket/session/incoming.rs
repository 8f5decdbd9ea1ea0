//! Messages of the client: authentication, starting and stopping operations.

use std::borrow::Cow;

use axum::extract::ws::Message;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::Session;
use crate::auth::Principal;
use crate::graphql::request::GraphQLRequest;
use crate::graphql::request_error::RequestError;
use crate::graphql::{OperationKind, Viewer};
use crate::http::request_log::{Logged, Refusal};
use crate::http::socket::close::{Close, CloseReason};
use crate::http::socket::message::{ClientMessage, MessageEncoder, Protocol, has_only_unknown_keys, token};
use crate::http::socket::operations::Operation;

impl Session {
    /// Handles one frame of the client; returns the messages to send at once.
    pub(super) async fn handle_message(&mut self, message: Message) -> Result<Vec<Message>, CloseReason> {
        let now = Instant::now();
        self.received_at = now;
        self.pinged_at = None;
        if !self.is_unused() {
            self.used_at = now;
        }
        let since_open = i64::try_from((now - self.opened_at).as_micros()).unwrap_or(i64::MAX);
        if !self.message_rate.admit(&mut self.theoretical_arrival_time, since_open) {
            return Err(Close::TOO_MANY_MESSAGES.into());
        }
        let text = match message {
            Message::Text(text) => text,
            Message::Binary(_) => return Err(Close::invalid("Invalid message: binary").into()),
            Message::Ping(_) | Message::Pong(_) => return Ok(Vec::new()),
            Message::Close(_) => return Err(CloseReason::Client),
        };
        if text.len() > self.state.limits.socket_message_bytes {
            return Err(Close::TOO_BIG.into());
        }
        match self.protocol.parse(text.as_str())? {
            ClientMessage::Init(payload) => {
                let ack = self.init(payload).await?;
                Ok([ack].into_iter().chain(self.keep_alive()).collect())
            }
            ClientMessage::Ping(payload) => {
                self.renew_token(payload).await?;
                Ok(vec![Protocol::pong()])
            }
            ClientMessage::Pong => Ok(Vec::new()),
            ClientMessage::Subscribe(id, request) => {
                self.check_session().await?;
                Ok(self.subscribe(&id, request)?.into_iter().collect())
            }
            ClientMessage::Complete(id) => Ok(self.complete(&id).into_iter().collect()),
            ClientMessage::Terminate => Err(Close::NORMAL.into()),
        }
    }

    async fn init(&mut self, payload: Option<&RawValue>) -> Result<Message, CloseReason> {
        if self.is_acknowledged {
            return Err(Close::SECOND_INIT.into());
        }
        match token(payload) {
            Ok(None) if self.caller.viewer.0.is_none() && has_only_unknown_keys(payload) => {
                return Err(Close::UNKNOWN_KEYS.into());
            }
            Ok(None) => {}
            Ok(Some(token)) => {
                let principal = self.authenticate(&token).await?;
                let signed_in = self.state.quotas.sign_in(&mut self.quota, principal.user);
                signed_in.map_err(|_| Close::TOO_MANY_SOCKETS)?;
                self.watch = Some(self.state.revocations.watch(&principal));
                self.caller.viewer = Viewer(Some(principal));
            }
            Err(()) => return Err(Close::FORBIDDEN.into()),
        }
        self.is_acknowledged = true;
        Ok(self.protocol.ack())
    }

    /// A fresh token in a ping keeps the socket open beyond the expiry of the present one. It must belong to the
    /// same session.
    async fn renew_token(&mut self, payload: Option<&RawValue>) -> Result<(), Close> {
        let fresh = match token(payload) {
            Ok(None) => return Ok(()),
            Ok(Some(token)) => self.authenticate(&token).await?,
            Err(()) => return Err(Close::FORBIDDEN),
        };
        match &self.caller.viewer.0 {
            Some(present) if (present.user, present.actor) == (fresh.user, fresh.actor) => {
                // An older token that arrives late does not shorten the session.
                if present.expires_at < fresh.expires_at {
                    self.caller.viewer = Viewer(Some(fresh));
                }
                Ok(())
            }
            _ => Err(Close::FORBIDDEN),
        }
    }

    /// Checks a token from a message, within the rate limits of a request.
    async fn authenticate(&mut self, token: &str) -> Result<Principal, Close> {
        let authenticated = async {
            self.state.throttle.address_request(self.caller.peer.0)?;
            let principal = self.state.authenticator.authenticate(token).await?;
            self.state.throttle.user_request(principal.user)?;
            Ok(principal)
        };
        authenticated.await.map_err(|error| Close::auth_error(&error))
    }

    fn subscribe(&mut self, id: &str, request: GraphQLRequest) -> Result<Option<Message>, Close> {
        if !self.is_acknowledged {
            return Err(Close::UNAUTHORIZED);
        }
        if self.caller.viewer.0.as_ref().is_some_and(|principal| self.has_expired(principal)) {
            return Err(Close::EXPIRED);
        }
        if self.operations.contains(id) {
            return Err(Close::duplicate(id));
        }
        match self.start(id, request) {
            Ok(operation) => {
                self.operations.start(operation);
                Ok(None)
            }
            Err(error) => {
                self.state.metrics.count_http_rejection(error.code());
                self.log.operation(&Logged::refused(self.caller.user(), Refusal::of(&error)));
                Ok(Some(MessageEncoder::new(self.protocol, id).error(&error.into())))
            }
        }
    }

    fn start(&self, id: &str, request: GraphQLRequest) -> Result<Operation, RequestError> {
        let rate_limited = |message: Cow<'static, str>| RequestError::new("RATE_LIMITED", message);
        if self.operations.len() >= self.state.limits.socket_operations {
            return Err(rate_limited("too many operations on one socket".into()));
        }
        self.count_request().map_err(|error| rate_limited(error.to_string().into()))?;
        let prepared = self.state.engine.prepare(request)?;
        let is_subscription = prepared.kind() == OperationKind::Subscription;
        // Queries and mutations end soon: the limit on operations of one socket is enough for them.
        let quota = is_subscription.then(|| self.state.quotas.subscription(&self.caller)).transpose();
        let quota = quota.map_err(|_| rate_limited("too many subscriptions are open: end one of them first".into()))?;
        let logged = self.log.begin(Logged::operation(&prepared, &self.caller));
        // What the operation logs has the id of the socket's request.
        let responses = self.log.span().in_scope(|| self.state.engine.stream(prepared, self.caller.clone()));
        Ok(Operation {
            id: id.to_owned(),
            encoder: MessageEncoder::new(self.protocol, id),
            responses,
            logged: Some(logged),
            is_starting: is_subscription,
            _quota: quota,
        })
    }

    /// Counts an operation against the rate limits of the address and of the user.
    fn count_request(&self) -> Result<(), crate::error::Error> {
        self.state.throttle.address_request(self.caller.peer.0)?;
        match &self.caller.viewer.0 {
            Some(principal) => self.state.throttle.user_request(principal.user),
            None => Ok(()),
        }
    }

    /// An unknown id is no error: the server's own `complete` may have crossed the client's.
    fn complete(&mut self, id: &str) -> Option<Message> {
        let was_running = self.operations.end(id);
        // The legacy protocol confirms a stop.
        (was_running && self.protocol == Protocol::Legacy).then(|| MessageEncoder::new(self.protocol, id).complete())
    }
}
