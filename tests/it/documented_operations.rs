//! Every operation in the documents and GraphiQL's example tabs runs as it is written, apart from ids.

use std::path::Path;
use std::time::Duration;

use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{TypeKind, TypeSystemDefinition};
use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::documents::{documents, root};
use crate::support::unique;
use crate::support::user::{Device, Home, User};
use crate::support::ws::{Frame, Subscription};

const OPERATIONS: [&str; 3] = ["query", "mutation", "subscription"];

/// An operation and the file that it is from.
struct Documented {
    file: String,
    text: String,
}

/// The texts between two marks, without those that are no operation.
fn between<'a>(text: &'a str, start: &str, end: &str) -> Vec<&'a str> {
    let parts = text.split(start).skip(1).filter_map(|part| part.split(end).next());
    parts.filter(|part| OPERATIONS.iter().any(|kind| without_comments(part).starts_with(kind))).collect()
}

fn without_comments(text: &str) -> &str {
    let mut rest = text.trim_start();
    while let Some(comment) = rest.strip_prefix('#') {
        rest = comment.split_once('\n').map_or("", |(_, rest)| rest).trim_start();
    }
    rest
}

fn documented() -> Vec<Documented> {
    let tabs = Path::new("web/src/tabs.js");
    let text = std::fs::read_to_string(root().join(tabs)).expect("a text");
    let mut found = Vec::new();
    for (path, text) in documents().into_iter().chain([(tabs.to_owned(), text)]) {
        let file = path.display().to_string();
        let mut add = |operation: &str| found.push(Documented { file: file.clone(), text: operation.to_owned() });
        if path == tabs {
            between(&text, "tab(`", "`").into_iter().for_each(&mut add);
            continue;
        }
        between(&text, "```graphql\n", "```").into_iter().for_each(&mut add);
        // Inline code. Without the blocks, every second part between backticks is code.
        let prose: String = text.split("```").step_by(2).collect();
        let code = prose.split('`').skip(1).step_by(2);
        let is_whole = |code: &&str| OPERATIONS.iter().any(|kind| code.starts_with(kind)) && code.ends_with('}');
        code.filter(is_whole).for_each(&mut add);
    }
    found
}

/// The operation with the ids of this test, and a key that is free for the device that it registers.
fn with_ids(text: &str, home: &Home, device: &Device) -> String {
    let mut text = text.replace("\"ESP32_007\"", &json!(unique("ESP32")).to_string());
    for (argument, id) in [("homeId: \"", &home.id), ("deviceId: \"", &device.id)] {
        let parts: Vec<_> = text.split(argument).map(str::to_owned).collect();
        let replaced = parts[1..].iter().map(|part| part.split_once('"').map_or("", |(_, rest)| rest));
        text = replaced.fold(parts[0].clone(), |text, rest| format!("{text}{argument}{id}\"{rest}"));
    }
    text
}

#[test]
fn documents_show_no_deprecated_subscription() {
    let document = parse_schema(smarthome::graphql::sdl()).expect("the schema's text parses");
    let fields = document.definitions.into_iter().find_map(|definition| match definition {
        TypeSystemDefinition::Type(definition) if definition.node.name.node == "Subscription" => {
            let TypeKind::Object(object) = definition.node.kind else { return None };
            Some(object.fields)
        }
        _ => None,
    });
    let deprecated = fields
        .expect("an object")
        .into_iter()
        .map(|field| field.node)
        .filter(|field| field.directives.iter().any(|directive| directive.node.name.node == "deprecated"));
    let deprecated: Vec<_> = deprecated.map(|field| format!(" {}(", field.name.node)).collect();
    assert!(!deprecated.is_empty());
    for Documented { file, text } in documented() {
        let text = without_comments(&text);
        let shown = deprecated.iter().find(|name| text.starts_with("subscription") && text.contains(name.as_str()));
        assert_eq!(shown, None, "{file}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_operation_runs() {
    let operations = documented();
    assert!(operations.len() >= 14, "only {} operations were found", operations.len());
    // Nothing listens there: a mail is not needed.
    let mail = TestApp::builder().set("SMTP_URL", "smtp://127.0.0.1:9?tls=off").set("SMTP_FROM", "a@test.example");
    let app = mail.set("EMAIL_VERIFICATION", "off").start().await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "ESP32_001").await;
    let command = send(&owner, &device).await;
    let changes = async {
        let mut pace = tokio::time::interval(Duration::from_millis(200));
        loop {
            pace.tick().await;
            change(&app, &owner, &device).await;
        }
    };
    let run = async {
        for Documented { file, text } in &operations {
            let operation = with_ids(text, &home, &device);
            let variables = json!({
                "homeId": home.id, "deviceId": device.id, "commandId": command, "email": owner.email,
                "password": owner.password, "refreshToken": owner.refresh_token,
            });
            let answer = answer(&app, &owner, &operation, variables).await;
            assert!(answer["errors"].is_null() && answer["data"].is_object(), "{file}: {operation}\n{answer}");
        }
    };
    tokio::select! {
        () = changes => {}
        () = run => {}
    }
    app.stop().await;
}

/// The id of a new command.
async fn send(owner: &User, device: &Device) -> Value {
    let send = "mutation($d: ID!) { sendCommand(input: {deviceId: $d, type: \"BLINK\"}) { id } }";
    owner.query(send, json!({"d": device.id})).await["sendCommand"]["id"].take()
}

/// Something that each kind of subscription reports.
async fn change(app: &TestApp, owner: &User, device: &Device) {
    const CHANGES: &str = "mutation($d: ID!) { pushConfig(input: {deviceId: $d, config: {sampleRate: 9}}) { version } \
                           sendCommand(input: {deviceId: $d, type: \"BLINK\"}) { id } }";
    app.publish(device, "telemetry", r#"{"sensors": {"temperature": 21.5}}"#).await;
    owner.post(CHANGES, json!({"d": device.id})).await;
}

/// The response, or the first event of a subscription.
async fn answer(app: &TestApp, owner: &User, operation: &str, variables: Value) -> Value {
    if !without_comments(operation).starts_with("subscription") {
        return owner.post(operation, variables).await.json();
    }
    let mut stream = Subscription::start(app.addr(), owner.token(), operation, variables).await;
    match stream.frame().await {
        Frame::Json(mut message) if message["type"] == "next" => message["payload"].take(),
        Frame::Json(message) => json!({ "errors": message }),
        other => panic!("{operation}: {other:?}"),
    }
}
