//! Names are compared in the same way on every database.

use serde_json::json;

use super::support::app::{Database, TestApp};

#[tokio::test(flavor = "multi_thread")]
async fn names_are_compared_by_unicode_in_every_locale() {
    for database in [Database::create().await, Database::create_with_locale_c().await] {
        let app = TestApp::builder().start_on(database).await;
        let (home, owner) = app.home().await;
        let room = "mutation($h: ID!, $n: String!) { createRoom(homeId: $h, name: $n) { id } }";
        owner.query(room, json!({"h": home.id, "n": "K\u{dc}CHE"})).await;
        assert_eq!(owner.error_code(room, json!({"h": home.id, "n": "K\u{fc}che"})).await, "CONFLICT");
        let register = "mutation($h: ID!) { registerDevice(input: {homeId: $h, key: \"a\", name: \"\u{c9}TAG\u{c8}RE\"}) { device { id } } }";
        owner.query(register, json!({"h": home.id})).await;
        for (search, n_found) in [("\u{e9}tag\u{e8}re", 1), ("\u{c9}tag\u{e8}RE", 1), ("etagere", 0)] {
            for fields in ["id", "id latestTelemetry { id }", "key online latestTelemetry { id }"] {
                let list = format!(
                    "query($h: ID!, $s: String) {{ home(id: $h) {{ devices(filter: {{search: $s}}) {{ nodes {{ {fields} }} }} }} }}"
                );
                let found = owner.query(&list, json!({"h": home.id, "s": search})).await;
                let nodes = found["home"]["devices"]["nodes"].as_array().map(Vec::len);
                assert_eq!(nodes, Some(n_found), "{search}: {fields}");
            }
        }
        app.stop().await;
    }
}
