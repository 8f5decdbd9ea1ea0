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
pub enum Party<'a> {
    /// Our own server.
    Server,
    /// A device, by either of its names.
    Device(MqttUser<'a>),
}

/// What is to be done with a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Send to it.
    Publish,
    /// Hear from it; the topic is a filter then.
    Subscribe,
}

/// Whether `party` may do that. A device's topics are its own six, spelt by its keys and without
/// wildcards; the server may not speak for a device.
pub fn may(prefix: &str, party: Party<'_>, deed: Deed, topic: &str) -> bool {
    let is_servers = matches!(party, Party::Server);
    if is_servers && deed == Deed::Subscribe && topic.starts_with(BROKER_STATE) {
        return true;
    }
    let kinds: &[&str] = if is_servers == (deed == Deed::Subscribe) { &UP } else { &DOWN };
    // Several servers may share their subscriptions.
    let topic = match topic.strip_prefix("$share/").filter(|_| is_servers && deed == Deed::Subscribe) {
        Some(shared) => shared.split_once('/').map_or("", |(_, filter)| filter),
        None => topic,
    };
    let mut segments = topic.split('/');
    let (Some(first), Some(home), Some(device), Some(kind), None) =
        (segments.next(), segments.next(), segments.next(), segments.next(), segments.next())
    else {
        return false;
    };
    let is_addressee = match party {
        Party::Device(user) => home == user.home && device == user.device,
        Party::Server => deed == Deed::Subscribe || [home, device].iter().all(|name| !name.contains(['+', '#'])),
    };
    first == prefix && is_addressee && kinds.contains(&kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_who_may_do_what() {
        let device = |name| Party::Device(MqttUser::parse(name).unwrap());
        for kind in UP.into_iter().chain(DOWN) {
            let is_up = UP.contains(&kind);
            let own = format!("home/main/lamp/{kind}");
            for name in ["main/lamp", "main/lamp~1"] {
                assert_eq!(may("home", device(name), Deed::Publish, &own), is_up, "{own}");
                assert_eq!(may("home", device(name), Deed::Subscribe, &own), !is_up, "{own}");
            }
            for other in ["main/fan", "other/lamp", "other/fan~1"] {
                assert!(!may("home", device(other), Deed::Publish, &own), "{other} {own}");
                assert!(!may("home", device(other), Deed::Subscribe, &own), "{other} {own}");
            }
            assert_eq!(may("home", Party::Server, Deed::Publish, &own), !is_up, "{own}");
            for filter in [format!("home/+/+/{kind}"), format!("$share/g/home/+/+/{kind}")] {
                assert_eq!(may("home", Party::Server, Deed::Subscribe, &filter), is_up, "{filter}");
                assert!(!may("home", device("main/lamp"), Deed::Subscribe, &filter), "{filter}");
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
            assert!(!may("home", device("main/lamp"), Deed::Subscribe, topic), "{topic}");
            assert!(!may("home", device("main/lamp"), Deed::Publish, topic), "{topic}");
        }
        assert!(may("home", Party::Server, Deed::Subscribe, "$SYS/broker/clients/connected"));
        assert!(!may("home", Party::Server, Deed::Publish, "$SYS/broker/clients/connected"));
        assert!(!may("home", Party::Server, Deed::Publish, "home/+/lamp/commands"));
        assert!(!may("home", Party::Server, Deed::Subscribe, "#"));
    }
}
