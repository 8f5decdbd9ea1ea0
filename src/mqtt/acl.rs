//! Who may say and hear what, for brokers that ask us: the same as docker/mosquitto/acl says to Mosquitto.

use crate::devices::MqttUser;

/// What a device says, and the server hears.
const UP: [&str; 4] = ["telemetry", "status", "heartbeat", "ack"];
/// What the server says, and a device hears.
const DOWN: [&str; 2] = ["commands", "config"];
/// What the server also hears.
const BROKER_STATE: &str = "$SYS/broker/";

/// Who is at the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerClient<'a> {
    /// Our own server.
    Server,
    /// A device, by either of its names.
    Device(MqttUser<'a>),
}

/// What is to be done with a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicAction {
    /// Send to it.
    Publish,
    /// Hear from it; the topic is a filter then.
    Subscribe,
}

/// Whether `client` may do that. A device's topics are its own six, spelt by its keys and without
/// wildcards; the server may not speak for a device.
pub fn is_allowed(prefix: &str, client: BrokerClient<'_>, action: TopicAction, topic: &str) -> bool {
    let is_servers = matches!(client, BrokerClient::Server);
    if is_servers && action == TopicAction::Subscribe && topic.starts_with(BROKER_STATE) {
        return true;
    }
    let kinds: &[&str] = if is_servers == (action == TopicAction::Subscribe) { &UP } else { &DOWN };
    // Several servers may share their subscriptions.
    let topic = match topic.strip_prefix("$share/").filter(|_| is_servers && action == TopicAction::Subscribe) {
        Some(shared) => shared.split_once('/').map_or("", |(_, filter)| filter),
        None => topic,
    };
    let mut segments = topic.split('/');
    let (Some(first), Some(home), Some(device), Some(kind), None) =
        (segments.next(), segments.next(), segments.next(), segments.next(), segments.next())
    else {
        return false;
    };
    let is_addressee = match client {
        BrokerClient::Device(user) => home == user.home && device == user.device,
        BrokerClient::Server => {
            action == TopicAction::Subscribe || [home, device].iter().all(|name| !name.contains(['+', '#']))
        }
    };
    first == prefix && is_addressee && kinds.contains(&kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_who_may_do_what() {
        let device = |name| BrokerClient::Device(MqttUser::parse(name).unwrap());
        for kind in UP.into_iter().chain(DOWN) {
            let is_up = UP.contains(&kind);
            let own = format!("home/main/lamp/{kind}");
            for name in ["main/lamp", "main/lamp~1"] {
                assert_eq!(is_allowed("home", device(name), TopicAction::Publish, &own), is_up, "{own}");
                assert_eq!(is_allowed("home", device(name), TopicAction::Subscribe, &own), !is_up, "{own}");
            }
            for other in ["main/fan", "other/lamp", "other/fan~1"] {
                assert!(!is_allowed("home", device(other), TopicAction::Publish, &own), "{other} {own}");
                assert!(!is_allowed("home", device(other), TopicAction::Subscribe, &own), "{other} {own}");
            }
            assert_eq!(is_allowed("home", BrokerClient::Server, TopicAction::Publish, &own), !is_up, "{own}");
            for filter in [format!("home/+/+/{kind}"), format!("$share/g/home/+/+/{kind}")] {
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
        assert!(!is_allowed("home", BrokerClient::Server, TopicAction::Subscribe, "#"));
    }
}
