//! nginx and Caddy with the shipped configurations: TLS, the client's address, WebSocket, events without delay.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::{Client, HOST};
use crate::mosquitto_tls::made;
use crate::support::app::TestApp;
use crate::support::broker::folder;
use crate::support::ports::free_port;
use crate::support::{soon, until};

const SUBSCRIPTION: &str = "subscription { telemetry(homeId: \"HOME\") { sensors { temperature } } }";

/// A proxy's process and its folder.
struct Proxy {
    child: Child,
    folder: PathBuf,
    /// For HTTPS and for HTTP.
    ports: [u16; 2],
}

impl Proxy {
    /// Makes a certificate and the configuration, and starts the proxy.
    async fn start(prepare: impl FnOnce(&Path, [u16; 2]) -> Command) -> Self {
        let (folder, ports) = (folder(), [free_port(), free_port()]);
        made(&folder, &["ca"]);
        made(&folder, &["broker", HOST]);
        let log = std::fs::File::create(folder.join("log")).expect("the log");
        let mut command = prepare(&folder, ports);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("the log")).stderr(log);
        let mut proxy = Self { child: command.spawn().expect("the proxy runs"), folder, ports };
        let log = proxy.folder.join("log");
        until("the proxy listens", || {
            let ended = proxy.child.try_wait().expect("our child");
            assert!(ended.is_none(), "it ended: {}", std::fs::read_to_string(&log).unwrap_or_default());
            ports.iter().all(|port| std::net::TcpStream::connect(("127.0.0.1", *port)).is_ok())
        })
        .await;
        proxy
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn shipped(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file)).expect("a shipped file")
}

/// Replaces text that must be there.
#[track_caller]
fn replaced(text: &str, pairs: &[(&str, String)]) -> String {
    pairs.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "no {from}");
        text.replace(from, to)
    })
}

async fn app() -> TestApp {
    TestApp::builder().set("TRUSTED_PROXIES", "127.0.0.1,::1").start().await
}

/// What a client needs of a proxy.
async fn check(app: &TestApp, proxy: &Proxy) {
    let client = Client::new(&proxy.folder.join("tls/ca.crt"), proxy.ports[0]);
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "lamp").await;
    let token = owner.token().expect("a token");
    let report = async |temperature: f64| {
        app.publish(&device, "telemetry", format!("{{\"sensors\": {{\"temperature\": {temperature}}}}}")).await;
    };

    // The address of a session is the client's.
    let (email, password) = (&owner.email, &owner.password);
    let login =
        format!("mutation {{ login(input: {{email: \"{email}\", password: \"{password}\"}}) {{ accessToken }} }}");
    let answer = client.query("127.0.0.7", token, &login).await;
    assert!(answer["data"]["login"]["accessToken"].is_string(), "{answer}");
    let answer = client.query("127.0.0.8", token, "{ me { sessions { address } } }").await;
    let sessions = answer["data"]["me"]["sessions"].as_array().expect("sessions");
    assert!(sessions.iter().any(|session| session["address"] == "127.0.0.7"), "{answer}");

    let query = SUBSCRIPTION.replace("HOME", &home.id);
    let mut events = client.subscribe("127.0.0.7", token, &query).await;
    report(21.5).await;
    let event = events.next().await;
    assert_eq!(event["payload"]["data"]["telemetry"]["sensors"]["temperature"], 21.5, "{event}");

    // The event is read while the stream is open.
    let head = format!(
        "POST /graphql HTTP/1.1\r\nContent-Type: application/json\r\nAuthorization: Bearer {token}\r\nAccept: text/event-stream"
    );
    let body = serde_json::json!({ "query": query }).to_string();
    let stream = client.request("127.0.0.7", &head, &body, Some("22.5"));
    let reports = async {
        let mut pace = tokio::time::interval(Duration::from_millis(100));
        loop {
            pace.tick().await;
            report(22.5).await;
        }
    };
    let text = tokio::select! {
        text = stream => text,
        () = reports => unreachable!("it reports until the stream has an event"),
    };
    assert!(text.contains("22.5"), "{text}");

    let metrics = client.request("127.0.0.7", "GET /metrics HTTP/1.1", "", None).await;
    assert!(metrics.contains(" 404 "), "{metrics}");

    // HTTP redirects to the port at which clients reach HTTPS.
    let [https, http] = proxy.ports;
    let answer = plain(http, "/graphiql?tab=1").await;
    assert!(answer.starts_with("HTTP/1.1 30"), "{answer}");
    let location = answer.lines().find_map(|line| line.strip_prefix("Location: "));
    assert_eq!(location, Some(&*format!("https://{HOST}:{https}/graphiql?tab=1")), "{answer}");
}

/// The response to a request without TLS.
async fn plain(port: u16, path: &str) -> String {
    let mut text = String::new();
    soon("the response", async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("the proxy listens");
        let head = format!("GET {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("sent");
        stream.read_to_string(&mut text).await.expect("a response");
    })
    .await;
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_forwards_requests_sockets_and_events() {
    let app = app().await;
    let proxy = Proxy::start(|folder, [https, http]| {
        let (tls, place) = (folder.join("tls").display().to_string(), folder.display().to_string());
        let site = replaced(
            &shipped("nginx/smarthome.conf"),
            &[
                ("127.0.0.1:4000", app.addr().to_string()),
                ("listen 80;", format!("listen {http};")),
                ("listen 443 ssl", format!("listen {https} ssl")),
                ("set $smarthome_https_port \"\";", format!("set $smarthome_https_port \":{https}\";")),
                ("smarthome.example.com", HOST.to_owned()),
                ("/etc/smarthome/tls/fullchain.pem", format!("{tls}/server.crt")),
                ("/etc/smarthome/tls/privkey.pem", format!("{tls}/server.key")),
            ],
        );
        std::fs::write(folder.join("site.conf"), site).unwrap();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary: String = temporary.map(|name| format!("{name}_temp_path {place}/{name};\n")).concat();
        let main = format!(
            "daemon off;\nmaster_process off;\npid {place}/pid;\nevents {{}}\n\
             http {{\naccess_log off;\n{temporary}include {place}/site.conf;\n}}\n"
        );
        std::fs::write(folder.join("nginx.conf"), main).unwrap();
        let mut command = Command::new("nginx");
        let path = "/usr/sbin:/usr/bin:/usr/local/sbin";
        command.args(["-e", "stderr", "-p", &place, "-c", "nginx.conf"]).env("PATH", path);
        command
    })
    .await;
    check(&app, &proxy).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn caddy_forwards_requests_sockets_and_events() {
    let app = app().await;
    let proxy = Proxy::start(|folder, [https, http]| {
        let tls = folder.join("tls").display().to_string();
        let site = replaced(
            &shipped("caddy/Caddyfile"),
            &[
                ("127.0.0.1:4000", app.addr().to_string()),
                ("smarthome.example.com {", format!("{HOST}:{https} {{\n\ttls {tls}/server.crt {tls}/server.key")),
            ],
        );
        let global = format!("{{\n\tadmin off\n\thttp_port {http}\n\tskip_install_trust\n}}\n");
        std::fs::write(folder.join("Caddyfile"), global + &site).unwrap();
        let mut command = Command::new("caddy");
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(folder.join("Caddyfile"));
        command.env("HOME", folder).env("XDG_DATA_HOME", folder).env("XDG_CONFIG_HOME", folder);
        command
    })
    .await;
    check(&app, &proxy).await;
    app.stop().await;
}
