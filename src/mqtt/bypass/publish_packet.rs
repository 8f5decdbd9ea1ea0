//! Reads PUBLISH packets (MQTT 5, 3.3) from the bytes of a connection.

use bytes::{Buf, Bytes, BytesMut};

use crate::mqtt::cleanup;
use crate::mqtt::options::MAX_PACKET;

/// Type of a PUBLISH packet in the upper half of its first byte.
const PUBLISH: u8 = 3;
/// Bytes of the longest remaining length (MQTT 5, 1.5.5).
const MAX_LENGTH_BYTES: usize = 4;

/// A message with QoS 0 or 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::mqtt) struct PublishPacket {
    /// Not checked to be UTF-8.
    pub(in crate::mqtt) topic: Bytes,
    pub(in crate::mqtt) payload: Bytes,
    /// `None` for QoS 0.
    pub(in crate::mqtt) packet_id: Option<u16>,
    /// The DUP flag: the broker may have sent the message before.
    pub(in crate::mqtt) is_redelivery: bool,
    pub(in crate::mqtt) retained: bool,
    /// A server sent the message to delete a retained one, see [`cleanup::is_clearing`].
    pub(in crate::mqtt) is_clearing: bool,
}

/// What the input begins with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Input {
    Publish(PublishPacket),
    /// A packet for the client, of so many bytes: of another type, or one that the client refuses.
    Other {
        len: usize,
    },
    Incomplete,
}

/// Takes a whole message off the input; leaves everything else there. Before CONNACK there is none (MQTT 5, 3.2).
pub(super) fn take_publish(input: &mut BytesMut, is_connected: bool) -> Input {
    let Some(&first) = input.first() else { return Input::Incomplete };
    let (remaining, n_length_bytes) = match variable_byte_integer(&input[1..]) {
        Varint::Value(value, n_bytes) => (value, n_bytes),
        Varint::Incomplete => return Input::Incomplete,
        Varint::Malformed => return Input::Other { len: 1 + MAX_LENGTH_BYTES },
    };
    let header = 1 + n_length_bytes;
    let len = header + remaining;
    let (is_redelivery, qos) = (first & 0b1000 != 0, first >> 1 & 0b11);
    // DUP has to be 0 with QoS 0 (MQTT 5, 3.3.1.1).
    if !is_connected || first >> 4 != PUBLISH || qos > 1 || is_redelivery && qos == 0 || len > MAX_PACKET as usize {
        return Input::Other { len };
    }
    if input.len() < len {
        return Input::Incomplete;
    }
    let Some(layout) = layout(&input[header..len], qos) else { return Input::Other { len } };
    let body = input.split_to(len).freeze().slice(header..);
    let payload = body.slice(layout.payload_at..);
    Input::Publish(PublishPacket {
        topic: body.slice(2..2 + layout.topic_len),
        is_clearing: layout.has_clearing_property && payload.is_empty(),
        payload,
        packet_id: layout.packet_id,
        is_redelivery,
        retained: first & 1 != 0,
    })
}

struct Layout {
    topic_len: usize,
    packet_id: Option<u16>,
    has_clearing_property: bool,
    payload_at: usize,
}

/// Where the parts of a packet are; `None` if it is malformed or uses a topic alias, which the server does not permit.
fn layout(body: &[u8], qos: u8) -> Option<Layout> {
    let mut rest = body;
    let topic_len = string(&mut rest)?.len();
    let packet_id = match qos {
        0 => None,
        _ => Some(rest.try_get_u16().ok().filter(|id| *id != 0)?),
    };
    let Varint::Value(n, n_bytes) = variable_byte_integer(rest) else { return None };
    rest.advance(n_bytes);
    let properties = rest.get(..n)?;
    rest.advance(n);
    let has_clearing_property = has_clearing_property(properties)?;
    (topic_len > 0).then_some(Layout {
        topic_len,
        packet_id,
        has_clearing_property,
        payload_at: body.len() - rest.len(),
    })
}

/// `None` if the properties are malformed (MQTT 5, 3.3.2.3).
fn has_clearing_property(mut properties: &[u8]) -> Option<bool> {
    let mut found = false;
    while let Ok(identifier) = properties.try_get_u8() {
        match identifier {
            // Payload format indicator, message expiry interval.
            0x01 => properties = properties.get(1..)?,
            0x02 => properties = properties.get(4..)?,
            // Content type, response topic, correlation data.
            0x03 | 0x08 | 0x09 => _ = string(&mut properties)?,
            // Subscription identifier.
            0x0B => match variable_byte_integer(properties) {
                Varint::Value(_, n_bytes) => properties.advance(n_bytes),
                _ => return None,
            },
            // User property.
            0x26 => found |= cleanup::is_clearing(string(&mut properties)?, string(&mut properties)?),
            _ => return None,
        }
    }
    Some(found)
}

/// Bytes with their length before them.
fn string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::from(rest.try_get_u16().ok()?);
    let (string, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(string)
}

enum Varint {
    /// With the number of its bytes.
    Value(usize, usize),
    Incomplete,
    Malformed,
}

/// A variable byte integer (MQTT 5, 1.5.5).
fn variable_byte_integer(bytes: &[u8]) -> Varint {
    let mut value = 0;
    for (i, byte) in bytes.iter().take(MAX_LENGTH_BYTES).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * i);
        if byte & 0x80 == 0 {
            return Varint::Value(value, i + 1);
        }
    }
    if bytes.len() < MAX_LENGTH_BYTES { Varint::Incomplete } else { Varint::Malformed }
}
