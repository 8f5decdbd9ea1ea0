//! Malicious documents: each is refused with a small response that has a code. The time that each takes is printed but
//! not asserted; the benchmark measures time.

#![expect(clippy::unwrap_used, reason = "writing to a string can't fail")]

use std::fmt::Write;
use std::time::Instant;

use serde_json::json;

use super::edge::Edge;

/// A chain of `levels` fragments, each spreading the next one `width` times.
fn fragment_bomb(levels: usize, width: usize) -> String {
    let mut text = "{ node { ...F0 } }".to_owned();
    for level in 0..levels {
        let spreads = format!("...F{} ", level + 1).repeat(width);
        write!(text, " fragment F{level} on Node {{ {spreads}}}").unwrap();
    }
    write!(text, " fragment F{levels} on Node {{ id }}").unwrap();
    text
}

fn nested(open: &str, inner: &str, close: &str, levels: usize) -> String {
    format!("{}{inner}{}", open.repeat(levels), close.repeat(levels))
}

fn many(n: usize, item: impl Fn(usize) -> String) -> String {
    (0..n).map(item).collect::<Vec<_>>().join(" ")
}

fn bombs() -> Vec<(&'static str, String)> {
    let kind = "kind name ofType { ".to_owned();
    vec![
        ("fragments 2^10", fragment_bomb(10, 2)),
        ("fragments 2^12", fragment_bomb(12, 2)),
        ("fragments 2^15", fragment_bomb(15, 2)),
        ("fragments 2^20", fragment_bomb(20, 2)),
        ("fragments 2^22", fragment_bomb(22, 2)),
        ("fragments 2^30", fragment_bomb(30, 2)),
        ("fragments 2^40", fragment_bomb(40, 2)),
        ("fragments 2^64", fragment_bomb(64, 2)),
        ("fragments 10^10", fragment_bomb(10, 10)),
        ("fragments 3^14", fragment_bomb(14, 3)),
        ("a chain of 200 fragments", fragment_bomb(200, 1)),
        ("a fragment of itself", "{ node { ...A } } fragment A on Node { ...A }".into()),
        ("a cycle of two", "{ node { ...A } } fragment A on Node { ...B } fragment B on Node { ...A }".into()),
        ("a cycle through a field", "{ node { ...A } } fragment A on Node { child { ...A } }".into()),
        ("an unused cycle", "{ hello } fragment A on Node { child { ...A } }".into()),
        ("an unused bomb", format!("{} fragment X on Node {{ ...F0 }}", fragment_bomb(30, 2).replace("{ node { ...F0 } }", "{ hello }"))),
        ("depth 11", nested("{ node ", "{ id }", "}", 1).replace("{ id }", &nested("{ child ", "{ id }", " }", 9))),
        ("depth 30", nested("{ a ", "{ id }", " }", 30)),
        ("depth 100", nested("{ a ", "{ id }", " }", 100)),
        ("depth 2000", nested("{a", "{b}", "}", 2000)),
        ("depth by inline fragments", format!("{{ node {} }}", nested("{ ... on Node ", "{ id }", " }", 40))),
        ("brackets 8000", format!("{{ echo(text: {}) }}", "[".repeat(8000))),
        ("braces 8000", "{".repeat(8000)),
        ("a type of 5000 brackets", format!("query ($x: {}Int{}) {{ hello }}", "[".repeat(5000), "]".repeat(5000))),
        ("objects in objects", format!("{{ echo(text: {}) }}", nested("{a:", "1", "}", 1000))),
        ("101 aliases", format!("{{ {} }}", many(101, |n| format!("a{n}: hello")))),
        ("1000 aliases", format!("{{ {} }}", many(1000, |n| format!("a{n}: __typename")))),
        ("aliases by fragments", format!("{{ {} }} fragment A on Query {{ node {{ {} }} }}", "...A ".repeat(11), many(10, |n| format!("a{n}: id")))),
        ("51 root fields", format!("{{ {}}}", "hello ".repeat(51))),
        ("root fields by fragments", format!("{{ {}}} fragment A on Query {{ hello hello }}", "...A ".repeat(26))),
        ("1500 equal fields", format!("{{ node {{ {}}} }}", "id ".repeat(1500))),
        ("11 directives", format!("{{ hello {} }}", "@include(if: true) ".repeat(11))),
        ("200 unknown directives", format!("{{ hello {} }}", "@x ".repeat(200))),
        ("directives over fields", format!("{{ node {{ {} }} }} fragment A on Node {{ {} }}", "...A ".repeat(21), "id @skip(if: false) ".repeat(25))),
        ("directives on the operation", format!("query {} {{ hello }}", "@x ".repeat(11))),
        ("directives on variables", format!("query ($a: Int {}) {{ hello }}", "@x ".repeat(11))),
        ("3000 comments", format!("{{ hello }}\n{}", "#\n".repeat(3000))),
        ("a long comment", format!("{{ hello }} #{}", "x".repeat(17 << 10))),
        ("commas", format!("{{ hello {} }}", ",".repeat(17 << 10))),
        ("200 KiB", format!("{{ echo(text: \"{}\") }}", "x".repeat(200 << 10))),
        ("300 operations", many(300, |n| format!("query Q{n} {{ node {{ id }} }}"))),
        ("400 unknown fields", format!("{{ node {{ {} }} }}", many(400, |n| format!("x{n}")))),
        ("300 unknown arguments", format!("{{ hello({}) }}", many(300, |n| format!("x{n}: 1")))),
        ("500 variables", format!("query ({}) {{ hello }}", many(400, |n| format!("$v{n}: Int")))),
        ("a name of 15 KiB", format!("{{ {} }}", "x".repeat(15 << 10))),
        ("an alias of 129 bytes", format!("{{ {}: hello }}", "x".repeat(129))),
        ("an unterminated string", format!("{{ echo(text: \"{} }}", "x".repeat(10 << 10))),
        ("an unterminated block string", format!("{{ echo(text: \"\"\"{} }}", "x".repeat(10 << 10))),
        ("introspection in circles", format!("{{ __schema {{ types {} }} }}", nested("{ fields { type ", "{ name }", " } }", 12))),
        ("introspection, deep types", format!("{{ __type(name: \"Query\") {{ {} name {} }} }}", kind.repeat(25), "}".repeat(25))),
        ("100 introspections", format!("{{ {} }}", many(100, |n| format!("a{n}: __schema {{ types {{ name }} }}")))),
        ("passwords by alias", format!("mutation {{ {} }}", many(20, |n| format!("a{n}: login(password: \"{n}\")")))),
        ("passwords by fragment", "mutation { ...A ...B } fragment A on Mutation { a: login(password: \"1\") } fragment B on Mutation { b: login(password: \"2\") }".into()),
        ("NULs", format!("{{ hello {} }}", "\0".repeat(5000))),
        ("only ignored text", " \n\t,\u{feff}".repeat(1000)),
    ]
}

#[tokio::test]
async fn every_bomb_is_refused_with_a_small_response() {
    let edge = Edge::start().await;
    let bombs = bombs();
    assert!(bombs.len() >= 40);
    for (name, query) in bombs {
        let started = Instant::now();
        let reply = edge.query(&query).await;
        let took = started.elapsed();
        println!("{:>9.2?} {:>4} {:>5} bytes  {name} ({} bytes)", took, reply.status, reply.body.len(), query.len());
        assert!(matches!(reply.status, 400 | 413), "{name}: {} {}", reply.status, reply.json());
        assert!(["BAD_USER_INPUT", "PAYLOAD_TOO_LARGE"].contains(&reply.code().as_str()), "{name}: {}", reply.json());
        assert!(reply.body.len() <= 4 << 10, "{name}: {} bytes", reply.body.len());
        assert!(reply.json().get("data").is_none(), "{name}");
    }
    // The JSON parser refuses deeply nested variables.
    let deep = format!(r#"{{"query":"{{hello}}","variables":{{"x":{}}}}}"#, nested("[", "1", "]", 100_000));
    let reply = edge.request("POST /graphql HTTP/1.1\r\nContent-Type: application/json", deep.as_bytes()).await;
    assert_eq!((reply.status, reply.code().as_str()), (400, "BAD_USER_INPUT"));
    assert_eq!(edge.post("", &json!({"query": "{hello}"})).await.json()["data"]["hello"], "world");
}

/// The counter of responses that were too large.
fn n_too_large(edge: &Edge) -> u64 {
    let text = edge.metrics.render();
    let counted = text.lines().find_map(|line| line.strip_prefix("smarthome_graphql_answers_too_large_total "));
    counted.and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("no such counter in {text}"))
}

#[tokio::test]
async fn a_too_large_response_is_an_error_on_every_transport() {
    const CODE: &str = r#""code":"PAYLOAD_TOO_LARGE""#;
    let edge = Edge::start().await;
    let query = "{ text(kib: 9000) }";
    for accept in [
        "application/json",
        "application/graphql-response+json",
        "text/event-stream",
        "multipart/mixed;subscriptionSpec=\"1.0\"",
    ] {
        let reply = edge.post(&format!("\r\nAccept: {accept}"), &json!({"query": query})).await;
        let body = String::from_utf8_lossy(&reply.body);
        assert!(body.len() <= 4 << 10, "{accept}: {} bytes", body.len());
        assert!(reply.status == 200 && body.contains(CODE) && body.contains(r#""data":null"#), "{accept}: {body}");
    }
    let mut socket = edge.ready().await;
    socket.subscribe("1", query).await;
    let received = socket.receive_json().await;
    assert_eq!(received["payload"]["errors"][0]["extensions"]["code"], "PAYLOAD_TOO_LARGE");
    assert_eq!(socket.receive_json().await["type"], "complete");
    let mut legacy = edge.socket("graphql-ws", &[]).await.unwrap();
    legacy.send_json(&json!({"type": "connection_init"})).await;
    legacy.send_json(&json!({"id": "1", "type": "start", "payload": {"query": query}})).await;
    let received = loop {
        let received = legacy.receive_json().await;
        if received["id"] == "1" {
            break received;
        }
    };
    assert_eq!(received["payload"]["errors"][0]["extensions"]["code"], "PAYLOAD_TOO_LARGE");
    assert_eq!(n_too_large(&edge), 6);
    // Each event of a subscription is a response of its own, so the others are delivered.
    socket.subscribe("2", "subscription { texts(kib: [1, 9000, 1]) }").await;
    for fits in [true, false, true] {
        let received = socket.receive_json().await;
        assert_eq!(
            (&received["type"], received["payload"]["data"].is_null()),
            (&json!("next"), !fits),
            "{}",
            received["id"]
        );
    }
    assert_eq!(socket.receive_json().await["type"], "complete");
    assert_eq!(n_too_large(&edge), 7);
}
