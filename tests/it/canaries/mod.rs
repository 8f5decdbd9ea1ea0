//! No secret leaks. A server that logs everything gets secrets in every request that may contain one. Then its
//! responses, its log and its tables are searched for them.

mod client;
mod requests;
mod search;

use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use smarthome::opaque_token;

use client::Client;
use search::SecretSearch;

use crate::mosquitto_tls::made;
use crate::support::app::Database;
use crate::support::broker::Broker;
use crate::support::installation::{self, ADMIN, SERVER};
use crate::support::ports::free_port;
use crate::support::proxy::{Mode, Proxy, Target};
use crate::support::server::Server;
use crate::support::services::services;

/// The search needs at least so many secrets to prove anything.
const MIN_SECRETS: usize = 12;

/// A secret with characters that JSON and URLs escape.
fn canary() -> String {
    format!("{}\"/+%", opaque_token::generate("canary"))
}

/// A secret without such characters.
fn plain_canary() -> String {
    opaque_token::generate("canary")
}

/// Makes a private key of a client with the shipped script. Returns a line of it.
fn client_key(folder: &Path) -> String {
    for arguments in [&["ca"][..], &["broker", "localhost,127.0.0.1"], &["client", SERVER.0]] {
        made(folder, arguments);
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

/// A broker, a database and the settings of a server; many of them are secrets.
struct Installation {
    broker: Broker,
    database: Database,
    proxy: Proxy,
    variables: Vec<(&'static str, String)>,
}

impl Installation {
    async fn start(log_format: &str, search: &mut SecretSearch) -> Self {
        let folder = installation::empty_export().await;
        search.add_secret("the key of the server's certificate", &client_key(&folder));
        let (broker, [_, tls_port, _]) = Broker::with_listeners(folder, "tls.conf", [8883, 8884, 9001]).await;
        let database = Database::create().await;
        let proxy = Proxy::start(Target::Unix(services().database_socket())).await;
        let name = database.url().rsplit_once('/').expect("a name").1.to_owned();
        let (database_password, auth) = (plain_canary(), canary());
        let mut key = [0; 32];
        getrandom::fill(&mut key).expect("the system's random source");
        let key = STANDARD.encode(key);
        search.add_secret("the database's password", &database_password);
        let jwt = if log_format == "json" { signing_key(broker.folder()) } else { ("JWT_SECRET", canary()) };
        search.add_secret(jwt.0, jwt.1.lines().nth(1).unwrap_or(&jwt.1));
        search.add_secret("MQTT_AUTH_SECRET", &auth);
        search.add_key("ENCRYPTION_KEY", &key);
        search.add_secret("MQTT_PASSWORD", SERVER.1);
        search.add_secret("MQTT_DYNSEC_PASSWORD", ADMIN.1);
        let mail_password = plain_canary();
        search.add_secret("the mail server's password", &mail_password);
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
            // Nothing listens there.
            ("SMTP_URL", format!("smtp://sender:{mail_password}@127.0.0.1:9")),
            ("SMTP_FROM", "home@test.example".to_owned()),
            // No mail arrives.
            ("EMAIL_VERIFICATION", "off".to_owned()),
            ("LOG", "trace".to_owned()),
            ("LOG_FORMAT", log_format.to_owned()),
        ]);
        Self { broker, database, proxy, variables }
    }

    fn server(&self, more: &[(&str, &str)]) -> Server {
        // JWT_SECRET must not be set beside JWT_PRIVATE_KEY. An empty variable counts as not set.
        let mut overrides = vec![("JWT_SECRET", "")];
        overrides.extend(self.variables.iter().map(|(name, value)| (*name, value.as_str())));
        overrides.extend(more);
        Server::prepare(&self.database.url(), self.broker.port(), &overrides)
    }

    fn variable(&self, name: &str) -> &str {
        &self.variables.iter().find(|(known, _)| *known == name).expect("it is set").1
    }
}

/// The log of `serve` with these settings, up to its first warning or its end.
async fn log_with(installation: &Installation, changes: &[(&str, &str)]) -> String {
    let mut server = installation.server(changes);
    server.spawn();
    crate::support::until("it logs a warning", || {
        let has_warned = ["WARN", "ERROR"].iter().any(|level| server.log().contains(level));
        has_warned || server.has_ended()
    })
    .await;
    server.kill();
    server.log()
}

/// Starts servers with invalid settings that contain a secret.
async fn invalid_settings(installation: &Installation, search: &mut SecretSearch) {
    let canary = plain_canary();
    search.add_secret("an invalid setting", &canary);
    let short = &canary[..20];
    search.add_secret("a setting that is too short", short);
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
        format!("smtp://u:{canary}@127.0.0.1?tls={canary}"),
    ];
    let changes = [
        ("DATABASE_URL", urls[0].as_str()),
        ("DATABASE_URL", &urls[1]),
        ("DATABASE_URL", &urls[2]),
        ("DATABASE_URL", &urls[3]),
        ("MQTT_BROKER_URL", &urls[4]),
        ("SMTP_URL", &urls[5]),
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
        let log = log_with(installation, &[change]).await;
        assert!(!log.is_empty(), "no warning about {change:?}");
        search.add_output(format!("the log with an invalid {}", change.0), log, vec![]);
    }
    std::fs::remove_file(key_file).expect("our file");
}

/// Adds the pages, the log, the tables and the broker's files to the search.
async fn add_outputs(installation: &Installation, server: &Server, client: &mut Client) {
    for path in ["/metrics", "/readyz", "/livez", "/schema.graphql", "/.well-known/jwks.json", "/graphiql"] {
        client.raw("GET", path, &[], b"").await;
    }
    let search = &mut client.search;
    for (n, line) in server.log().lines().enumerate() {
        search.add_output(format!("line {} of the log", n + 1), line, vec![]);
    }
    for (table, rows) in installation.database.rows().await {
        for row in rows {
            search.add_output(format!("a row of {table}"), row, vec![]);
        }
    }
    // The broker's own database holds messages for devices, which may contain secrets. Its other files must not.
    for entry in std::fs::read_dir(installation.broker.folder()).expect("the broker's folder").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().expect("a file").is_file() && name != "mosquitto.db" {
            search.add_output(format!("the broker's {name}"), std::fs::read(entry.path()).expect("a file"), vec![]);
        }
    }
}

async fn no_secret_leaks(log_format: &str) {
    let mut search = SecretSearch::default();
    let installation = Installation::start(log_format, &mut search).await;
    invalid_settings(&installation, &mut search).await;
    let mut server = installation.server(&[]);
    server.restart().await;
    let mut client = Client { addr: server.addr(), search };
    requests::send_all(&installation, &mut client).await;
    installation.proxy.set(Mode::Cut);
    requests::without_a_database(&mut client).await;
    installation.proxy.set(Mode::Pass);
    add_outputs(&installation, &server, &mut client).await;
    server.stop().await;
    assert!(server.log().contains("TRACE"), "LOG=trace applies");
    client.search.add_output("the whole log", server.log(), vec![]);
    // The broker refuses the server's own password, then its administrator's.
    for name in ["MQTT_PASSWORD", "MQTT_DYNSEC_PASSWORD"] {
        let wrong = canary();
        client.search.add_secret("a password that the broker refuses", &wrong);
        let mut refused = installation.server(&[(name, &wrong), ("MQTT_AUTH_ADDR", "127.0.0.1:0")]);
        refused.spawn();
        crate::support::until("the broker refuses", || {
            let log = refused.log().to_lowercase();
            log.contains("not authorized") || log.contains("notauthorized")
        })
        .await;
        refused.kill();
        client.search.add_output(format!("the log with a wrong {name}"), refused.log(), vec![]);
    }
    let (n_secrets, n_outputs) = client.search.size();
    assert!(n_secrets >= MIN_SECRETS && n_outputs > 500, "{n_secrets} secrets, {n_outputs} outputs");
    let findings = client.search.findings();
    let shown = findings.iter().take(30).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(findings.is_empty(), "{} findings of {n_secrets} secrets in {n_outputs} outputs:\n{shown}", findings.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_leaks_with_the_text_log() {
    no_secret_leaks("text").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_leaks_with_the_json_log() {
    no_secret_leaks("json").await;
}
