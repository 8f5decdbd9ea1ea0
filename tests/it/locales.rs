//! Names are compared in the same way on every database.

use serde_json::json;

use super::support::app::{Database, TestApp};

#[tokio::test(flavor = "multi_thread")]
async fn names_are_compared_by_unicode_in_every_locale() {
    for database in [Database::create().await, Database::create_with_locale_c().await] {
        let app = TestApp::builder().start_on(database).await;
        let (home, owner) = app.home().await;
        let room = "mutation($h: ID!, $n: String!) { createRoom(input: {homeId: $h, name: $n}) { id } }";
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

const UP: &str = include_str!("../../migrations/2026-11-29-000121_case_folding/up.sql");
const DOWN: &str = include_str!("../../migrations/2026-11-29-000121_case_folding/down.sql");

/// The new name of a room may be the name of another one, which somebody gave it before.
#[tokio::test(flavor = "multi_thread")]
async fn rooms_that_became_equal_get_names_that_are_free() {
    let app = TestApp::builder().start_on(Database::create_with_locale_c().await).await;
    let (home, owner) = app.home().await;
    let sql = app.database().client().await;
    sql.batch_execute(DOWN).await.expect("the migration is reverted");
    let insert = "insert into rooms (home_id, name) select $1, unnest($2::text[]) returning id";
    let id: i64 = home.id.parse().expect("an id");
    let rows =
        sql.query(insert, &[&id, &["\u{dc}\u{c9}", "\u{fc}\u{c9}", "\u{fc}\u{e9}"].as_slice()]).await.expect("rooms");
    let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    let taken = [format!("\u{dc}\u{c9} ({})", ids[1]), format!("\u{fc}\u{e9} ({}, 2)", ids[1])];
    sql.query(insert, &[&id, &taken.as_slice()]).await.expect("rooms");
    sql.batch_execute(UP).await.expect("the migration runs");
    let rooms = owner.query("query($h: ID!) { home(id: $h) { rooms { id name } } }", json!({"h": home.id})).await;
    let name = |id: i64| {
        let mut rooms = rooms["home"]["rooms"].as_array().expect("rooms").iter();
        rooms.find(|room| room["id"] == id.to_string().as_str()).expect("the room")["name"].clone()
    };
    assert_eq!(name(ids[0]), "\u{dc}\u{c9}");
    assert_eq!(name(ids[1]), format!("\u{fc}\u{c9} ({}, 3)", ids[1]));
    assert_eq!(name(ids[2]), format!("\u{fc}\u{e9} ({})", ids[2]));
    app.stop().await;
}
