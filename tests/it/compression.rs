//! Which responses are compressed.

#![expect(clippy::unwrap_used, reason = "what can't be read fails the test")]

use std::io::Read;

use serde_json::{Value, json};

use super::edge::{Edge, Reply};

const GZIP: &str = "\r\nAccept-Encoding: gzip, deflate, br";

fn is_compressed(reply: &Reply) -> bool {
    reply.head.contains("content-encoding: gzip")
}

fn unpacked(reply: &Reply) -> Value {
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(reply.body.as_slice()).read_to_end(&mut text).unwrap();
    serde_json::from_slice(&text).unwrap()
}

#[tokio::test]
async fn long_responses_to_queries_are_compressed_for_clients_that_accept_it() {
    let edge = Edge::start().await;
    // The last one is compressed on a thread of its own.
    for kib in [1, 40, 300] {
        let query = json!({"query": format!("{{ text(kib: {kib}) }}")});
        let plain = edge.post("", &query).await;
        assert!(!is_compressed(&plain) && plain.head.contains("vary: accept-encoding"), "{}", plain.head);
        let packed = edge.post(GZIP, &query).await;
        assert!(is_compressed(&packed) && packed.head.contains("vary: accept-encoding"), "{}", packed.head);
        assert!(packed.head.contains(&format!("content-length: {}\r\n", packed.body.len())), "{}", packed.head);
        assert!(packed.body.len() < plain.body.len() / 2);
        assert_eq!(unpacked(&packed), plain.json());
        let refused = edge.post("\r\nAccept-Encoding: gzip;q=0, *", &query).await;
        assert_eq!((is_compressed(&refused), refused.body), (false, plain.body));
    }
    let short = edge.post(GZIP, &json!({"query": "{ hello }"})).await;
    assert!(!is_compressed(&short) && !short.head.contains("accept-encoding"), "{}", short.head);
}

/// A compressed length tells what a response holds: responses to mutations hold tokens and passwords.
#[tokio::test]
async fn responses_to_mutations_and_streams_are_never_compressed() {
    let edge = Edge::start().await;
    let fields: Vec<_> = ('a'..='j').map(|c| format!("{}: bump(by: 1)", c.to_string().repeat(120))).collect();
    let mutation = edge.post(GZIP, &json!({"query": format!("mutation {{ {} }}", fields.join(" "))})).await;
    assert!(!is_compressed(&mutation) && mutation.body.len() > 1 << 10, "{}", mutation.head);
    assert_eq!(mutation.json()["data"].as_object().unwrap().len(), fields.len());
    for format in ["text/event-stream", "multipart/mixed;subscriptionSpec=\"1.0\""] {
        for query in ["{ text(kib: 4) }", "subscription { texts(kib: [4]) }"] {
            let headers = format!("{GZIP}\r\nAccept: {format}");
            let stream = edge.post(&headers, &json!({ "query": query })).await;
            let text = String::from_utf8_lossy(&stream.body);
            assert!(!is_compressed(&stream) && text.contains("data"), "{format} {query}: {}", stream.head);
        }
    }
}
