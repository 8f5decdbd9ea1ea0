//! The grammar of topics, in both directions: `{prefix}/{home}/{device}/{kind}`, exactly four segments.
//!
//! Segments are read strictly: digits in canonical form are an id, the usual spellings of a MAC address are a MAC
//! address, and any other valid name is a key. `24:6F:…` is never device 24.

use std::ops::Range;

use bytes::Bytes;

use crate::devices::{DeviceName, TopicAddress};
use crate::downlink::DownlinkKind;
use crate::text_enum::text_enum;

/// Longest name of a home or a device, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// The home of `smarthome doctor`, which sends and receives messages below it. No home has this key: keys begin with a
/// letter or a digit.
pub const DOCTOR_HOME: &str = "_doctor";

text_enum! {
    /// The last segment of the topics that devices publish to.
    pub enum MessageKind {
        /// Readings.
        Telemetry = "telemetry",
        /// Presence and health; also the Last Will.
        Status = "status",
        /// A device reports that it is running.
        Heartbeat = "heartbeat",
        /// The answer to a command or to a configuration.
        Ack = "ack",
    }
}

/// The kinds of messages that the server publishes to a device.
pub const DOWNLINK_KINDS: [DownlinkKind; 2] = [DownlinkKind::Commands, DownlinkKind::Config];

/// Which side publishes to a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    FromDevice,
    ToDevice,
}

impl Direction {
    /// The direction of a topic with this last segment.
    pub fn of_segment(segment: &str) -> Option<Self> {
        if segment.parse::<MessageKind>().is_ok() {
            Some(Self::FromDevice)
        } else {
            DOWNLINK_KINDS.iter().any(|kind| downlink_segment(*kind) == segment).then_some(Self::ToDevice)
        }
    }
}

/// The last segment of the topics that the server publishes to.
pub const fn downlink_segment(kind: DownlinkKind) -> &'static str {
    match kind {
        DownlinkKind::Commands => "commands",
        DownlinkKind::Config => "config",
    }
}

/// One topic of one device. The names must be valid.
pub fn device_topic(prefix: &str, home: &str, device: &str, segment: &str) -> String {
    format!("{prefix}/{home}/{device}/{segment}")
}

/// The topic on which the server publishes to a device. `None` where a name is not valid in a topic, so that no
/// stored name can put a wildcard or another segment into it.
pub fn downlink_topic(prefix: &str, home: &str, device: &str, kind: DownlinkKind) -> Option<String> {
    (is_name(home) && is_name(device)).then(|| device_topic(prefix, home, device, downlink_segment(kind)))
}

/// The subscription filter for one kind of message of all devices.
pub fn uplink_filter(prefix: &str, kind: MessageKind, shared_group: Option<&str>) -> String {
    let filter = device_topic(prefix, "+", "+", kind.as_str());
    match shared_group {
        Some(group) => format!("$share/{group}/{filter}"),
        None => filter,
    }
}

/// The filter of a shared subscription without its group; any other filter as it is. `None` where the shared
/// subscription has no filter.
pub fn unshared(filter: &str) -> Option<&str> {
    match filter.strip_prefix("$share/") {
        Some(shared) => shared.split_once('/').map(|(_, filter)| filter),
        None => Some(filter),
    }
}

/// The four segments of a topic or a filter; `None` for any other number of them.
pub fn split(topic: &str) -> Option<[&str; 4]> {
    let mut segments = topic.split('/');
    let four = [segments.next()?, segments.next()?, segments.next()?, segments.next()?];
    segments.next().is_none().then_some(four)
}

/// The topic of a received message, parsed once. Offsets into the bytes move with the message.
#[derive(Debug, Clone)]
pub struct ReceivedTopic {
    bytes: Bytes,
    /// The position of `home/device`, or of `home` alone where the segments after it can't name a device.
    address: Option<Range<usize>>,
    kind: Option<MessageKind>,
}

impl ReceivedTopic {
    /// Reads a topic below `prefix`. A topic that breaks the grammar may still name a home.
    pub fn read(prefix: &str, bytes: Bytes) -> Self {
        let (address, kind) = parse(prefix, &bytes).unzip();
        Self { bytes, address, kind: kind.flatten() }
    }

    /// The topic as it came. The broker checks that it is UTF-8; the server does not rely on it.
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// `None` where the topic breaks the grammar.
    pub fn kind(&self) -> Option<MessageKind> {
        self.kind
    }

    /// The text `home/device`, or `home` alone where the topic names no device. [`address`] reads it.
    pub fn address(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes[self.address.clone()?]).ok()
    }

    /// The home and the device as the topic spells them.
    pub fn segments(&self) -> Option<(&str, &str)> {
        self.address()?.split_once('/')
    }

    /// The same topic with bytes of its own: the received bytes may be a slice of a much larger buffer.
    pub fn detach(self) -> Self {
        Self { bytes: Bytes::copy_from_slice(&self.bytes), ..self }
    }
}

fn parse(prefix: &str, topic: &[u8]) -> Option<(Range<usize>, Option<MessageKind>)> {
    let rest = std::str::from_utf8(topic).ok()?.strip_prefix(prefix)?.strip_prefix('/')?;
    let start = topic.len() - rest.len();
    let (names, last) = rest.rsplit_once('/')?;
    let (home, device) = names.split_once('/')?;
    match (is_name(home), is_name(device)) {
        (true, true) => Some((start..start + names.len(), last.parse().ok())),
        // A name that can't exist is not looked up, so it never fills the cache of names.
        (true, false) => Some((start..start + home.len(), None)),
        (false, _) => None,
    }
}

/// What a [`ReceivedTopic::address`] names.
pub fn address(text: &str) -> TopicAddress<'_> {
    let (home, device) = text.split_once('/').unwrap_or((text, ""));
    TopicAddress { home: home.parse().map_err(|_| home), device: is_name(device).then(|| device_name(device)) }
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

/// The characters of keys and MAC addresses: nothing else names a home or a device.
fn is_name(segment: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&segment.len())
        && segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(prefix: &str, topic: &str) -> ReceivedTopic {
        ReceivedTopic::read(prefix, Bytes::copy_from_slice(topic.as_bytes()))
    }

    #[test]
    fn a_formatted_topic_parses_to_the_same_names_and_kind() {
        for (home, device) in [("1", "ESP32_001"), ("home-a", "24:6F:28:AA:BB:CC"), ("x", "y.z")] {
            for kind in MessageKind::ALL {
                let topic = received("smarthome", &device_topic("smarthome", home, device, kind.as_str()));
                assert_eq!((topic.segments(), topic.kind()), (Some((home, device)), Some(*kind)));
            }
        }
    }

    #[test]
    fn other_topics_have_no_kind() {
        let long = format!("smarthome/1/{}/status", "x".repeat(65));
        for topic in [
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
            assert_eq!(received("smarthome", topic).kind(), None, "{topic:?}");
        }
        assert_eq!(ReceivedTopic::read("p", Bytes::from_static(b"p/1/\xff/status")).address(), None);
    }

    #[test]
    fn a_downlink_topic_has_four_segments_or_is_none() {
        assert_eq!(
            downlink_topic("p", "1", "ESP32_001", DownlinkKind::Commands).as_deref(),
            Some("p/1/ESP32_001/commands")
        );
        assert_eq!(
            downlink_topic("p", "main", "24:6F:28:AA:BB:CC", DownlinkKind::Config).as_deref(),
            Some("p/main/24:6F:28:AA:BB:CC/config")
        );
        for (home, device) in [("+", "a"), ("1", "#"), ("1", "a/b"), ("", "a"), ("1", ""), ("1", "a\0")] {
            assert_eq!(downlink_topic("p", home, device, DownlinkKind::Commands), None);
        }
    }

    #[test]
    fn a_filter_matches_all_devices_and_loses_its_group_again() {
        assert_eq!(uplink_filter("p", MessageKind::Ack, None), "p/+/+/ack");
        let shared = uplink_filter("p", MessageKind::Ack, Some("g"));
        assert_eq!((shared.as_str(), unshared(&shared)), ("$share/g/p/+/+/ack", Some("p/+/+/ack")));
        assert_eq!((unshared("p/a"), unshared("$share/g")), (Some("p/a"), None));
    }

    #[test]
    fn a_mac_address_is_never_an_id_and_an_id_is_canonical() {
        assert_eq!(device_name("24"), DeviceName::Id("24".parse().unwrap()));
        assert!(matches!(device_name("24:6F:28:AA:BB:CC"), DeviceName::Mac(_)));
        assert!(matches!(device_name("246f28aabbcc"), DeviceName::Mac(_)));
        for key in ["007", "1e3", "24x", "ESP32_001"] {
            assert_eq!(device_name(key), DeviceName::Key(key));
        }
        assert_eq!(address("01/x").home, Err("01"));
        assert_eq!(address("1/a b"), TopicAddress { home: Ok("1".parse().unwrap()), device: None });
        assert_eq!(received("p", "p/1/ESP32_001/status").address(), Some("1/ESP32_001"));
        assert_eq!(received("p", "p/1/a b/status").address(), Some("1"));
        assert_eq!(received("p", "p/a b/1/status").address(), None);
    }
}
