//! Which topics a client may publish to and subscribe to, for brokers that ask the server. The rules are those of
//! docker/mosquitto/acl.

use super::topic::{self, DOCTOR_HOME, Direction};
use crate::devices::MqttUser;

/// Topics of the broker itself that the server may subscribe to.
const BROKER_STATE: &str = "$SYS/broker/";

/// A client of the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerClient<'a> {
    /// This server.
    Server,
    /// A device, by either of its user names.
    Device(MqttUser<'a>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicAction {
    Publish,
    /// The topic is a filter.
    Subscribe,
}

/// Whether a client may publish or subscribe to a topic. A device has six topics, spelt by its keys and without
/// wildcards. The server may not publish in place of a device, apart from the doctor's, which is no device.
pub fn is_allowed(prefix: &str, client: BrokerClient<'_>, action: TopicAction, topic: &str) -> bool {
    match (client, action) {
        (BrokerClient::Device(user), _) => {
            let direction = match action {
                TopicAction::Publish => Direction::FromDevice,
                TopicAction::Subscribe => Direction::ToDevice,
            };
            split(prefix, topic) == Some((user.home, user.device, direction))
        }
        (BrokerClient::Server, TopicAction::Publish) => {
            let has_wildcard = topic.contains(['+', '#']);
            !has_wildcard
                && split(prefix, topic)
                    .is_some_and(|(home, _, direction)| direction == Direction::ToDevice || home == DOCTOR_HOME)
        }
        (BrokerClient::Server, TopicAction::Subscribe) => {
            // Servers that share the load use shared subscriptions.
            let filter = topic::unshared(topic).and_then(|filter| split(prefix, filter));
            topic.starts_with(BROKER_STATE) || filter.is_some_and(|(.., direction)| direction == Direction::FromDevice)
        }
    }
}

/// Home and device of a topic that only the device publishes to. The server may do so too after the device is deleted, to
/// delete what it retained there.
pub fn uplink_device<'a>(prefix: &str, topic: &'a str) -> Option<(&'a str, &'a str)> {
    let (home, device, direction) = split(prefix, topic)?;
    (direction == Direction::FromDevice && !topic.contains(['+', '#'])).then_some((home, device))
}

/// Home, device and direction of a topic or filter that has the four segments of a device's topic.
fn split<'a>(prefix: &str, topic: &'a str) -> Option<(&'a str, &'a str, Direction)> {
    let [first, home, device, last] = topic::split(topic)?;
    if first != prefix {
        return None;
    }
    Some((home, device, Direction::of_segment(last)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::topic::{DOWNLINK_KINDS, MessageKind, downlink_segment};

    #[test]
    fn devices_and_the_server_reach_exactly_their_topics() {
        let device = |name| BrokerClient::Device(MqttUser::parse(name).unwrap());
        let uplinks = MessageKind::ALL.iter().map(|kind| (kind.as_str(), true));
        for (last, is_up) in uplinks.chain(DOWNLINK_KINDS.map(|kind| (downlink_segment(kind), false))) {
            let own = format!("home/main/lamp/{last}");
            for name in ["main/lamp", "main/lamp~1"] {
                assert_eq!(is_allowed("home", device(name), TopicAction::Publish, &own), is_up, "{own}");
                assert_eq!(is_allowed("home", device(name), TopicAction::Subscribe, &own), !is_up, "{own}");
            }
            for other in ["main/fan", "other/lamp", "other/fan~1"] {
                assert!(!is_allowed("home", device(other), TopicAction::Publish, &own), "{other} {own}");
                assert!(!is_allowed("home", device(other), TopicAction::Subscribe, &own), "{other} {own}");
            }
            assert_eq!(is_allowed("home", BrokerClient::Server, TopicAction::Publish, &own), !is_up, "{own}");
            for filter in [format!("home/+/+/{last}"), format!("$share/g/home/+/+/{last}")] {
                assert_eq!(
                    is_allowed("home", BrokerClient::Server, TopicAction::Subscribe, &filter),
                    is_up,
                    "{filter}"
                );
                assert!(!is_allowed("home", device("main/lamp"), TopicAction::Subscribe, &filter), "{filter}");
            }
        }
        for topic in [
            "#",
            "home/#",
            "home/main/#",
            "home/main/lamp/#",
            "home/main/lamp/+",
            "home/main/lamp",
            "other/main/lamp/commands",
            "home/main/lamp/commands/x",
            "$SYS/#",
            "$share/g/home/main/lamp/commands",
            "",
        ] {
            assert!(!is_allowed("home", device("main/lamp"), TopicAction::Subscribe, topic), "{topic}");
            assert!(!is_allowed("home", device("main/lamp"), TopicAction::Publish, topic), "{topic}");
        }
        assert!(is_allowed("home", BrokerClient::Server, TopicAction::Subscribe, "$SYS/broker/clients/connected"));
        assert!(!is_allowed("home", BrokerClient::Server, TopicAction::Publish, "$SYS/broker/clients/connected"));
        assert!(!is_allowed("home", BrokerClient::Server, TopicAction::Publish, "home/+/lamp/commands"));
        for (topic, is_so) in
            [("home/_doctor/x/status", true), ("home/_doctor/+/status", false), ("x/_doctor/x/ack", false)]
        {
            assert_eq!(is_allowed("home", BrokerClient::Server, TopicAction::Publish, topic), is_so, "{topic}");
        }
        assert!(!is_allowed("home", BrokerClient::Server, TopicAction::Subscribe, "#"));
        assert_eq!(uplink_device("home", "home/main/lamp/status"), Some(("main", "lamp")));
        for other in ["home/main/lamp/commands", "home/+/lamp/status", "other/main/lamp/status", "home/main/status"] {
            assert_eq!(uplink_device("home", other), None, "{other}");
        }
    }
}
