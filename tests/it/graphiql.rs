//! GraphiQL in a real browser: it loads only from this server, runs a query and shows a live event.

use std::time::Duration;

use serde_json::json;
use smarthome::app::{App, Options};
use smarthome::settings::Secret;
use tokio::time::Instant;

use crate::support::PATIENCE;
use crate::support::app::TestApp;
use crate::support::browser::Browser;
use crate::support::mqtt::Mqtt;

/// The key code of Enter.
const ENTER: u32 = 13;

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

    let mut page = Browser::open(&format!("http://{addr}/graphiql")).await;
    page.until("document.querySelectorAll('.graphiql-tab').length >= 5").await;
    // The schema is loaded: the editor can complete fields.
    page.until("!!document.querySelector('.graphiql-query-editor .CodeMirror')").await;

    page.eval("document.querySelector('.graphiql-query-editor .CodeMirror').CodeMirror.focus()").await;
    page.press_ctrl("Enter", ENTER).await;
    let answer = "document.querySelector('.graphiql-response .CodeMirror')?.CodeMirror.getValue() ?? ''";
    page.until(&format!("({answer}).includes('ESP32_001') && ({answer}).includes({})", json!(owner.email))).await;

    // The second tab is the subscription, of home 1 in the example.
    page.eval("document.querySelectorAll('.graphiql-tab-button')[1].click()").await;
    page.until(
        "document.querySelector('.graphiql-query-editor .CodeMirror').CodeMirror.getValue().includes('subscription')",
    )
    .await;
    let variables = json!({ "homeId": home.id }).to_string();
    page.eval(&format!(
        "document.querySelector('.graphiql-editor-tool .CodeMirror').CodeMirror.setValue({})",
        json!(variables)
    ))
    .await;
    let mqtt = Mqtt::connect(mqtt_port).await;
    // The page does not show that its subscription has started, and for a moment after a tab is opened it still runs
    // the operation of the previous tab. So run and publish until an event arrives.
    let deadline = Instant::now() + PATIENCE;
    let heard = loop {
        let text = page.eval(answer).await;
        let text = text.as_str().unwrap_or_default();
        if text.contains("\"temperature\"") && text.contains("\"timeSource\"") {
            break text.to_owned();
        }
        assert!(Instant::now() < deadline, "the subscription shows nothing: {text}; {:?}", page.complaints());
        if page.eval("!document.querySelector('.graphiql-execute-button-stop, .graphiql-spinner')").await == json!(true)
        {
            page.eval("document.querySelector('.graphiql-query-editor .CodeMirror').CodeMirror.focus()").await;
            page.press_ctrl("Enter", ENTER).await;
        }
        mqtt.publish(&device.topic("telemetry"), r#"{"sensors": {"temperature": 21.5}}"#).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
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
