//! `src/db/schema.rs`, which is written by hand, describes the migrated database.

use std::collections::BTreeMap;

use smarthome::db;
use smarthome::settings::{DatabaseSettings, Secret};

use super::support::app::Database;

const SCHEMA: &str = include_str!("../../src/db/schema.rs");

/// Columns by table, as `name -> Type`.
type Tables = BTreeMap<String, Vec<String>>;

/// The tables of `schema.rs`.
fn declared() -> Tables {
    let bodies = SCHEMA.split("diesel::table! {").skip(1);
    let table = |body: &str| {
        let (head, columns) = body.split_once('{').expect("a table");
        let columns = columns.split('}').next().expect("columns").split(',').map(|column| column_of(column.trim()));
        let name = head.split('(').next().expect("a name").trim().to_owned();
        (name, columns.filter(|column| !column.is_empty()).collect())
    };
    bodies.map(table).collect()
}

/// A column under its name in the database: `#[sql_name = "type"] kind -> Text` is `type -> Text`.
fn column_of(declared: &str) -> String {
    let Some(renamed) = declared.strip_prefix("#[sql_name = \"") else { return declared.to_owned() };
    let (name, rest) = renamed.split_once('"').expect("a quoted name");
    let (_, sql_type) = rest.split_once("->").expect("a type");
    format!("{name} -> {}", sql_type.trim())
}

/// The Diesel type of a PostgreSQL type.
fn diesel_type(sql: &str) -> String {
    match sql {
        "_int4" => "Array<Integer>",
        "_int8" => "Array<BigInt>",
        "bool" => "Bool",
        "bytea" => "Binary",
        "float8" => "Double",
        "int2" => "SmallInt",
        "int4" => "Integer",
        "int8" => "BigInt",
        "json" => "Json",
        "jsonb" => "Jsonb",
        "text" => "Text",
        "timestamptz" => "Timestamptz",
        "uuid" => "Uuid",
        other => return format!("a type this test does not know: {other}"),
    }
    .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_declared_tables_are_those_of_the_migrated_database() {
    let database = Database::create().await;
    let settings = DatabaseSettings { url: Secret::new(database.url()), pool_size: 1 };
    db::migrate(&settings).await.unwrap();
    let columns = "select table_name::text, column_name::text, udt_name::text, is_nullable = 'YES' \
                   from information_schema.columns where table_schema = 'public' order by table_name, ordinal_position";
    let mut migrated = Tables::new();
    for row in database.client().await.query(columns, &[]).await.unwrap() {
        let (table, column): (String, String) = (row.get(0), row.get(1));
        let (sql, is_nullable): (String, bool) = (row.get(2), row.get(3));
        let of_diesel = diesel_type(&sql);
        let of_diesel = if is_nullable { format!("Nullable<{of_diesel}>") } else { of_diesel };
        migrated.entry(table).or_default().push(format!("{column} -> {of_diesel}"));
    }
    let declared = declared();
    assert!(declared.len() > 15, "schema.rs is written in a way this test does not understand: {declared:?}");
    for (table, columns) in &declared {
        assert_eq!(Some(columns), migrated.get(table), "{table}: schema.rs (left) against the database (right)");
    }
}
