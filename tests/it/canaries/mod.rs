//! Secrets go through every door there is, right ones and wrong ones, on a server that logs all it can, and are
//! then looked for in everything it has said and kept.

mod client;
mod doors;
mod hunt;

use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use smarthome::opaque_token;

use client::Client;
use hunt::Hunt;

use crate::support::app::Database;
use crate::support::broker::Broker;
use crate::support::installation::{self, ADMIN, SERVER};
use crate::support::proxy::{Mode, Proxy, Target};
use crate::support::server::Server;
use crate::support::services::services;

/// Secrets that must have been looked for, at least.
const MIN_CANARIES: usize = 12;

/// A secret that is easy to tell: with what has to be escaped in JSON and in URLs.
fn canary() -> String {
    format!("{}\"/+%", opaque_token::generate("canary"))
}

/// One that needs no escapes.
fn plain_canary() -> String {
    opaque_token::generate("canary")
}

/// A private key of a client, by the shipped script; what of it is looked for.
fn client_key(folder: &Path) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/mosquitto/tls.sh");
    for arguments in [&["ca"][..], &["broker", "localhost,127.0.0.1"], &["client", SERVER.0]] {
        let output = Command::new(&script).arg(folder.join("tls")).args(arguments).output().expect("the script runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let key = std::fs::read_to_string(folder.join(format!("tls/clients/{}.key", SERVER.0))).expect("the key");
    key.lines().nth(1).expect("a key has lines").to_owned()
}

/// A key that signs access tokens.
fn signing_key(folder: &Path) -> (&'static str, String) {
    let file = folder.join("jwt.key");
    let output = Command::new("openssl").args(["genpkey", "-algorithm", "ed25519", "-out"]).arg(&file).output();
    assert!(output.expect("openssl runs").status.success());
    let key = std::fs::read_to_string(&file).expect("the key");
    std::fs::remove_file(file).expect("our file");
    ("JWT_PRIVATE_KEY", key)
}

/// The server's configuration, full of secrets.
struct Installation {
    broker: Broker,
    database: Database,
    proxy: Proxy,
    variables: Vec<(&'static str, String)>,
}

impl Installation {
    async fn start(log_format: &str, hunt: &mut Hunt) -> Self {
        let folder = installation::empty_export().await;
        hunt.secret("the key of the server's certificate", &client_key(&folder));
        let (broker, [_, tls_port, _]) = Broker::with_listeners(folder, "tls.conf", [8883, 8884, 9001]).await;
        let database = Database::create().await;
        let proxy = Proxy::start(Target::Unix(services().database_socket())).await;
        let name = database.url().rsplit_once('/').expect("a name").1.to_owned();
        let (database_password, auth) = (plain_canary(), canary());
        let mut key = [0; 32];
        getrandom::fill(&mut key).expect("the system's random source");
        let key = STANDARD.encode(key);
        hunt.secret("the database's password", &database_password);
        let jwt = if log_format == "json" { signing_key(broker.folder()) } else { ("JWT_SECRET", canary()) };
        hunt.secret(jwt.0, jwt.1.lines().nth(1).unwrap_or(&jwt.1));
        hunt.secret("MQTT_AUTH_SECRET", &auth);
        hunt.key("ENCRYPTION_KEY", &key);
        hunt.secret("MQTT_PASSWORD", SERVER.1);
        hunt.secret("MQTT_DYNSEC_PASSWORD", ADMIN.1);
        let mut variables = installation::variables(broker.port());
        variables.retain(|(name, _)| *name != "MQTT_BROKER_URL");
        let file = |name: &str| broker.folder().join("tls").join(name).display().to_string();
        variables.extend([
            ("DATABASE_URL", format!("postgres://smarthome:{database_password}@{}/{name}", proxy.addr())),
            ("MQTT_BROKER_URL", format!("mqtts://localhost:{tls_port}")),
            ("MQTT_CA_FILE", file("ca.crt")),
            ("MQTT_CLIENT_CERT_FILE", file(&format!("clients/{}.crt", SERVER.0))),
            ("MQTT_CLIENT_KEY_FILE", file(&format!("clients/{}.key", SERVER.0))),
            ("MQTT_AUTH_ADDR", format!("127.0.0.1:{}", free_port())),
            ("MQTT_AUTH_SECRET", auth),
            jwt,
            ("ENCRYPTION_KEY", key),
            ("LOG", "trace".to_owned()),
            ("LOG_FORMAT", log_format.to_owned()),
        ]);
        Self { broker, database, proxy, variables }
    }

    fn server(&self, more: &[(&str, &str)]) -> Server {
        // Beside a key the tests' usual secret would be one too many; what is empty is not set.
        let mut overrides = vec![("JWT_SECRET", "")];
        overrides.extend(self.variables.iter().map(|(name, value)| (*name, value.as_str())));
        overrides.extend(more);
        Server::prepare(&self.database.url(), self.broker.port(), &overrides)
    }

    fn variable(&self, name: &str) -> &str {
        &self.variables.iter().find(|(known, _)| *known == name).expect("it is set").1
    }
}

/// Free a moment ago; nobody else looks for ports of the kernel's choice.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port()
}

/// What `serve` says of these settings: until it ends, or has complained and tries on.
async fn complaint(installation: &Installation, changes: &[(&str, &str)]) -> String {
    let mut server = installation.server(changes);
    server.spawn();
    crate::support::eventually("it complains", || {
        let complains = ["WARN", "ERROR"].iter().any(|level| server.log().contains(level));
        std::future::ready((complains || server.has_ended()).then_some(()))
    })
    .await;
    server.kill();
    server.log()
}

/// Settings that can't be used, each with a secret in it.
async fn unusable(installation: &Installation, hunt: &mut Hunt) {
    let canary = plain_canary();
    hunt.secret("a setting that can't be used", &canary);
    let short = &canary[..20];
    hunt.secret("a setting that is too short", short);
    let key_file = std::env::temp_dir().join(crate::support::unique("smarthome-key"));
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{canary}\n-----END PRIVATE KEY-----\n");
    std::fs::write(&key_file, pem).expect("a file");
    let file = key_file.to_str().expect("UTF-8");
    let urls = [
        format!("mysql://u:{canary}@127.0.0.1/x"),
        format!("postgres://u:{canary}@127.0.0.1:1/x"),
        format!("postgres://u:{canary}@[::1/x"),
        format!("postgres://u:{canary}@127.0.0.1/x?sslmode={canary}"),
        format!("mqtt://u:{canary}@127.0.0.1"),
    ];
    let changes = [
        ("DATABASE_URL", urls[0].as_str()),
        ("DATABASE_URL", &urls[1]),
        ("DATABASE_URL", &urls[2]),
        ("DATABASE_URL", &urls[3]),
        ("MQTT_BROKER_URL", &urls[4]),
        ("JWT_SECRET", short),
        ("JWT_PREVIOUS_SECRET", short),
        ("MQTT_AUTH_SECRET", short),
        ("MQTT_DYNSEC_PASSWORD", short),
        ("ENCRYPTION_KEY", &canary),
        ("JWT_PRIVATE_KEY", &canary),
        ("JWT_PREVIOUS_PRIVATE_KEY", &canary),
        ("MQTT_CLIENT_KEY_FILE", file),
    ];
    for change in changes {
        let said = complaint(installation, &[change]).await;
        assert!(!said.is_empty(), "{change:?} is taken without a word");
        hunt.place(format!("what serve says of {}", change.0), said, vec![]);
    }
    std::fs::remove_file(key_file).expect("our file");
}

/// Whatever else the server has said and kept.
async fn search(installation: &Installation, server: &Server, client: &mut Client) {
    for path in ["/metrics", "/readyz", "/livez", "/schema.graphql", "/.well-known/jwks.json", "/graphiql"] {
        client.raw("GET", path, &[], b"").await;
    }
    let hunt = &mut client.hunt;
    for (n, line) in server.log().lines().enumerate() {
        hunt.place(format!("line {} of the log", n + 1), line, vec![]);
    }
    for (table, rows) in installation.database.rows().await {
        for row in rows {
            hunt.place(format!("a row of {table}"), row, vec![]);
        }
    }
    // What the broker holds is for the devices, and is not ours; what it has logged and been told of accounts is.
    for entry in std::fs::read_dir(installation.broker.folder()).expect("the broker's folder").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().expect("a file").is_file() && name != "mosquitto.db" {
            hunt.place(format!("the broker's {name}"), std::fs::read(entry.path()).expect("a file"), vec![]);
        }
    }
}

async fn nothing_leaks(log_format: &str) {
    let mut hunt = Hunt::default();
    let installation = Installation::start(log_format, &mut hunt).await;
    unusable(&installation, &mut hunt).await;
    let mut server = installation.server(&[]);
    server.restart().await;
    let mut client = Client { addr: server.addr(), hunt };
    doors::all(&installation, &mut client).await;
    installation.proxy.set(Mode::Cut);
    doors::without_a_database(&mut client).await;
    installation.proxy.set(Mode::Pass);
    search(&installation, &server, &mut client).await;
    server.stop().await;
    assert!(server.log().contains("TRACE"), "it logs all it can");
    client.hunt.place("the log to its end", server.log(), vec![]);
    // The broker refuses the server's own password, then its administrator's.
    for name in ["MQTT_PASSWORD", "MQTT_DYNSEC_PASSWORD"] {
        let wrong = canary();
        client.hunt.secret("a password that the broker refuses", &wrong);
        let mut refused = installation.server(&[(name, &wrong), ("MQTT_AUTH_ADDR", "127.0.0.1:0")]);
        refused.spawn();
        crate::support::eventually("the broker refuses", || {
            let log = refused.log().to_lowercase();
            std::future::ready(
                log.contains("not authorized").then_some(()).or(log.contains("notauthorized").then_some(())),
            )
        })
        .await;
        refused.kill();
        client.hunt.place(format!("the log with a wrong {name}"), refused.log(), vec![]);
    }
    let (n_canaries, n_places) = client.hunt.size();
    assert!(n_canaries >= MIN_CANARIES && n_places > 500, "{n_canaries} secrets in {n_places} places");
    let finds = client.hunt.finds();
    let shown = finds.iter().take(30).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(finds.is_empty(), "{} finds of {n_canaries} secrets in {n_places} places:\n{shown}", finds.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_said_or_kept_in_text() {
    nothing_leaks("text").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_said_or_kept_in_json() {
    nothing_leaks("json").await;
}
