//! The checks of an open connection: rights of each topic, QoS, round trips, the broker's load.

use std::time::Duration;

use super::broker::millis;
use super::report::Check;
use crate::downlink::DownlinkKind;
use crate::mqtt::checkup::{Connection, Delivery, Grant, PublishAnswer, RequestError};
use crate::mqtt::topic::{DOCTOR_HOME, DOWNLINK_KINDS, MessageKind, downlink_segment, uplink_filter};
use crate::opaque_token;
use crate::settings::MqttSettings;

/// A longer time for most of the round trips is worth a note.
const SLOW: Duration = Duration::from_millis(250);

/// One connection with what the checks need.
struct Checkup<'a> {
    mqtt: &'a MqttSettings,
    connection: Connection,
    /// The doctor's device, new in each run: two doctors do not receive each other's messages.
    device: String,
}

/// Ends at the first error of the connection, which the last check reports.
pub(super) async fn check(mqtt: &MqttSettings, connection: Connection) -> Vec<Check> {
    let mut checkup = Checkup { mqtt, connection, device: opaque_token::generate("")[..12].to_owned() };
    let mut checks = Vec::new();
    if let Err(error) = checkup.all(&mut checks).await {
        checks.push(Check::fault(
            "connection",
            error.to_string(),
            "the broker's log has the reason; an ACL that disconnects clients is one",
        ));
    }
    checkup.connection.close().await;
    checks
}

impl Checkup<'_> {
    async fn all(&mut self, checks: &mut Vec<Check>) -> Result<(), RequestError> {
        let prefix = &self.mqtt.prefix;
        let grants = self.connection.grants(prefix).await?;
        let max_qos = self.connection.max_qos();
        if max_qos == 0 {
            checks.extend(grants.iter().map(|(kind, grant)| self.subscription(*kind, *grant, &Delivery::NotSent)));
            checks.push(qos(&grants, max_qos));
            checks.push(Check::not_checked("roundTrip", "the broker accepts no message with QoS 1"));
            checks.push(self.load().await);
            return Ok(());
        }
        let own = self.connection.subscribe_own(prefix, &self.device, None).await?;
        let deliveries = match own.iter().all(|grant| matches!(grant, Grant::Granted(_))) {
            true => self.connection.deliveries(prefix, &self.device).await?,
            false => MessageKind::ALL.iter().map(|kind| (*kind, Delivery::NotSent)).collect(),
        };
        for ((kind, grant), (_, delivery)) in grants.iter().zip(&deliveries) {
            checks.push(self.subscription(*kind, *grant, delivery));
        }
        for kind in DOWNLINK_KINDS {
            let answer = self.connection.may_write(prefix, &self.device, kind).await?;
            checks.push(self.downlink(kind, &answer));
        }
        checks.extend(self.shared().await?);
        checks.push(qos(&grants, max_qos));
        checks.push(self.round_trip(&deliveries).await?);
        checks.push(self.load().await);
        Ok(())
    }

    /// May the server read what devices send?
    fn subscription(&self, kind: MessageKind, grant: Grant, delivery: &Delivery) -> Check {
        let (name, filter) = (kind.as_str(), uplink_filter(&self.mqtt.prefix, kind, None));
        let cure = format!("let the server's account read {filter} (Mosquitto's acl: `topic read {filter}`)");
        match (grant, delivery) {
            (Grant::NotAuthorized | Grant::Refused, _) => {
                Check::fault(name, format!("the broker refuses the subscription to {filter}"), cure)
            }
            (Grant::Granted(_), Delivery::Lost) => Check::fault(
                name,
                format!(
                    "the broker accepts the subscription to {filter}, but delivers no message: the right to read is missing"
                ),
                cure,
            ),
            (Grant::Granted(_), Delivery::Received) => Check::ok(name, "may be read"),
            (Grant::Granted(_), Delivery::NotSent) => Check::note(
                name,
                "may be subscribed to; whether messages are delivered could not be tried",
                format!(
                    "let the server's account write to {}/{DOCTOR_HOME}/+/{name}, as docker/mosquitto/acl does",
                    self.mqtt.prefix
                ),
            ),
        }
    }

    /// May the server publish to devices?
    fn downlink(&self, kind: DownlinkKind, answer: &PublishAnswer) -> Check {
        let name = downlink_segment(kind);
        let topics = format!("{}/+/+/{name}", self.mqtt.prefix);
        let cure = format!("let the server's account write to {topics} (Mosquitto's acl: `topic write {topics}`)");
        match answer {
            PublishAnswer::Accepted if kind == DownlinkKind::Config && !self.connection.has_retained_messages() => {
                Check::fault(
                    name,
                    "the broker keeps no retained messages: a device that connects later gets no configuration",
                    "allow retained messages (Mosquitto: remove `retain_available false`)",
                )
            }
            PublishAnswer::Accepted => Check::ok(name, "may be written"),
            PublishAnswer::NotAuthorized => {
                Check::fault(name, format!("the broker refuses messages to {topics}"), cure)
            }
            PublishAnswer::Refused(code) => {
                Check::fault(name, format!("the broker refuses messages to {topics}: {code}"), cure)
            }
        }
    }

    /// A shared subscription of topics of its own takes no message from the servers of the group.
    async fn shared(&mut self) -> Result<Option<Check>, RequestError> {
        let Some(group) = &self.mqtt.shared_group else { return Ok(None) };
        let grants = self.connection.subscribe_own(&self.mqtt.prefix, &self.device, Some(group)).await?;
        let is_granted = grants.iter().all(|grant| matches!(grant, Grant::Granted(_)));
        Ok(Some(match is_granted && self.connection.has_shared_subscriptions() {
            true => Check::ok("shared", "shared subscriptions may be used"),
            false => Check::fault(
                "shared",
                format!("the broker refuses $share/{group}/…"),
                "use a broker with shared subscriptions and allow them, or unset MQTT_SHARED_GROUP",
            ),
        }))
    }

    async fn round_trip(&mut self, deliveries: &[(MessageKind, Delivery)]) -> Result<Check, RequestError> {
        const NAME: &str = "roundTrip";
        let received = deliveries.iter().find(|(_, delivery)| *delivery == Delivery::Received);
        let Some((kind, _)) = received else {
            return Ok(Check::not_checked(NAME, "no message could be sent and received"));
        };
        let times = self.connection.round_trips(&self.mqtt.prefix, &self.device, *kind).await?;
        let Some(longest) = times.last() else {
            return Ok(Check::not_checked(NAME, "no message came back in time"));
        };
        let [p50, p95, p99] = [50, 95, 99].map(|percent| times[(times.len() - 1) * percent / 100]);
        let detail = format!(
            "p50 {}, p95 {}, p99 {}, longest {} of {} messages to the broker and back",
            millis(p50),
            millis(p95),
            millis(p99),
            millis(*longest),
            times.len()
        );
        Ok(match p95 > SLOW {
            true => Check::note(
                NAME,
                detail,
                "check the network to the broker and its load; Mosquitto: `set_tcp_nodelay true`",
            ),
            false => Check::ok(NAME, detail),
        })
    }

    /// The last check of the connection: some brokers end it.
    async fn load(&mut self) -> Check {
        const NAME: &str = "load";
        let values = match self.connection.load().await {
            Ok(values) => values,
            Err(error) => return Check::not_checked(NAME, format!("$SYS/broker can't be read: {error}")),
        };
        if values.is_empty() {
            let detail = "the broker publishes nothing below $SYS/broker, or this account may not read it";
            return Check::not_checked(NAME, detail);
        }
        let text = values.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ");
        let dropped = values.get("publish/messages/dropped").and_then(|value| value.parse().ok()).unwrap_or(0_u64);
        match dropped {
            0 => Check::ok(NAME, text),
            n => Check::note(
                NAME,
                format!("the broker has dropped {n} messages since its start; {text}"),
                "a queue was full: raise `max_queued_messages` and `max_queued_bytes` (docker/mosquitto/conf.d/limits.conf), or \
                 look for a client that does not keep up",
            ),
        }
    }
}

fn qos(grants: &[(MessageKind, Grant)], max_qos: u8) -> Check {
    let lost: Vec<_> =
        grants.iter().filter(|(_, grant)| *grant == Grant::Granted(0)).map(|(kind, _)| kind.as_str()).collect();
    if max_qos > 0 && lost.is_empty() {
        return Check::ok("qos", "QoS 1 is granted");
    }
    Check::fault(
        "qos",
        match max_qos {
            0 => "the broker grants QoS 0 only: messages are lost while the server is away or busy".to_owned(),
            _ => format!(
                "the broker grants QoS 0 only for {}: such messages are lost while the server is away",
                lost.join(", ")
            ),
        },
        "allow QoS 1 for this account and listener (Mosquitto: remove `max_qos 0`)",
    )
}
