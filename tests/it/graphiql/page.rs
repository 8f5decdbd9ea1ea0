//! GraphiQL as a visitor uses it: every button, a phone, the sign-in, a command from its sending to its end.

use serde_json::json;

use super::editor::{RESPONSE, VARIABLES, choose, open, run_until, set_variables};
use crate::support::app::TestApp;
use crate::support::http;
use crate::support::mqtt::Mqtt;

/// What browsers send when an address is opened.
const BROWSER: (&str, &str) = ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8");

async fn app() -> TestApp {
    TestApp::builder().set("GRAPHIQL", "on").set("GRAPHQL_INTROSPECTION", "on").start().await
}

/// A server that was started by `serve`: the page asks for the sign-in, uses its token in all tabs, sends a command and
/// watches it to its end.
#[tokio::test(flavor = "multi_thread")]
async fn a_visitor_signs_in_sends_a_command_and_watches_it() {
    let app = app().await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "LAMP_001").await;
    let mut lamp = Mqtt::connect(app.mqtt_port()).await;
    lamp.subscribe(&device.topic("commands")).await.unwrap();
    let mut page = open(app.addr()).await;
    let prefilled = page.eval(&format!("{VARIABLES}.getValue()")).await;
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(prefilled.as_str().unwrap_or_default()).ok(),
        Some(json!({"email": "", "password": ""})),
        "{prefilled}"
    );
    // The error that ends a stream is shown.
    choose(&mut page, "Live").await;
    run_until(&mut page, "UNAUTHENTICATED").await;
    choose(&mut page, "SignIn").await;
    set_variables(&mut page, &json!({"email": owner.email, "password": owner.password})).await;
    run_until(&mut page, "accessToken").await;

    choose(&mut page, "SwitchOn").await;
    set_variables(&mut page, &json!({ "deviceId": device.id })).await;
    run_until(&mut page, "\"PENDING\"").await;
    // It may have run more than once, see `run_until`: the page shows the last one.
    let id = page.eval(&format!("JSON.parse({RESPONSE}).data.sendCommand.id")).await;
    while serde_json::from_slice::<serde_json::Value>(&lamp.next().await.1).unwrap()["commandId"] != id {}
    choose(&mut page, "WatchCommand").await;
    run_until(&mut page, id.as_str().unwrap()).await;
    let answer = json!({"commandId": id, "status": "SUCCEEDED"}).to_string();
    app.publish(&device, "ack", answer).await;
    page.until(&format!("{RESPONSE}.includes('\"SUCCEEDED\"')")).await;
    assert!(page.complaints().is_empty(), "{:?}", page.complaints());
    drop(page);
    app.stop().await;
}

/// Clicks on every button outside of the documentation, which has a test of its own, with a window of this width.
async fn click_everything(app: &TestApp, width: u32) {
    let mut page = open(app.addr()).await;
    page.resize(width, 844).await;
    // A browser without a clipboard asks in a dialog, which blocks the page.
    page.eval("window.prompt = () => null").await;
    let labels =
        "[...document.querySelectorAll('.graphiql-container button')].map((b) => b.ariaLabel ?? b.textContent)";
    let labels: Vec<String> = serde_json::from_value(page.eval(labels).await).expect("texts");
    assert!(labels.len() > 15, "{labels:?}");
    for label in labels.iter().filter(|label| !label.is_empty()) {
        let find = format!(
            "[...document.querySelectorAll('button')].find((b) => (b.ariaLabel ?? b.textContent) === {})",
            json!(label)
        );
        page.eval(&format!("{find}?.click()")).await;
        page.eval("new Promise((next) => { requestAnimationFrame(() => requestAnimationFrame(next)); })").await;
        let shown = "!!document.querySelector('.graphiql-container .graphiql-query-editor .CodeMirror')";
        assert_eq!(page.eval(shown).await, json!(true), "{label}: {}", page.eval("document.body.innerText").await);
        let wide = page.eval("document.documentElement.scrollWidth").await;
        assert!(wide.as_u64().expect("a number") <= u64::from(width), "{label}: {wide} pixels are wider than {width}");
        page.press_escape().await;
    }
    assert!(page.complaints().is_empty(), "{width} pixels: {:?}", page.complaints());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_button_leaves_a_blank_page() {
    let app = app().await;
    for width in [1400, 390] {
        click_everything(&app, width).await;
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_shows_the_editor_above_the_answer() {
    let app = app().await;
    let mut page = open(app.addr()).await;
    page.resize(390, 844).await;
    page.until("document.documentElement.scrollWidth <= 390").await;
    let boxes = "Object.fromEntries(['query-editor', 'response', 'execute-button'].map((name) => { \
                 const r = document.querySelector('.graphiql-' + name).getBoundingClientRect(); \
                 return [name, [r.left, r.top, r.right, r.bottom]]; }))";
    let found = page.eval(boxes).await;
    let of = |name: &str| -> [f64; 4] { serde_json::from_value(found[name].clone()).unwrap() };
    for (name, width, height) in [("query-editor", 300.0, 150.0), ("response", 300.0, 250.0)] {
        let [left, top, right, bottom] = of(name);
        assert!(right - left >= width && bottom - top >= height, "{name}: {found}");
        assert!(left >= 0.0 && right <= 390.0 && bottom <= 844.0, "{name}: {found}");
    }
    assert!(of("response")[1] >= of("query-editor")[3], "{found}");
    assert!(of("execute-button")[2] <= 390.0, "{found}");
    drop(page);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_opens_the_api_is_sent_to_the_page() {
    let app = app().await;
    let answer = http::request(app.addr(), "GET", "/graphql", &[BROWSER], b"").await;
    assert_eq!((answer.status, answer.header("location")), (307, Some("/graphiql")), "{}", answer.text());
    for (path, headers, status) in [
        ("/graphql", &[("accept", "application/json")][..], 400),
        ("/graphql", &[], 400),
        ("/graphql?query=%7B__typename%7D", &[BROWSER], 200),
    ] {
        assert_eq!(http::request(app.addr(), "GET", path, headers, b"").await.status, status, "{path} {headers:?}");
    }
    let icon = http::get(app.addr(), "/favicon.ico").await;
    assert_eq!((icon.status, icon.header("content-type")), (200, Some("image/svg+xml")));
    app.stop().await;

    let without = TestApp::start().await;
    assert_eq!(http::request(without.addr(), "GET", "/graphql", &[BROWSER], b"").await.status, 400);
    assert_eq!(http::get(without.addr(), "/favicon.ico").await.status, 404);
    without.stop().await;
}
