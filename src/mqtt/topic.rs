//! One grammar for topics, both ways: `{prefix}/{home}/{device}/{kind}`, exactly four segments.
//!
//! A segment is read strictly: all digits in canonical form is an id, the usual spellings of a MAC
//! are a MAC, anything else that has the form of a key is a key. `24:6F:…` is never device 24.

use std::ops::Range;

use bytes::Bytes;

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

/// The topic of a received message. It is read once; what was found stays with it as offsets into its bytes.
#[derive(Debug, Clone)]
pub struct ReceivedTopic {
    bytes: Bytes,
    names: Option<NameSpan>,
    /// Set where the whole topic follows the grammar.
    kind: Option<MessageKind>,
}

/// Where `home/device` stands in a topic, in bytes. Without a device that can exist, `end` is `home_end`.
#[derive(Debug, Clone, Copy)]
struct NameSpan {
    start: usize,
    home_end: usize,
    end: usize,
}

impl ReceivedTopic {
    /// Reads a topic below `prefix`.
    pub fn read(prefix: &str, bytes: Bytes) -> Self {
        let (names, kind) = std::str::from_utf8(&bytes).map_or((None, None), |text| read(prefix, text));
        Self { bytes, names, kind }
    }

    /// What the device sent; `None` where the topic does not follow the grammar.
    pub fn kind(&self) -> Option<MessageKind> {
        self.kind
    }

    /// `home/device`, or the home alone where the rest can't name a device; also of a topic that otherwise
    /// breaks the grammar, so that its home can be told.
    pub fn address(&self) -> Option<&str> {
        self.names.map(|span| self.text(span.start..span.end))
    }

    /// The home and the device as this topic spells them.
    pub fn segments(&self) -> Option<(&str, &str)> {
        let span = self.names.filter(|span| span.home_end < span.end)?;
        Some((self.text(span.start..span.home_end), self.text(span.home_end + 1..span.end)))
    }

    /// The topic as it was received; not always UTF-8.
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The same topic in memory of its own: it no longer keeps the whole packet alive.
    pub fn detach(self) -> Self {
        Self { bytes: Bytes::copy_from_slice(&self.bytes), ..self }
    }

    fn text(&self, span: Range<usize>) -> &str {
        std::str::from_utf8(&self.bytes[span]).expect("names are ASCII")
    }
}

/// The names in a topic that has at least four segments, and its kind where it follows the grammar.
fn read(prefix: &str, text: &str) -> (Option<NameSpan>, Option<MessageKind>) {
    let Some((names, kind)) =
        text.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/')).and_then(|rest| rest.rsplit_once('/'))
    else {
        return (None, None);
    };
    let Some((home, device)) = names.split_once('/').filter(|(home, _)| is_name(home)) else { return (None, None) };
    let start = prefix.len() + 1;
    let home_end = start + home.len();
    // A device name holds no slash: with one more segment this is no name either.
    if is_name(device) {
        let kind = MessageKind::ALL.into_iter().find(|known| known.as_str() == kind);
        (Some(NameSpan { start, home_end, end: start + names.len() }), kind)
    } else {
        (Some(NameSpan { start, home_end, end: home_end }), None)
    }
}

/// The filter that matches every device's topics of one kind.
pub fn filter(prefix: &str, kind: MessageKind) -> String {
    format!("{prefix}/+/+/{}", kind.as_str())
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

    fn topic(text: &str) -> ReceivedTopic {
        ReceivedTopic::read("smarthome", Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn a_topic_of_the_grammar_has_a_kind_and_both_names() {
        for (home, device, kind) in [
            ("1", "ESP32_001", MessageKind::Telemetry),
            ("home-a", "24:6F:28:AA:BB:CC", MessageKind::Status),
            ("x", "y.z", MessageKind::Heartbeat),
        ] {
            let topic = topic(&format!("smarthome/{home}/{device}/{}", kind.as_str()));
            assert_eq!((topic.kind(), topic.segments()), (Some(kind), Some((home, device))));
            assert_eq!(topic.address(), Some(&*format!("{home}/{device}")));
        }
    }

    #[test]
    fn any_other_topic_has_no_kind_and_may_still_name_a_home() {
        let long = format!("smarthome/1/{}/status", "x".repeat(65));
        for (text, address) in [
            ("smarthome/1/2", None),
            ("smarthome/1/2/telemetry/x", Some("1")),
            ("smarthome/1//telemetry", Some("1")),
            ("smarthome//2/telemetry", None),
            ("/smarthome/1/2/telemetry", None),
            ("smarthome/1/2/Telemetry", Some("1/2")),
            ("smarthome/1/2/commands", Some("1/2")),
            ("smarthomes/1/2/telemetry", None),
            ("smarthome/1/a b/telemetry", Some("1")),
            ("smarthome/1/a\0/telemetry", Some("1")),
            ("smarthome/a b/1/status", None),
            ("$SYS/1/2/telemetry", None),
            ("", None),
            (&long, Some("1")),
        ] {
            assert_eq!((topic(text).kind(), topic(text).address()), (None, address), "{text:?}");
        }
        let binary = ReceivedTopic::read("smarthome", Bytes::from_static(b"smarthome/1/2/\xff"));
        assert_eq!((binary.kind(), binary.address()), (None, None));
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
    }
}
