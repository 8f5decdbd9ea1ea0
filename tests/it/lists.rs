//! The lists for operators.

use serde_json::{Value, json};

use crate::support::app::{Database, TestApp};
use crate::support::binary::binary;
use crate::support::installation;

/// What a command prints that knows the database only.
fn printed(arguments: &[&str], database_url: &str) -> String {
    let output = binary(arguments).env("DATABASE_URL", database_url).output().expect("it runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn objects(arguments: &[&str], database_url: &str) -> Vec<Value> {
    let text = printed(&[arguments, &["--json"]].concat(), database_url);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_list_users_homes_and_devices() {
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let (other, _) = app.home().await;
    let lamp = app.device(&owner, &home, "lamp").await;
    app.publish(&lamp, "heartbeat", "{}").await;
    let create = "mutation($h: ID!) { createIntegrationToken(input: {homeId: $h, name: \"Report\", scopes: [DEVICES_READ]}) { token } }";
    owner.query(create, json!({"h": home.id})).await;
    let url = app.database().url();

    // An integration is no account.
    let users = objects(&["user", "list"], &url);
    assert_eq!(users.len(), 2, "{users:?}");
    let of_owner = users.iter().find(|user| user["email"] == owner.email).expect("the owner");
    assert_eq!((&of_owner["id"], &of_owner["homes"]), (&json!(owner.id), &json!(1)));

    let homes = objects(&["home", "list"], &url);
    let of = |id: &str| homes.iter().find(|home| home["id"] == id).expect("the home");
    let listed = of(&home.id);
    assert_eq!(listed["owners"], json!([owner.email]));
    assert_eq!((&listed["key"], &listed["members"], &listed["devices"]), (&json!(home.key), &json!(1), &json!(1)));
    assert_eq!(of(&other.id)["devices"], 0);
    // Times have the form of the API.
    let of_api = owner.query("query($h: ID!) { home(id: $h) { createdAt } }", json!({"h": home.id})).await;
    assert_eq!(listed["createdAt"], of_api["home"]["createdAt"]);

    crate::support::until("it is online", || objects(&["device", "list"], &url)[0]["online"] == true).await;
    let devices = objects(&["device", "list", "--home", &home.key], &url);
    assert_eq!((devices.len(), &devices[0]["id"], &devices[0]["key"]), (1, &json!(lamp.id), &json!("lamp")));
    assert!(devices[0]["lastSeenAt"].is_string(), "{devices:?}");
    assert_eq!(objects(&["device", "list", "--home", &other.key], &url), Vec::<Value>::new());

    let typo = ["device", "list", "--json", "--home", "no-such-home"];
    let output = binary(&typo).env("DATABASE_URL", &url).output().expect("it runs");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "error: no such home: no-such-home\n");

    let text = printed(&["device", "list"], &url);
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0][..6], ["id", "home", "key", "name", "type", "online"]);
    assert_eq!((lines[1][0], lines[1][1], lines[1][2]), (lamp.id.as_str(), home.key.as_str(), "lamp"));
    // The columns begin at the same place in each line.
    let starts: Vec<_> = text.lines().map(|line| line.find("lamp").or(line.find("key"))).collect();
    assert_eq!(starts[0], starts[1], "{text}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_has_more_rows_than_a_page() {
    let database = Database::create().await;
    installation::smarthome(&["migrate"], &database.url());
    assert_eq!(objects(&["home", "list"], &database.url()), Vec::<Value>::new());
    let rows = "insert into homes (key, name) select 'h' || n, E'a\\x1b[31mb' from generate_series(1, 2000) n";
    database.client().await.batch_execute(rows).await.unwrap();
    let homes = objects(&["home", "list"], &database.url());
    let keys: Vec<_> = homes.iter().map(|home| home["key"].as_str().unwrap().to_owned()).collect();
    assert_eq!(keys, (1..=2000).map(|n| format!("h{n}")).collect::<Vec<_>>());
    let text = printed(&["home", "list"], &database.url());
    assert_eq!(text.lines().count(), 2001);
    assert!(!text.contains('\x1b'), "a terminal would obey it");
}
