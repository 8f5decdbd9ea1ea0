//! GraphiQL in a real browser: it loads only from this server, runs a query, shows a live event, and documents every type.

mod editor;
mod page;

use async_graphql::Positioned;
use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{ConstDirective, TypeKind, TypeSystemDefinition};
use serde_json::json;
use smarthome::app::{App, Options};
use smarthome::settings::Secret;

use self::editor::{RESPONSE, choose, open, run, run_until, set_variables};
use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::mqtt::Mqtt;

#[tokio::test(flavor = "multi_thread")]
async fn runs_a_query_and_shows_an_event_of_a_subscription() {
    // The page needs its token at the start, before an account exists: a first server creates the account.
    let first = TestApp::start().await;
    let (home, owner) = first.home().await;
    let device = first.device(&owner, &home, "ESP32_001").await;
    let settings = first.settings().clone();
    let (mqtt_port, database) = (first.mqtt_port(), first.stop().await);
    let mut settings = settings;
    settings.http.graphiql = true;
    let token = owner.token().map(Secret::new);
    let app = App::start(settings, Options { graphiql_token: token, ..Options::default() }).await.unwrap();
    let addr = app.http_addr();

    let mut page = open(addr).await;
    page.until("document.querySelectorAll('.graphiql-tab').length >= 5").await;
    run_until(&mut page, "ESP32_001").await;
    page.until(&format!("{RESPONSE}.includes({})", json!(owner.email))).await;

    choose(&mut page, "Live").await;
    set_variables(&mut page, &json!({ "homeId": home.id })).await;
    let mqtt = Mqtt::connect(mqtt_port).await;
    // The page does not show that its subscription has started, and for a moment after a tab is opened it still runs
    // the operation of the previous tab. So run and publish until an event arrives.
    let page = tokio::sync::Mutex::new(page);
    let heard = eventually("an event on the page", async || {
        let mut page = page.lock().await;
        let text = page.eval(RESPONSE).await;
        let text = text.as_str().unwrap_or_default();
        if text.contains("\"temperature\"") && text.contains("\"timeSource\"") {
            return Some(text.to_owned());
        }
        run(&mut page).await;
        mqtt.publish(&device.topic("telemetry"), r#"{"sensors": {"temperature": 21.5}}"#).await.unwrap();
        None
    })
    .await;
    let mut page = page.into_inner();
    assert!(heard.contains("ESP32_001"), "{heard}");

    let picture = page.screenshot().await;
    assert!(picture.len() > 10_000, "the page is not blank");
    std::fs::write(concat!(env!("CARGO_TARGET_TMPDIR"), "/graphiql.png"), picture).unwrap();
    let own = [format!("http://{addr}/"), format!("ws://{addr}/"), "data:".to_owned(), "about:".to_owned()];
    let foreign: Vec<_> =
        page.requested().into_iter().filter(|url| own.iter().all(|own| !url.starts_with(own.as_str()))).collect();
    assert!(foreign.is_empty(), "asked of another host: {foreign:?}");
    assert!(page.complaints().is_empty(), "{:?}", page.complaints());
    drop(page);
    app.stop().await;
    drop(database);
}

fn is_deprecated(directives: &[Positioned<ConstDirective>]) -> bool {
    directives.iter().any(|directive| directive.node.name.node == "deprecated")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documentation_shows_every_type_and_field() {
    let app = TestApp::builder().set("GRAPHIQL", "on").set("GRAPHQL_INTROSPECTION", "on").start().await;
    let mut page = open(app.addr()).await;
    page.eval(include_str!("graphiql/docs.js")).await;
    let found = loop {
        let mut step = page.eval("walk.next()").await;
        if step["done"] == true {
            break step["value"].take();
        }
    };

    let definitions = parse_schema(smarthome::graphql::sdl()).unwrap().definitions;
    let types = definitions.into_iter().filter_map(|definition| match definition {
        TypeSystemDefinition::Type(definition) => Some(definition.node),
        _ => None,
    });
    let (mut names, mut n_fields) =
        (vec!["Boolean", "Float", "ID", "Int", "String"].into_iter().map(str::to_owned).collect::<Vec<_>>(), 0);
    for definition in types {
        names.push(definition.name.node.to_string());
        n_fields += match definition.kind {
            // Deprecated ones are behind a button.
            TypeKind::Object(object) => {
                object.fields.iter().filter(|field| !is_deprecated(&field.node.directives)).count()
            }
            TypeKind::InputObject(input) => input.fields.len(),
            _ => 0,
        };
    }
    names.sort();
    assert_eq!(found["types"], json!(names), "{:?}", page.complaints());
    assert_eq!(found["n_fields"], n_fields);
    assert!(page.complaints().is_empty(), "{:?}", page.complaints());
    drop(page);
    app.stop().await;
}
