//! One grammar for topics, both ways: `{prefix}/{home}/{device}/{kind}`, exactly four segments.
//!
//! A segment is read strictly: all digits in canonical form is an id, the usual spellings of a MAC
//! are a MAC, anything else that has the form of a key is a key. `24:6F:…` is never device 24.

use std::fmt;

use crate::devices::{DeviceName, TopicAddress};
use crate::downlink::Channel;

/// The last segment of what devices send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// Readings.
    Telemetry,
    /// Presence and health, also as Last Will.
    Status,
    /// A sign of life.
    Heartbeat,
    /// What became of a command or a configuration.
    Ack,
}

impl MessageKind {
    /// All that the server subscribes to.
    pub const ALL: [Self; 4] = [Self::Telemetry, Self::Status, Self::Heartbeat, Self::Ack];

    /// As it stands in a topic.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Telemetry => "telemetry",
            Self::Status => "status",
            Self::Heartbeat => "heartbeat",
            Self::Ack => "ack",
        }
    }
}

/// A topic that follows the grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topic<'a> {
    /// The home as the device spells it.
    pub home: &'a str,
    /// The device as it spells itself.
    pub device: &'a str,
    /// What it sends.
    pub kind: MessageKind,
}

/// Why a topic is not one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a topic of the form prefix/home/device/kind")]
pub struct TopicError;

impl<'a> Topic<'a> {
    /// Reads a topic below `prefix`.
    pub fn parse(prefix: &str, text: &'a str) -> Result<Self, TopicError> {
        let rest = text.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/')).ok_or(TopicError)?;
        let mut segments = rest.split('/');
        let (Some(home), Some(device), Some(kind), None) =
            (segments.next(), segments.next(), segments.next(), segments.next())
        else {
            return Err(TopicError);
        };
        let kind = MessageKind::ALL.into_iter().find(|known| known.as_str() == kind).ok_or(TopicError)?;
        if !is_name(home) || !is_name(device) {
            return Err(TopicError);
        }
        Ok(Self { home, device, kind })
    }

    /// The filter that matches every device's topics of one kind.
    pub fn filter(prefix: &str, kind: MessageKind) -> String {
        format!("{prefix}/+/+/{}", kind.as_str())
    }
}

impl fmt::Display for Topic<'_> {
    /// Everything but the prefix.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.home, self.device, self.kind.as_str())
    }
}

/// The topic of a device's own channel; `None` where a segment can't be one, so that nothing stored can
/// ever widen a topic.
pub fn downlink_topic(prefix: &str, home: &str, device: &str, channel: Channel) -> Option<String> {
    let kind = match channel {
        Channel::Commands => "commands",
        Channel::Config => "config",
    };
    (is_name(home) && is_name(device)).then(|| format!("{prefix}/{home}/{device}/{kind}"))
}

/// What `home/device` names, or a home alone where the device's part can't name anything.
pub fn address(text: &str) -> TopicAddress<'_> {
    let (home, device) = text.split_once('/').unwrap_or((text, ""));
    TopicAddress { home: home.parse().map_err(|_| home), device: is_name(device).then(|| device_name(device)) }
}

/// The `home/device` part of any topic that has four segments below `prefix`.
pub fn address_text<'a>(prefix: &str, topic: &'a str) -> Option<&'a str> {
    let rest = topic.strip_prefix(prefix)?.strip_prefix('/')?;
    let (names, _) = rest.rsplit_once('/')?;
    let (home, device) = names.split_once('/')?;
    // A name that can't exist is not remembered: only its home is asked for.
    if is_name(home) { Some(if is_name(device) { names } else { home }) } else { None }
}

fn device_name(segment: &str) -> DeviceName<'_> {
    if let Ok(id) = segment.parse() {
        DeviceName::Id(id)
    } else if let Ok(mac) = segment.parse() {
        DeviceName::Mac(mac)
    } else {
        DeviceName::Key(segment)
    }
}

/// The characters of keys and MAC addresses: nothing else can name anything.
fn is_name(segment: &str) -> bool {
    (1..=64).contains(&segment.len())
        && segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_parses_also_prints() {
        for text in ["1/ESP32_001/telemetry", "home-a/24:6F:28:AA:BB:CC/status", "x/y.z/heartbeat"] {
            let topic = format!("smarthome/{text}");
            assert_eq!(Topic::parse("smarthome", &topic).unwrap().to_string(), text);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let long = format!("smarthome/1/{}/status", "x".repeat(65));
        for text in [
            "smarthome/1/2",
            "smarthome/1/2/telemetry/x",
            "smarthome/1//telemetry",
            "smarthome//2/telemetry",
            "/smarthome/1/2/telemetry",
            "smarthome/1/2/Telemetry",
            "smarthome/1/2/commands",
            "smarthomes/1/2/telemetry",
            "smarthome/1/a b/telemetry",
            "smarthome/1/a\0/telemetry",
            "$SYS/1/2/telemetry",
            "",
            &long,
        ] {
            assert_eq!(Topic::parse("smarthome", text), Err(TopicError), "{text:?}");
        }
    }

    #[test]
    fn a_topic_down_has_four_segments_or_is_none() {
        assert_eq!(downlink_topic("p", "1", "ESP32_001", Channel::Commands).as_deref(), Some("p/1/ESP32_001/commands"));
        assert_eq!(
            downlink_topic("p", "main", "24:6F:28:AA:BB:CC", Channel::Config).as_deref(),
            Some("p/main/24:6F:28:AA:BB:CC/config")
        );
        for (home, device) in [("+", "a"), ("1", "#"), ("1", "a/b"), ("", "a"), ("1", ""), ("1", "a\0")] {
            assert_eq!(downlink_topic("p", home, device, Channel::Commands), None);
        }
    }

    #[test]
    fn a_mac_is_never_a_number_and_a_number_only_in_canonical_form() {
        assert_eq!(device_name("24"), DeviceName::Id("24".parse().unwrap()));
        assert!(matches!(device_name("24:6F:28:AA:BB:CC"), DeviceName::Mac(_)));
        assert!(matches!(device_name("246f28aabbcc"), DeviceName::Mac(_)));
        for key in ["007", "1e3", "24x", "ESP32_001"] {
            assert_eq!(device_name(key), DeviceName::Key(key));
        }
        assert_eq!(address("01/x").home, Err("01"));
        assert_eq!(address("1/a b"), TopicAddress { home: Ok("1".parse().unwrap()), device: None });
        assert_eq!(address_text("p", "p/1/ESP32_001/status"), Some("1/ESP32_001"));
        assert_eq!(address_text("p", "p/1/a b/status"), Some("1"));
        assert_eq!(address_text("p", "p/a b/1/status"), None);
    }
}
