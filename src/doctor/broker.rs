//! The checks of the broker: reachable, credentials, TLS, and what a connection then shows.

use std::io::ErrorKind;
use std::time::Duration;

use super::report::Check;
use super::topics;
use crate::mqtt::checkup::{self, CertificateFault, ConnectFault, Refusal, RunId, Start, Unreachable};
use crate::mqtt::provision;
use crate::settings::{BrokerUrl, MqttSettings, Provisioning, Transport, is_loopback};

/// A session expiry below a day is a note.
const SHORT_SESSION_S: u32 = 24 * 3600;

/// All checks, those that need a connection only if there is one.
pub(super) async fn check(mqtt: &MqttSettings) -> Vec<Check> {
    let mut checks = Vec::new();
    match checkup::reach(&mqtt.broker).await {
        Ok(time) => checks.push(Check::ok("broker", format!("{} is reachable ({})", mqtt.broker, millis(time)))),
        Err(error) => {
            checks.push(unreachable(&mqtt.broker, &error));
            checks.push(Check::not_checked("connection", "the broker is not reachable"));
            return checks;
        }
    }
    match checkup::connect(mqtt, Start::Clean).await {
        Ok(connection) => {
            checks.push(Check::ok("credentials", credentials(mqtt)));
            checks.push(tls(mqtt));
            checks.extend(topics::check(mqtt, connection).await);
            checks.push(session(mqtt).await);
            checks.extend(provisioning(mqtt).await);
        }
        Err(fault) => checks.extend(connect_fault(mqtt, &fault)),
    }
    checks
}

fn unreachable(broker: &BrokerUrl, error: &Unreachable) -> Check {
    let cure = match error {
        Unreachable::UnknownName(_) => {
            format!("the name {} is not known: correct MQTT_BROKER_URL, or the name server", broker.host)
        }
        Unreachable::NoConnection(error) if error.kind() == ErrorKind::ConnectionRefused => format!(
            "start the broker; nothing listens on port {} there. If it runs: compare its `listener` line with MQTT_BROKER_URL",
            broker.port
        ),
        Unreachable::NoConnection(_) => {
            "check the address in MQTT_BROKER_URL, the network, and firewalls on the way".to_owned()
        }
    };
    Check::fault("broker", format!("no connection to {broker}: {error}"), cure)
}

fn credentials(mqtt: &MqttSettings) -> String {
    match (&mqtt.username, &mqtt.client_cert_file) {
        (Some(name), _) => format!("the broker accepts {name}"),
        (None, Some(_)) => "the broker accepts the client certificate".to_owned(),
        (None, None) => "the broker accepts clients without a user name".to_owned(),
    }
}

fn tls(mqtt: &MqttSettings) -> Check {
    match mqtt.broker.transport {
        Transport::Tls | Transport::WebSocketTls => {
            Check::ok("tls", format!("the certificate is valid for {}", mqtt.broker.host))
        }
        Transport::Tcp | Transport::WebSocket if is_loopback(&mqtt.broker.host) => {
            Check::ok("tls", "not used, on this machine alone")
        }
        Transport::Tcp | Transport::WebSocket => Check::note(
            "tls",
            "not used: passwords cross the network in clear text",
            "use mqtts:// unless the network is private; docs/brokers.md, \"TLS\"",
        ),
    }
}

fn connect_fault(mqtt: &MqttSettings, fault: &ConnectFault) -> Vec<Check> {
    const UNKNOWN: &str = "unknown until the connection works";
    let credentials = Check::not_checked("credentials", UNKNOWN);
    let transport = Check::not_checked("tls", UNKNOWN);
    let rest = Check::not_checked("topics", "there is no connection");
    let BrokerUrl { host, port, .. } = &mqtt.broker;
    match fault {
        ConnectFault::Refused(refusal) => vec![refused(mqtt, refusal), tls(mqtt), rest],
        ConnectFault::Certificate(fault) => vec![credentials, certificate(mqtt, fault), rest],
        ConnectFault::File(problem) => {
            vec![credentials, Check::fault("tls", problem.clone(), "name a PEM file that this account can read"), rest]
        }
        ConnectFault::OtherTransport(transport) => {
            let url = BrokerUrl { transport: *transport, ..mqtt.broker.clone() };
            let detail = format!(
                "port {port} of {host} speaks {}, which MQTT_BROKER_URL does not say",
                checkup::protocol(*transport)
            );
            let cure = format!("set MQTT_BROKER_URL={url}, or name another port");
            vec![credentials, Check::fault("tls", detail, cure), rest]
        }
        ConnectFault::NoMqtt(error) => {
            let detail = format!("{host}:{port} is reachable, but does not answer as an MQTT broker: {error}");
            let cure = "check that a broker listens on this port, and read its log";
            vec![Check::fault("protocol", detail, cure), credentials, transport, rest]
        }
    }
}

fn refused(mqtt: &MqttSettings, refusal: &Refusal) -> Check {
    match refusal {
        Refusal::Account => {
            let detail = match &mqtt.username {
                Some(name) => format!("the broker refuses {name}: wrong user name or password, or no such account"),
                None => "the broker refuses clients without a user name".to_owned(),
            };
            let cure = "set MQTT_USERNAME and MQTT_PASSWORD to an account of the broker. `smarthome mqtt export` writes it \
                        to Mosquitto's files; then restart the broker or send it SIGHUP";
            Check::fault("credentials", detail, cure)
        }
        Refusal::ClientId => Check::fault(
            "credentials",
            format!("the broker refuses a client id that begins with {}-doctor for this account", mqtt.client_id),
            "let the server's account use any client id that begins with MQTT_CLIENT_ID",
        ),
        Refusal::Version => {
            Check::fault("credentials", refusal.to_string(), "use a broker with MQTT 5, such as Mosquitto 2.0")
        }
        Refusal::Other(_) => Check::fault("credentials", refusal.to_string(), "the broker's log has the reason"),
    }
}

fn certificate(mqtt: &MqttSettings, fault: &CertificateFault) -> Check {
    let host = &mqtt.broker.host;
    match fault {
        CertificateFault::UnknownAuthority => {
            let trusted = match &mqtt.ca_file {
                Some(file) => format!("the authority in {}", file.display()),
                None => "an authority of this system".to_owned(),
            };
            Check::fault(
                "tls",
                format!("the broker's certificate is not signed by {trusted}"),
                "set MQTT_CA_FILE to the certificate of the authority that signed it (ca.crt of docker/mosquitto/tls.sh)",
            )
        }
        CertificateFault::WrongName(names) => {
            let names = if names.is_empty() { "other names".to_owned() } else { names.join(", ") };
            Check::fault(
                "tls",
                format!("the broker's certificate is not for {host}, but for {names}"),
                format!(
                    "use one of its names in MQTT_BROKER_URL, or make a certificate for {host}: `tls.sh DIR broker {host}`"
                ),
            )
        }
        CertificateFault::Expired => Check::fault("tls", fault.to_string(), "make a new one and restart the broker"),
        CertificateFault::NotYetValid => Check::fault(
            "tls",
            fault.to_string(),
            "correct the clock of this machine or of the one that made the certificate",
        ),
        CertificateFault::OfClient(_) => Check::fault(
            "tls",
            fault.to_string(),
            "set MQTT_CLIENT_CERT_FILE and MQTT_CLIENT_KEY_FILE to a certificate that the broker's authority has signed, or \
             use its port for passwords",
        ),
        CertificateFault::Other(_) => {
            Check::fault("tls", fault.to_string(), "the broker's log has the other side of it")
        }
    }
}

/// The administrator with whose account the server creates those of devices.
async fn provisioning(mqtt: &MqttSettings) -> Option<Check> {
    const NAME: &str = "provisioning";
    let Provisioning::Dynsec(account) = &mqtt.provisioning else { return None };
    let username = &account.username;
    Some(match provision::check(mqtt, account).await {
        Ok(()) => Check::ok(NAME, format!("{username} may create the accounts of devices")),
        Err(error) => Check::fault(
            NAME,
            format!("{username} can't create the accounts of devices: {error}"),
            "load Mosquitto's Dynamic Security plugin, and set MQTT_DYNSEC_USERNAME and MQTT_DYNSEC_PASSWORD to its administrator \
             in dynamic-security.json",
        ),
    })
}

/// A session that the broker keeps while nobody is connected, as the server's between two starts.
async fn session(mqtt: &MqttSettings) -> Check {
    const NAME: &str = "session";
    const LOSS: &str = "messages that arrive while the server restarts are lost";
    let run = RunId::random();
    let kept = async {
        let first = checkup::connect(mqtt, Start::NewSession(run)).await?;
        let expiry = first.session_expiry();
        first.close().await;
        let second = checkup::connect(mqtt, Start::Resume(run)).await?;
        let is_kept = second.has_session();
        second.close().await;
        checkup::connect(mqtt, Start::EndSession(run)).await?.close().await;
        Ok::<_, ConnectFault>((is_kept, expiry))
    };
    match kept.await {
        Ok((true, Some(seconds))) if seconds < SHORT_SESSION_S => Check::note(
            NAME,
            format!("the broker keeps a session for {seconds} s only; after a longer pause {LOSS}"),
            "raise the broker's limit of the session expiry interval",
        ),
        Ok((true, _)) => Check::ok(NAME, "the broker keeps a session while nobody is connected"),
        Ok((false, _)) => Check::fault(
            NAME,
            format!("the broker does not keep a session: {LOSS}"),
            "allow persistent sessions (session expiry interval above 0) for the server's account",
        ),
        Err(fault) => Check::fault(
            NAME,
            format!("a connection with a persistent session fails: {fault}"),
            "the broker's log has the reason",
        ),
    }
}

pub(super) fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}
