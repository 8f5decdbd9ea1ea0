//! Messages of both subprotocols: client messages are parsed strictly, server messages are written into one buffer
//! without an intermediate tree.

use std::collections::HashMap;

use axum::extract::ws::{Message, Utf8Bytes};
use axum::http::{HeaderMap, header};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::close::Close;
use crate::graphql::request::GraphQLRequest;
use crate::graphql::response::GraphQLResponse;

/// Longest id of an operation, in bytes.
const MAX_ID_BYTES: usize = 128;

/// Most bytes reserved for a message before it is written: a large one is seldom followed by another.
const MAX_RESERVED_BYTES: usize = 64 << 10;

/// The subprotocol of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// `graphql-transport-ws`, of the `graphql-ws` library.
    Transport,
    /// `graphql-ws`, of the older `subscriptions-transport-ws` library.
    Legacy,
}

/// A message of the client.
#[derive(Debug)]
pub(super) enum ClientMessage<'a> {
    Init(Option<&'a RawValue>),
    Ping(Option<&'a RawValue>),
    Pong,
    Subscribe(String, GraphQLRequest),
    Complete(String),
    Terminate,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "type")]
    kind: String,
    id: Option<String>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
}

impl Protocol {
    /// The first one that the client offers and the server knows: clients list them in order of preference.
    pub(super) fn negotiate(headers: &HeaderMap) -> Option<Self> {
        let offers =
            headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter().filter_map(|offer| offer.to_str().ok());
        let mut names = offers.flat_map(|offer| offer.split(',')).map(str::trim);
        names.find_map(|name| [Self::Transport, Self::Legacy].into_iter().find(|protocol| protocol.name() == name))
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Transport => "graphql-transport-ws",
            Self::Legacy => "graphql-ws",
        }
    }

    /// Parses one text message. Every message that the protocol does not define closes the socket.
    pub(super) fn parse(self, text: &str) -> Result<ClientMessage<'_>, Close> {
        // serde would accept an array for a struct.
        let object = text.trim_start().starts_with('{');
        let envelope: Option<Envelope<'_>> = object.then(|| serde_json::from_str(text).ok()).flatten();
        let Some(Envelope { kind, id, payload }) = envelope else {
            return Err(Close::invalid("Invalid message: not an object with a type"));
        };
        match (self, kind.as_str()) {
            (_, "connection_init") => Ok(ClientMessage::Init(object_or_none(payload)?)),
            (Self::Transport, "ping") => Ok(ClientMessage::Ping(object_or_none(payload)?)),
            (Self::Transport, "pong") => object_or_none(payload).map(|_| ClientMessage::Pong),
            (Self::Transport, "subscribe") | (Self::Legacy, "start") => {
                let payload = payload.ok_or_else(|| Close::invalid("Invalid message: no payload"))?;
                let call = GraphQLRequest::from_json(payload.get())
                    .map_err(|refusal| Close::invalid(format!("Invalid message: {refusal}")))?;
                if call.query.is_none() && call.persisted.is_none() {
                    return Err(Close::invalid("Invalid message: the payload has no query"));
                }
                Ok(ClientMessage::Subscribe(operation_id(id)?, call))
            }
            (Self::Transport, "complete") | (Self::Legacy, "stop") => Ok(ClientMessage::Complete(operation_id(id)?)),
            (Self::Legacy, "connection_terminate") => Ok(ClientMessage::Terminate),
            _ => Err(Close::invalid("Invalid message: unknown type")),
        }
    }

    /// The reply to an accepted `connection_init`.
    pub(super) fn ack(self) -> Message {
        Message::Text(Utf8Bytes::from_static(r#"{"type":"connection_ack"}"#))
    }

    /// The heartbeat of the legacy protocol.
    pub(super) fn keep_alive() -> Message {
        Message::Text(Utf8Bytes::from_static(r#"{"type":"ka"}"#))
    }

    pub(super) fn pong() -> Message {
        Message::Text(Utf8Bytes::from_static(r#"{"type":"pong"}"#))
    }

    /// The legacy protocol reports a refused `connection_init` in a message as well.
    pub(super) fn connection_error(reason: &str) -> Message {
        let message = serde_json::json!({"type": "connection_error", "payload": {"message": reason}});
        Message::text(message.to_string())
    }
}

fn object_or_none(payload: Option<&RawValue>) -> Result<Option<&RawValue>, Close> {
    match payload {
        Some(raw) if !raw.get().starts_with('{') => {
            Err(Close::invalid("Invalid message: the payload is not an object"))
        }
        payload => Ok(payload),
    }
}

fn operation_id(id: Option<String>) -> Result<String, Close> {
    match id {
        Some(id) if (1..=MAX_ID_BYTES).contains(&id.len()) => Ok(id),
        Some(_) => Err(Close::invalid("Invalid message: the id must have 1 to 128 bytes")),
        None => Err(Close::invalid("Invalid message: no id")),
    }
}

/// The payload of `connection_init` or `ping`: the keys that may hold a token, and the others.
#[derive(Default, Deserialize)]
struct Payload {
    #[serde(rename = "Authorization", default, deserialize_with = "given")]
    upper: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    authorization: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    token: Option<Option<String>>,
    #[serde(flatten)]
    others: HashMap<String, IgnoredAny>,
}

/// A key that is there, perhaps with null.
fn given<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(value).map(Some)
}

impl Payload {
    fn parse(payload: Option<&RawValue>) -> serde_json::Result<Self> {
        payload.map_or_else(|| Ok(Self::default()), |payload| serde_json::from_str(payload.get()))
    }
}

/// The token in the payload of `connection_init` or `ping`, with or without `Bearer `.
/// `Err` when one of the three fields is not a string.
pub(super) fn token(payload: Option<&RawValue>) -> Result<Option<String>, ()> {
    let Payload { upper, authorization, token, .. } = Payload::parse(payload).map_err(|_| ())?;
    let given = [upper, authorization, token].into_iter().flatten().flatten().next();
    let Some(text) = given.filter(|text| !text.is_empty()) else { return Ok(None) };
    let bare = match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => text.as_str(),
    };
    Ok(Some(bare.to_owned()))
}

/// Whether the payload of a `connection_init` has keys, but none that may hold a token. Its client most likely sends a token
/// under another name.
pub(super) fn has_only_unknown_keys(payload: Option<&RawValue>) -> bool {
    let Payload { upper, authorization, token, others } = Payload::parse(payload).unwrap_or_default();
    !others.is_empty() && [upper, authorization, token].iter().all(Option::is_none)
}

/// Writes the server messages of one operation. Their common head is written once.
pub(super) struct MessageEncoder {
    protocol: Protocol,
    /// `{"id":"…","type":"`
    head: Vec<u8>,
    /// Size of the last message, to reserve space for the next one.
    last_bytes: usize,
}

impl MessageEncoder {
    pub(super) fn new(protocol: Protocol, id: &str) -> Self {
        let mut head = br#"{"id":"#.to_vec();
        serde_json::to_writer(&mut head, id).expect("text is JSON");
        head.extend_from_slice(br#","type":""#);
        Self { protocol, head, last_bytes: 256 }
    }

    /// `payload_bytes` is the size of the payload, if it is known: then nothing is reserved in vain.
    fn message(&mut self, kind: &[u8], payload_bytes: Option<usize>, payload: impl FnOnce(&mut Vec<u8>)) -> Message {
        let exact = payload_bytes.map(|n| self.head.len() + kind.len() + n + 1);
        let mut out = Vec::with_capacity(exact.unwrap_or(self.last_bytes + self.last_bytes / 8));
        out.extend_from_slice(&self.head);
        out.extend_from_slice(kind);
        payload(&mut out);
        out.push(b'}');
        self.last_bytes = out.len().min(MAX_RESERVED_BYTES);
        Message::Text(String::from_utf8(out).expect("JSON is UTF-8").into())
    }

    pub(super) fn next(&mut self, response: &GraphQLResponse) -> Message {
        let kind: &[u8] = match self.protocol {
            Protocol::Transport => br#"next","payload":"#,
            Protocol::Legacy => br#"data","payload":"#,
        };
        self.message(kind, response.known_bytes(), |out| response.write(out))
    }

    pub(super) fn error(&mut self, response: &GraphQLResponse) -> Message {
        fn write(value: impl Serialize) -> impl FnOnce(&mut Vec<u8>) {
            move |out| serde_json::to_writer(out, &value).expect("errors are JSON")
        }
        let kind = br#"error","payload":"#;
        match self.protocol {
            Protocol::Transport => self.message(kind, None, write(response.errors())),
            Protocol::Legacy => self.message(kind, None, write(response.first_error())),
        }
    }

    pub(super) fn complete(&mut self) -> Message {
        self.message(br#"complete""#, Some(0), |_| {})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_the_protocol_does_not_define_are_refused() {
        use Protocol::{Legacy, Transport};
        let good = [
            (Transport, r#"{"type":"connection_init"}"#),
            (Transport, r#"{"type":"connection_init","payload":null}"#),
            (Transport, r#"{"type":"ping","payload":{}}"#),
            (Transport, r#"{"type":"pong"}"#),
            (Transport, r#"{"id":"1","type":"subscribe","payload":{"query":"{a}"}}"#),
            (Transport, r#"{"id":"1","type":"complete"}"#),
            (Legacy, r#"{"id":"1","type":"start","payload":{"query":"{a}"}}"#),
            (Legacy, r#"{"id":"1","type":"stop"}"#),
            (Legacy, r#"{"type":"connection_terminate"}"#),
        ];
        for (protocol, text) in good {
            assert!(protocol.parse(text).is_ok(), "{text}");
        }
        let long = format!(r#"{{"id":"{}","type":"complete"}}"#, "x".repeat(129));
        let bad = [
            (Transport, ""),
            (Transport, "hello"),
            (Transport, "[]"),
            (Transport, r#"["connection_init",null,null]"#),
            (Transport, "{}"),
            (Transport, r#"{"type":7}"#),
            (Transport, r#"{"type":"start","id":"1","payload":{"query":"{a}"}}"#),
            (Transport, r#"{"type":"connection_init","payload":"x"}"#),
            (Transport, r#"{"type":"subscribe","payload":{"query":"{a}"}}"#),
            (Transport, r#"{"type":"subscribe","id":7,"payload":{"query":"{a}"}}"#),
            (Transport, r#"{"type":"subscribe","id":"","payload":{"query":"{a}"}}"#),
            (Transport, r#"{"type":"subscribe","id":"1"}"#),
            (Transport, r#"{"type":"subscribe","id":"1","payload":{}}"#),
            (Transport, r#"{"type":"subscribe","id":"1","payload":{"query":7}}"#),
            (Transport, r#"{"type":"complete"}"#),
            (Transport, &long),
            (Legacy, r#"{"id":"1","type":"subscribe","payload":{"query":"{a}"}}"#),
            (Legacy, r#"{"type":"ping"}"#),
        ];
        for (protocol, text) in bad {
            assert_eq!(protocol.parse(text).unwrap_err().code, 4400, "{text}");
        }
    }

    #[test]
    fn the_first_known_offer_of_the_client_is_chosen() {
        use Protocol::{Legacy, Transport};
        for (offers, chosen) in [
            (vec!["graphql-ws, graphql-transport-ws"], Some(Legacy)),
            (vec!["graphql-transport-ws,graphql-ws"], Some(Transport)),
            (vec!["mqtt", "graphql-ws", "graphql-transport-ws"], Some(Legacy)),
            (vec!["mqtt"], None),
            (vec!["GRAPHQL-WS"], None),
            (vec![], None),
        ] {
            let mut headers = HeaderMap::new();
            for offer in &offers {
                headers.append(header::SEC_WEBSOCKET_PROTOCOL, offer.parse().unwrap());
            }
            assert_eq!(Protocol::negotiate(&headers), chosen, "{offers:?}");
        }
    }

    #[test]
    fn a_token_is_found_under_three_names() {
        let read = |json: &str| token(Some(&serde_json::from_str::<Box<RawValue>>(json).unwrap()));
        for json in [r#"{"Authorization":"Bearer t"}"#, r#"{"authorization":"bearer  t"}"#, r#"{"token":"t"}"#] {
            assert_eq!(read(json), Ok(Some("t".to_owned())), "{json}");
        }
        assert_eq!(read(r#"{"token":"","other":{}}"#), Ok(None));
        assert_eq!(token(None), Ok(None));
        assert!(read(r#"{"token":7}"#).is_err());
        let unknown = |json: &str| has_only_unknown_keys(Some(&serde_json::from_str::<Box<RawValue>>(json).unwrap()));
        assert!(unknown(r#"{"accessToken":"t"}"#) && unknown(r#"{"headers":{"Authorization":"t"}}"#));
        assert!(!unknown("{}") && !unknown(r#"{"token":"","other":{}}"#) && !has_only_unknown_keys(None));
    }

    #[test]
    fn an_id_is_escaped() {
        let message = MessageEncoder::new(Protocol::Transport, "a\"b").complete();
        assert_eq!(message.to_text().unwrap(), r#"{"id":"a\"b","type":"complete"}"#);
    }
}
