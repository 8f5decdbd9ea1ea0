//! Every operation in README.md, docs/ and GraphiQL's example tabs runs as it is written, apart from ids.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::app::TestApp;
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
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = std::fs::read_dir(root.join("docs")).expect("docs/").map(|entry| entry.expect("a file").path());
    let mut found = Vec::new();
    for path in docs.chain([root.join("README.md"), root.join("web/src/tabs.js")]) {
        let file = path.strip_prefix(root).expect("in the repository").display().to_string();
        let text = std::fs::read_to_string(&path).expect("a text");
        let mut add = |operation: &str| found.push(Documented { file: file.clone(), text: operation.to_owned() });
        if file.ends_with(".js") {
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

/// The operation with the ids of this test.
fn with_ids(text: &str, home: &Home, device: &Device) -> String {
    let mut text = text.to_owned();
    for (argument, id) in [("homeId: \"", &home.id), ("deviceId: \"", &device.id)] {
        let parts: Vec<_> = text.split(argument).map(str::to_owned).collect();
        let replaced = parts[1..].iter().map(|part| part.split_once('"').map_or("", |(_, rest)| rest));
        text = replaced.fold(parts[0].clone(), |text, rest| format!("{text}{argument}{id}\"{rest}"));
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_operation_runs() {
    let operations = documented();
    assert!(operations.len() >= 14, "only {} operations were found", operations.len());
    // Nothing listens there: a mail is not needed.
    let mail = TestApp::builder().set("SMTP_URL", "smtp://127.0.0.1:9?tls=off").set("SMTP_FROM", "a@test.example");
    let app = mail.start().await;
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
