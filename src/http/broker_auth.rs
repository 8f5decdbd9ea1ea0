//! For brokers that ask over HTTP who may enter and what they may do: EMQX, VerneMQ, mosquitto-go-auth, and
//! what is written for others. On a port of its own, because it is for the broker alone.
//!
//! Each answer says the same in every broker's words: `{"result": "allow", "ok": true}`. A "no" has status 403
//! for those who look at nothing else (mosquitto-go-auth, as it comes), and 200 for EMQX, to whom another
//! status means "ask somebody else" and may end in a yes. Without the database it is 503.

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

use super::{layers, responses};
use crate::devices::{Logins, MqttUser, mqtt_client_id};
use crate::error::Error;
use crate::metrics::Metrics;
use crate::mqtt::acl::{BrokerClient, TopicAction, is_allowed};
use crate::settings::Secret;

/// Bytes of a question: some brokers send the message along.
const MAX_BODY: usize = 128 << 10;
/// How long a question may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(5);
/// Filters of one question.
const MAX_FILTERS: usize = 100;
const SECRET_HEADER: &str = "x-auth-secret";

/// What the answers are made of.
pub struct BrokerAuth {
    /// The devices' passwords.
    pub logins: Logins,
    /// First segment of every topic.
    pub prefix: String,
    /// The server's own account.
    pub server: Option<(String, Secret)>,
    /// What the broker must know.
    pub secret: Option<Secret>,
    /// The server's counters.
    pub metrics: Metrics,
}

/// What could not be answered.
enum Unanswered {
    /// The question makes no sense.
    Unreadable,
    Failed(Error),
}

type Verdict = Result<bool, Unanswered>;

/// The status of a "no".
type No = fn(&Question) -> StatusCode;

/// The routes: `/auth`, `/superuser`, `/acl`, `/emqx/auth` for EMQX, `/vernemq` for its webhooks.
pub fn router(auth: BrokerAuth) -> Router {
    Router::new()
        .route(
            "/auth",
            post(async |auth, request| answer(auth, request, BrokerAuth::enters, |_| StatusCode::FORBIDDEN).await),
        )
        .route(
            "/emqx/auth",
            post(async |auth, request| answer(auth, request, BrokerAuth::enters, |_| StatusCode::OK).await),
        )
        // The server needs no more rights than its rules give it.
        .route(
            "/superuser",
            post(async |auth, request| answer(auth, request, async |_, _| Ok(false), |_| StatusCode::FORBIDDEN).await),
        )
        .route("/acl", post(async |auth, request| answer(auth, request, BrokerAuth::acts, status_by_words).await))
        .route("/vernemq", post(vernemq))
        .with_state(Arc::new(auth))
        .fallback(async || responses::problem(StatusCode::NOT_FOUND, "NOT_FOUND", "no such path"))
        .method_not_allowed_fallback(async || responses::method_not_allowed("POST"))
        .layer(CatchPanicLayer::custom(layers::panicked))
        .layer(axum::middleware::from_fn(layers::frame))
}

async fn answer(
    State(auth): State<Arc<BrokerAuth>>,
    request: Request<Body>,
    ask: impl AsyncFn(&BrokerAuth, &Question) -> Verdict,
    no: No,
) -> Response {
    let question = match auth.question(request).await {
        Ok((_, question)) => question,
        Err(refusal) => return refusal,
    };
    let verdict = ask(&auth, &question).await;
    auth.reply(
        verdict,
        no(&question),
        |allowed| json!({"result": if allowed { "allow" } else { "deny" }, "ok": allowed, "is_superuser": false}),
    )
}

/// Who asks for an `action` is EMQX, or speaks as it.
fn status_by_words(question: &Question) -> StatusCode {
    if question.text("action").is_empty() { StatusCode::FORBIDDEN } else { StatusCode::OK }
}

async fn vernemq(State(auth): State<Arc<BrokerAuth>>, request: Request<Body>) -> Response {
    let (headers, question) = match auth.question(request).await {
        Ok(asked) => asked,
        Err(refusal) => return refusal,
    };
    let hook = headers.get("vernemq-hook").and_then(|hook| hook.to_str().ok()).unwrap_or_default();
    let verdict = match hook.trim_end_matches("_m5") {
        "auth_on_register" => auth.enters(&question).await,
        "auth_on_publish" => auth.may(&question, &[TopicAction::Publish], &[question.text("topic")]).await,
        "auth_on_subscribe" => {
            let topics = question.0.get("topics").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let topics: Vec<_> = topics.iter().map(|topic| topic["topic"].as_str().unwrap_or_default()).collect();
            auth.may(&question, &[TopicAction::Subscribe], &topics).await
        }
        _ => Err(Unanswered::Unreadable),
    };
    auth.reply(verdict, StatusCode::OK, |allowed| match allowed {
        true => json!({"result": "ok"}),
        false => json!({"result": {"error": "not_allowed"}}),
    })
}

impl BrokerAuth {
    async fn question(&self, request: Request<Body>) -> Result<(HeaderMap, Question), Response> {
        let (parts, body) = request.into_parts();
        if !self.knows_secret(&parts.headers) {
            self.metrics.count_broker_auth("unknown_broker");
            return Err(responses::problem(
                StatusCode::UNAUTHORIZED,
                "UNAUTHENTICATED",
                "send MQTT_AUTH_SECRET in the header X-Auth-Secret, or as the password of Basic authentication",
            ));
        }
        let body = match tokio::time::timeout(BODY_TIME, axum::body::to_bytes(body, MAX_BODY)).await {
            Ok(Ok(body)) => body,
            Ok(Err(_)) => {
                let message = "the question is longer than 128 KiB";
                return Err(responses::problem(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", message));
            }
            Err(_) => {
                let message = "the question did not arrive in time";
                return Err(responses::problem(StatusCode::REQUEST_TIMEOUT, "BAD_USER_INPUT", message));
            }
        };
        match Question::read(&parts.headers, &body) {
            Some(question) => Ok((parts.headers, question)),
            None => Err(unreadable()),
        }
    }

    fn knows_secret(&self, headers: &HeaderMap) -> bool {
        let Some(secret) = &self.secret else { return true };
        let basic = || {
            let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
            let decoded = STANDARD.decode(value.strip_prefix("Basic ")?.trim()).ok()?;
            Some(decoded.splitn(2, |b| *b == b':').nth(1)?.to_vec())
        };
        let given = headers.get(SECRET_HEADER).map(|value| value.as_bytes().to_vec()).or_else(basic);
        given.is_some_and(|given| is_same(&given, secret))
    }

    async fn enters(&self, question: &Question) -> Verdict {
        let (name, password) = (question.text("username"), question.text("password"));
        if let Some((server, known)) = self.server.as_ref().filter(|(server, _)| server == name) {
            return Ok(!server.is_empty() && is_same(password.as_bytes(), known));
        }
        let Some(user) = MqttUser::parse(name) else { return Ok(false) };
        let client_id = [question.text("clientid"), question.text("client_id")].concat();
        if !client_id.is_empty() && client_id != mqtt_client_id(user.home, user.device) {
            return Ok(false);
        }
        self.logins.authenticate(user, password).await.map_err(Unanswered::Failed)
    }

    /// In EMQX's words the deed is an `action`, in mosquitto-go-auth's a number.
    async fn acts(&self, question: &Question) -> Verdict {
        let acc = question.0.get("acc").map(|acc| acc.as_str().map_or_else(|| acc.to_string(), str::to_owned));
        let deeds: &[TopicAction] = match (question.text("action"), acc.as_deref()) {
            ("publish", None) | ("", Some("2")) => &[TopicAction::Publish],
            ("subscribe", None) | ("", Some("1" | "4")) => &[TopicAction::Subscribe],
            ("", Some("3")) => &[TopicAction::Publish, TopicAction::Subscribe],
            _ => return Err(Unanswered::Unreadable),
        };
        self.may(question, deeds, &[question.text("topic")]).await
    }

    /// Every one of the deeds, with every one of the topics. A device that was deleted, or came in by a
    /// password that has ended since, may nothing more, though its connection may still be open.
    async fn may(&self, question: &Question, deeds: &[TopicAction], topics: &[&str]) -> Verdict {
        if topics.len() > MAX_FILTERS {
            return Ok(false);
        }
        let name = question.text("username");
        let is_server = self.server.as_ref().is_some_and(|(server, _)| server == name);
        let party =
            if is_server { Some(BrokerClient::Server) } else { MqttUser::parse(name).map(BrokerClient::Device) };
        let Some(party) = party else { return Ok(false) };
        let may_all = |deed: &TopicAction| topics.iter().all(|topic| is_allowed(&self.prefix, party, *deed, topic));
        if topics.is_empty() || !deeds.iter().all(may_all) {
            return Ok(false);
        }
        match party {
            BrokerClient::Server => Ok(true),
            BrokerClient::Device(user) => self.logins.is_still_authorized(user).await.map_err(Unanswered::Failed),
        }
    }

    fn reply(&self, verdict: Verdict, no: StatusCode, words: impl Fn(bool) -> Value) -> Response {
        match verdict {
            Ok(allowed) => {
                self.metrics.count_broker_auth(if allowed { "allowed" } else { "denied" });
                responses::json(if allowed { StatusCode::OK } else { no }, &words(allowed))
            }
            Err(Unanswered::Unreadable) => unreadable(),
            Err(Unanswered::Failed(error)) => {
                tracing::warn!(%error, "a broker's question could not be answered");
                self.metrics.count_broker_auth("failed");
                let message = "service temporarily unavailable, try again";
                responses::problem(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", message)
            }
        }
    }
}

fn unreadable() -> Response {
    let message = "a broker's question is JSON or a form with username and password, or username, topic and action or acc: see docs/brokers.md";
    responses::problem(StatusCode::BAD_REQUEST, "BAD_USER_INPUT", message)
}

/// By digests, whose comparison's time tells nothing of use.
fn is_same(given: &[u8], secret: &Secret) -> bool {
    Sha256::digest(given) == Sha256::digest(secret.reveal())
}

/// A question's fields.
struct Question(Map<String, Value>);

impl Question {
    fn read(headers: &HeaderMap, body: &[u8]) -> Option<Self> {
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
