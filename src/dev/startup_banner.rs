//! What `dev` prints when it is ready, and the file that scripts read.

use std::net::{IpAddr, SocketAddr};

use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use serde::Serialize;
use serde_json::json;

use super::demo::{Demo, EMAIL};

/// `.smarthome/dev.json`: written when everything is ready, removed at the stop. Its field names are an interface
/// for scripts.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConnectionFile {
    http_url: String,
    graphql_url: String,
    mqtt_url: String,
    database_url: String,
    email: &'static str,
    password: String,
    access_token: String,
    home_id: String,
    home_key: String,
    devices: Vec<ListedDevice>,
}

#[derive(Serialize)]
struct ListedDevice {
    id: String,
    key: String,
}

/// The device for the user's own board.
const BOARD: &str = "ESP32_001";

/// What only the banner shows.
pub(super) struct BannerDetails {
    pub(super) psql: String,
    pub(super) data: String,
    pub(super) connection_file: String,
    /// Absent where the broker is not the embedded one.
    pub(super) mqtt_ws: Option<SocketAddr>,
    /// Whether devices need their passwords.
    pub(super) mqtt_auth: bool,
    /// The address in the local network, if it is served.
    pub(super) lan: Option<IpAddr>,
    pub(super) n_simulated: usize,
    pub(super) prefix: String,
    pub(super) has_graphiql: bool,
}

impl ConnectionFile {
    pub(super) fn new(http: SocketAddr, mqtt_url: String, database_url: String, demo: &Demo) -> Self {
        let http_url = format!("http://{http}");
        let device = |(id, key): &(crate::ids::DeviceId, String)| ListedDevice { id: id.to_string(), key: key.clone() };
        Self {
            graphql_url: format!("{http_url}/graphql"),
            http_url,
            mqtt_url,
            database_url,
            email: EMAIL,
            password: demo.password.reveal().to_owned(),
            access_token: demo.token.clone(),
            home_id: demo.home.to_string(),
            home_key: demo.home_key.clone(),
            devices: demo.devices.iter().map(device).collect(),
        }
    }

    /// The text for the terminal.
    pub(super) fn banner(&self, details: &BannerDetails, demo: &Demo) -> String {
        let mut lines = vec![String::new(), "smarthome dev is ready (Ctrl-C stops it)".to_owned(), String::new()];
        let mut row = |name: &str, text: &str| lines.push(format!("  {name:<10} {text}"));
        if details.has_graphiql {
            let sign_in = if details.lan.is_some() { "sign in with the login below" } else { "signed in" };
            row("GraphiQL", &format!("{}/graphiql   ({sign_in}, example queries in its tabs)", self.http_url));
        }
        row("GraphQL", &format!("{}   (WebSocket at the same address)", self.graphql_url));
        row("MQTT", &self.mqtt_url);
        if let Some(ws) = details.mqtt_ws {
            row("", &format!("ws://{ws}/mqtt"));
        }
        row("Database", &details.psql);
        row("Login", &format!("{} / {}", self.email, self.password));
        row("Token", &format!("accessToken in {}, valid for 30 days", details.connection_file));
        row(
            "Home",
            &format!("{} with {} devices, {} of them simulated", self.home_id, self.devices.len(), details.n_simulated),
        );
        row("Data", &details.data);
        lines.push(String::new());
        if let Some(address) = details.lan {
            lines.extend(self.lan_lines(details, demo, address));
        }
        lines.push("Publish as a device:".to_owned());
        lines.push(self.publish_line(details, demo));
        lines.push(String::new());
        lines.push("Query the reading:".to_owned());
        lines.push(self.query_line());
        lines.push(String::new());
        if details.mqtt_ws.is_some() {
            lines.push(
                "The MQTT broker runs inside this process and writes to disk up to 0.25 s late: after a crash\n\
                 acknowledged messages may be lost. For full guarantees run your own broker with `smarthome serve`,\n\
                 or set MQTT_BROKER_URL for `dev`."
                    .to_owned(),
            );
        }
        lines.push(String::new());
        lines.join("\n")
    }

    /// What the network can reach, and what to enter into a board and a phone.
    fn lan_lines(&self, details: &BannerDetails, demo: &Demo, address: IpAddr) -> Vec<String> {
        let port = self.mqtt_url.rsplit(':').next().and_then(|port| port.parse::<u16>().ok()).unwrap_or(1883);
        let board = demo.credentials.iter().find(|login| login.key == BOARD).map(|login| {
            json!({
                "wifi": ["your network", "its password"], "host": address.to_string(), "port": port,
                "username": login.username, "password": login.password, "clientId": login.client_id,
                "topic": format!("{}/{}", details.prefix, login.username),
            })
        });
        let mut lines = vec![
            format!(
                "Everybody in the network of {address} can reach the broker, GraphQL and GraphiQL. The broker requires the"
            ),
            "credentials of a device. Anybody may register an account (REGISTRATION=closed prevents it); it sees"
                .to_owned(),
            "nothing of this home. Nothing is encrypted: use this in a network that you trust.".to_owned(),
            String::new(),
            "For a board, as settings.json of examples/micropython (values for examples/esp32-arduino are the same):"
                .to_owned(),
        ];
        lines.extend(board.map(|settings| format!("  {settings}")));
        lines.push("For a phone in the same network:".to_owned());
        let page = format!("{}/graphiql", self.http_url);
        lines.push(format!("  {page}"));
        lines.extend(qr_code(&page));
        lines.push(String::new());
        lines
    }

    fn publish_line(&self, details: &BannerDetails, demo: &Demo) -> String {
        let address = self.mqtt_url.rsplit("//").next().unwrap_or_default();
        let (host, port) = address.rsplit_once(':').unwrap_or((address, "1883"));
        let login = demo.credentials.iter().find(|login| details.mqtt_auth && login.key == BOARD);
        let login =
            login.map(|login| format!(" -i '{}' -u '{}' -P '{}'", login.client_id, login.username, login.password));
        format!(
            "  mosquitto_pub -h {host} -p {port}{} -q 1 -t {}/{}/{BOARD}/telemetry \\\n    -m '{{\"deviceId\":\"{BOARD}\",\"sensors\":{{\"temperature\":23.5,\"humidity\":65.2}}}}'",
            login.unwrap_or_default(),
            details.prefix,
            self.home_key,
        )
    }

    fn query_line(&self) -> String {
        let device = self.devices.iter().find(|device| device.key == BOARD).or(self.devices.first());
        let id = device.map_or("1", |device| device.id.as_str());
        format!(
            "  curl -s {} -H 'content-type: application/json' -H 'authorization: Bearer {}' \\\n    -d '{{\"query\":\"{{ device(id: \\\"{id}\\\") {{ key online latestTelemetry {{ recordedAt sensors {{ temperature humidity }} }} }} }}\"}}'",
            self.graphql_url, self.access_token
        )
    }
}

/// A QR code with this text, two rows of modules in each line. Dark modules are the background: most terminals are dark, and
/// cameras read either.
fn qr_code(text: &str) -> Vec<String> {
    let Ok(code) = QrCode::new(text) else { return Vec::new() };
    let image = code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
    image.lines().map(|line| format!("  {line}")).collect()
}
