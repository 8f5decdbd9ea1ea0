//! A headless Chromium, driven over its debugging protocol.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::{PATIENCE, soon, unique};

const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// A page in its own browser; both end with the value.
pub struct Browser {
    child: Child,
    profile: PathBuf,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    next_id: u64,
    session: Option<String>,
    events: VecDeque<Value>,
}

impl Browser {
    /// Starts it and opens a page. Fails the test if Chromium is not installed; `make test` installs it.
    pub async fn open(url: &str) -> Self {
        let profile = std::env::temp_dir().join(unique("smarthome-browser"));
        let mut child = NAMES
            .iter()
            .find_map(|name| {
                Command::new(name)
                    // Under root in a container there is no sandbox; small machines have little shared memory.
                    .args(["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"])
                    .args(["--remote-debugging-port=0", "--no-first-run", "--window-size=1400,900"])
                    // Chromium's own requests would look like the page's.
                    .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
                    .arg(format!("--user-data-dir={}", profile.display()))
                    .arg("about:blank")
                    .process_group(0)
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::piped())
                    .spawn()
                    .ok()
            })
            .expect("Chromium is installed: apt-get install chromium");
        let stderr = child.stderr.take().expect("a pipe");
        let address = tokio::task::spawn_blocking(move || {
            let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
            let found = lines.find_map(|line| line.strip_prefix("DevTools listening on ").map(str::to_owned));
            // An unread pipe would block the browser.
            std::thread::spawn(move || lines.for_each(drop));
            found
        });
        let address = soon("Chromium", address).await.expect("the reader runs").expect("Chromium tells its address");
        let (socket, _) = soon("DevTools", tokio_tungstenite::connect_async(address)).await.expect("DevTools");
        let mut browser = Self { child, profile, socket, next_id: 0, session: None, events: VecDeque::new() };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"})).await;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = browser.call("Target.attachToTarget", attach).await;
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Network.enable", "Log.enable", "Runtime.enable", "Page.enable"] {
            browser.call(domain, json!({})).await;
        }
        browser.call("Page.navigate", json!({ "url": url })).await;
        browser
    }

    /// The value of a JavaScript expression; promises are awaited.
    pub async fn eval(&mut self, expression: &str) -> Value {
        let parameters = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let mut answer = self.call("Runtime.evaluate", parameters).await;
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].take()
    }

    /// Waits until a JavaScript expression is true.
    pub async fn until(&mut self, expression: &str) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while self.eval(expression).await != Value::Bool(true) {
            if tokio::time::Instant::now() > deadline {
                let text = self.eval("document.body.innerText").await;
                panic!("never true on the page: {expression}\nthe page shows: {text}\nevents: {:?}", self.complaints());
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// Presses a key with Ctrl held, as GraphiQL's users do to run a query.
    pub async fn press_ctrl(&mut self, key: &str, code: u32) {
        for kind in ["rawKeyDown", "keyUp"] {
            let parameters =
                json!({"type": kind, "modifiers": 2, "key": key, "code": key, "windowsVirtualKeyCode": code});
            self.call("Input.dispatchKeyEvent", parameters).await;
        }
    }

    /// Shows the page in a window of this size, as on a phone.
    pub async fn resize(&mut self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": true});
        self.call("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// Presses Escape, which closes a dialog.
    pub async fn press_escape(&mut self) {
        for kind in ["rawKeyDown", "keyUp"] {
            let parameters = json!({"type": kind, "key": "Escape", "code": "Escape", "windowsVirtualKeyCode": 27});
            self.call("Input.dispatchKeyEvent", parameters).await;
        }
    }

    /// Every address that the page requested.
    pub fn requested(&self) -> Vec<String> {
        let sent = |method: &str, pointer: &'static str| {
            let events = self.events.iter().filter(move |event| event["method"] == method);
            events.filter_map(move |event| event.pointer(pointer)?.as_str()).map(str::to_owned).collect::<Vec<_>>()
        };
        let mut all = sent("Network.requestWillBeSent", "/params/request/url");
        all.extend(sent("Network.webSocketCreated", "/params/url"));
        all
    }

    /// Errors of scripts, of the content security policy and of loading.
    pub fn complaints(&self) -> Vec<String> {
        let is_complaint = |event: &&Value| {
            event["method"] == "Runtime.exceptionThrown"
                || (event["method"] == "Log.entryAdded" && event["params"]["entry"]["level"] == "error")
        };
        self.events.iter().filter(is_complaint).map(ToString::to_string).collect()
    }

    /// A screenshot as PNG.
    pub async fn screenshot(&mut self) -> Vec<u8> {
        let answer = self.call("Page.captureScreenshot", json!({"format": "png"})).await;
        STANDARD.decode(answer["data"].as_str().expect("a picture")).expect("base64")
    }

    async fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.next_id += 1;
        let id = self.next_id;
        let mut message = json!({"id": id, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.socket.send(Message::text(message.to_string())).await.expect("Chromium lives");
        loop {
            let frame = soon(method, self.socket.next()).await.expect("Chromium lives").expect("Chromium lives");
            let Message::Text(text) = frame else { continue };
            let mut message: Value = serde_json::from_str(&text).expect("JSON");
            if message["id"] == json!(id) {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].take();
            }
            self.events.push_back(message);
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its helper processes too, which would still write into the profile.
        let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", self.child.id())]).status();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.profile);
    }
}
