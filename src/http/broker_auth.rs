//! The HTTP authentication and authorization endpoint of brokers: EMQX, VerneMQ, mosquitto-go-auth and compatible
//! ones. It has a port of its own, because only the broker may use it.
//!
//! One response body serves all brokers: `{"result": "allow", "ok": true}`. A denial has status 403 for brokers that
//! read only the status (mosquitto-go-auth by default). EMQX gets 200: it takes another status for "no decision",
//! asks the next authenticator and may then allow the client. Without the database the status is 503.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tower_http::catch_panic::CatchPanicLayer;

use super::negotiate::Media;
use super::{layers, responses};
use crate::devices::{Logins, MqttUser};
use crate::error::Error;
use crate::metrics::Metrics;
use crate::mqtt::acl::{BrokerClient, TopicAction, is_allowed, uplink_device};
use crate::settings::Secret;
use crate::traces::Traces;

/// Bytes of a request: some brokers include the message.
const MAX_BODY: usize = 128 << 10;
/// Time to receive a request's body.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// Topic filters of one request.
const MAX_FILTERS: usize = 100;
/// The outcomes in `smarthome_broker_questions_total`.
const ALLOWED: &str = "allowed";
const DENIED: &str = "denied";
const FAILED: &str = "failed";
const UNKNOWN_BROKER: &str = "unknown_broker";
pub(super) const OUTCOMES: [&str; 4] = [ALLOWED, DENIED, FAILED, UNKNOWN_BROKER];
const SECRET_HEADER: &str = "x-auth-secret";

/// What the routes need.
pub struct BrokerAuth {
    pub logins: Logins,
    /// The first segment of every topic.
    pub prefix: String,
    /// The user name and password of this server.
    pub server: Option<(String, Secret)>,
    /// What the broker must send in `X-Auth-Secret`.
    pub secret: Option<Secret>,
    pub metrics: Metrics,
}

/// Why a request has no decision.
enum Undecided {
    /// The request lacks fields or is malformed.
    Malformed,
    Failed(Error),
}

/// Whether the client is allowed.
type Decision = Result<bool, Undecided>;

/// The status of a denial.
type DenialStatus = fn(&AuthRequest) -> StatusCode;

/// All paths.
pub(super) const PATHS: [&str; 5] = ["/auth", "/superuser", "/acl", "/emqx/auth", "/vernemq"];

/// The routes: `/auth`, `/superuser`, `/acl`, `/emqx/auth` for EMQX, `/vernemq` for its webhooks.
pub fn router(auth: BrokerAuth) -> Router {
    Router::new()
        .route(
            "/auth",
            post(async |auth, request| {
                respond(auth, request, BrokerAuth::authenticate, |_| StatusCode::FORBIDDEN).await
            }),
        )
        .route(
            "/emqx/auth",
            post(async |auth, request| respond(auth, request, BrokerAuth::authenticate, |_| StatusCode::OK).await),
        )
        // No account is a superuser: the ACL rules give the server all the rights it needs.
        .route(
            "/superuser",
            post(async |auth, request| respond(auth, request, async |_, _| Ok(false), |_| StatusCode::FORBIDDEN).await),
        )
        .route(
            "/acl",
            post(async |auth, request| respond(auth, request, BrokerAuth::authorize, denial_status_by_fields).await),
        )
        .route("/vernemq", post(vernemq))
        .with_state(Arc::new(auth))
        .fallback(async || responses::problem(StatusCode::NOT_FOUND, "NOT_FOUND", "no such path"))
        .method_not_allowed_fallback(async || responses::method_not_allowed(Media::Json, "POST"))
        .layer(CatchPanicLayer::custom(layers::internal_error))
        // Each connection of a device asks: these requests have no traces.
        .layer(axum::middleware::from_fn_with_state(Traces::default(), layers::wrap_request))
}

async fn respond(
    State(auth): State<Arc<BrokerAuth>>,
    request: Request<Body>,
    decide: impl AsyncFn(&BrokerAuth, &AuthRequest) -> Decision,
    denial: DenialStatus,
) -> Response {
    let request = match auth.read(request).await {
        Ok((_, request)) => request,
        Err(response) => return response,
    };
    let decision = decide(&auth, &request).await;
    auth.response(
        decision,
        denial(&request),
        |allowed| json!({"result": if allowed { "allow" } else { "deny" }, "ok": allowed, "is_superuser": false}),
    )
}

/// Only EMQX, and brokers compatible with it, send an `action`.
fn denial_status_by_fields(request: &AuthRequest) -> StatusCode {
    if request.text("action").is_empty() { StatusCode::FORBIDDEN } else { StatusCode::OK }
}

async fn vernemq(State(auth): State<Arc<BrokerAuth>>, request: Request<Body>) -> Response {
    let (headers, request) = match auth.read(request).await {
        Ok(read) => read,
        Err(response) => return response,
    };
    let hook = headers.get("vernemq-hook").and_then(|hook| hook.to_str().ok()).unwrap_or_default();
    let decision = match hook.trim_end_matches("_m5") {
        "auth_on_register" => auth.authenticate(&request).await,
        "auth_on_publish" => auth.may(&request, &[TopicAction::Publish], &[request.text("topic")]).await,
        "auth_on_subscribe" => {
            let topics = request.0.get("topics").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let topics: Vec<_> = topics.iter().map(|topic| topic["topic"].as_str().unwrap_or_default()).collect();
            auth.may(&request, &[TopicAction::Subscribe], &topics).await
        }
        _ => Err(Undecided::Malformed),
    };
    auth.response(decision, StatusCode::OK, |allowed| match allowed {
        true => json!({"result": "ok"}),
        false => json!({"result": {"error": "not_allowed"}}),
    })
}

impl BrokerAuth {
    async fn read(&self, request: Request<Body>) -> Result<(HeaderMap, AuthRequest), Response> {
        let (parts, body) = request.into_parts();
        if !self.has_secret(&parts.headers) {
            self.metrics.count_broker_auth(UNKNOWN_BROKER);
            return Err(responses::problem(
                StatusCode::UNAUTHORIZED,
                "UNAUTHENTICATED",
                "send MQTT_AUTH_SECRET in the header X-Auth-Secret, or as the password of Basic authentication",
            ));
        }
        let body = match tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, MAX_BODY)).await {
            Ok(Ok(body)) => body,
            Ok(Err(_)) => {
                let message = format!("the request is longer than {} KiB", MAX_BODY >> 10);
                return Err(responses::problem(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", message));
            }
            Err(_) => {
                let message = "the request's body took too long";
                return Err(responses::problem(StatusCode::REQUEST_TIMEOUT, "BAD_USER_INPUT", message));
            }
        };
        match AuthRequest::parse(&parts.headers, &body) {
            Some(request) => Ok((parts.headers, request)),
            None => Err(malformed()),
        }
    }

    fn has_secret(&self, headers: &HeaderMap) -> bool {
        let Some(secret) = &self.secret else { return true };
        let basic = || {
            let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
            let decoded = STANDARD.decode(value.strip_prefix("Basic ")?.trim()).ok()?;
            Some(decoded.splitn(2, |b| *b == b':').nth(1)?.to_vec())
        };
        let given = headers.get(SECRET_HEADER).map(|value| value.as_bytes().to_vec()).or_else(basic);
        given.is_some_and(|given| is_same(&given, secret))
    }

    async fn authenticate(&self, request: &AuthRequest) -> Decision {
        let (name, password) = (request.text("username"), request.text("password"));
        if let Some((server, known)) = self.server.as_ref().filter(|(server, _)| server == name) {
            return Ok(!server.is_empty() && is_same(password.as_bytes(), known));
        }
        let Some(user) = MqttUser::parse(name) else { return Ok(false) };
        let client_id = [request.text("clientid"), request.text("client_id")].concat();
        let client_id = Some(client_id.as_str()).filter(|id| !id.is_empty());
        self.logins.authenticate(user, client_id, password).await.map_err(Undecided::Failed)
    }

    /// EMQX sends an `action`, mosquitto-go-auth the number `acc`.
    async fn authorize(&self, request: &AuthRequest) -> Decision {
        let acc = request.0.get("acc").map(|acc| acc.as_str().map_or_else(|| acc.to_string(), str::to_owned));
        let actions: &[TopicAction] = match (request.text("action"), acc.as_deref()) {
            ("publish", None) | ("", Some("2")) => &[TopicAction::Publish],
            ("subscribe", None) | ("", Some("1" | "4")) => &[TopicAction::Subscribe],
            ("", Some("3")) => &[TopicAction::Publish, TopicAction::Subscribe],
            _ => return Err(Undecided::Malformed),
        };
        self.may(request, actions, &[request.text("topic")]).await
    }

    /// Whether the client may do all of this with all of the topics. A device that was deleted, or whose password was
    /// revoked since it connected, may do nothing, though its connection may still be open.
    async fn may(&self, request: &AuthRequest, actions: &[TopicAction], topics: &[&str]) -> Decision {
        if topics.len() > MAX_FILTERS {
            return Ok(false);
        }
        let name = request.text("username");
        let is_server = self.server.as_ref().is_some_and(|(server, _)| server == name);
        let client =
            if is_server { Some(BrokerClient::Server) } else { MqttUser::parse(name).map(BrokerClient::Device) };
        let Some(client) = client else { return Ok(false) };
        if let (BrokerClient::Server, [TopicAction::Publish], [topic]) = (client, actions, topics)
            && let Some((home, device)) = uplink_device(&self.prefix, topic)
        {
            return self.logins.is_being_cleaned_up(home, device).await.map_err(Undecided::Failed);
        }
        let is_allowed_for_all =
            |action: &TopicAction| topics.iter().all(|topic| is_allowed(&self.prefix, client, *action, topic));
        if topics.is_empty() || !actions.iter().all(is_allowed_for_all) {
            return Ok(false);
        }
        match client {
            BrokerClient::Server => Ok(true),
            BrokerClient::Device(user) => self.logins.is_still_authorized(user).await.map_err(Undecided::Failed),
        }
    }

    fn response(&self, decision: Decision, denial: StatusCode, body: impl Fn(bool) -> Value) -> Response {
        match decision {
            Ok(allowed) => {
                self.metrics.count_broker_auth(if allowed { ALLOWED } else { DENIED });
                responses::json(if allowed { StatusCode::OK } else { denial }, &body(allowed))
            }
            Err(Undecided::Malformed) => malformed(),
            Err(Undecided::Failed(error)) => {
                tracing::warn!(%error, "could not decide a broker's request");
                self.metrics.count_broker_auth(FAILED);
                responses::problem(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", responses::UNAVAILABLE)
            }
        }
    }
}

fn malformed() -> Response {
    let message = "send JSON or a form with username and password, or with username, topic and action or acc: \
                   see docs/brokers.md";
    responses::problem(StatusCode::BAD_REQUEST, "BAD_USER_INPUT", message)
}

/// Compares digests: the time this takes reveals nothing about the secret.
fn is_same(given: &[u8], secret: &Secret) -> bool {
    Sha256::digest(given) == Sha256::digest(secret.reveal())
}

/// The fields of a broker's request.
struct AuthRequest(Map<String, Value>);

impl AuthRequest {
    fn parse(headers: &HeaderMap, body: &[u8]) -> Option<Self> {
        let media = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
        match media.split(';').next()?.trim() {
            "application/json" => match serde_json::from_slice(body).ok()? {
                Value::Object(fields) => Some(Self(fields)),
                _ => None,
            },
            "application/x-www-form-urlencoded" => {
                let fields = url::form_urlencoded::parse(body);
                Some(Self(fields.map(|(name, value)| (name.into_owned(), value.into_owned().into())).collect()))
            }
            _ => None,
        }
    }

    fn text(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }
}
