//! As much MQTT 5 as a measurement needs, straight onto a socket: a client library in the load
//! generator or in the yardstick would be measured along with what is to be measured.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, bail};

pub(crate) const PUBLISH: u8 = 3;
pub(crate) const PUBACK: u8 = 4;
pub(crate) const CONNACK: u8 = 2;
const SUBACK: u8 = 9;
/// What a subscriber allows the broker to have in flight: more than any batch.
const RECEIVE_MAXIMUM: u16 = 10_000;

/// Connects with a clean session and no keep-alive; returns after the CONNACK.
pub(crate) fn connect(port: u16, client_id: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).context("connect to the broker")?;
    stream.set_nodelay(true)?;
    stream.write_all(&connect_packet(client_id, None))?;
    let answer = read_packet(&mut stream)?;
    if !is_accepted(&answer) {
        bail!("the broker refused the connection: {answer:02x?}");
    }
    Ok(stream)
}

/// The CONNECT of a clean session without keep-alive, with a user name and a password if there is a login.
pub(crate) fn connect_packet(client_id: &str, login: Option<(&str, &str)>) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, "MQTT");
    // Version 5, clean start, no keep-alive; one property: the receive maximum.
    let flags = if login.is_some() { 0b1100_0010 } else { 0b0000_0010 };
    body.extend([5, flags, 0, 0, 3, 0x21]);
    body.extend(RECEIVE_MAXIMUM.to_be_bytes());
    text(&mut body, client_id);
    if let Some((username, password)) = login {
        text(&mut body, username);
        text(&mut body, password);
    }
    packet(0x10, &body)
}

/// Whether a whole packet is the CONNACK of success.
fn is_accepted(answer: &[u8]) -> bool {
    answer.first().map(|b| b >> 4) == Some(CONNACK) && answer.get(3) == Some(&0)
}

/// Subscribes at QoS 1; returns after the SUBACK.
pub(crate) fn subscribe(stream: &mut TcpStream, filter: &str) -> Result<()> {
    stream.write_all(&subscribe_packet(filter))?;
    let answer = read_packet(stream)?;
    if answer.first().map(|b| b >> 4) != Some(SUBACK) || answer.last() != Some(&1) {
        bail!("the broker refused the subscription: {answer:02x?}");
    }
    Ok(())
}

/// The SUBSCRIBE of one filter at QoS 1.
pub(crate) fn subscribe_packet(filter: &str) -> Vec<u8> {
    let mut body = vec![0, 1, 0];
    text(&mut body, filter);
    body.push(1);
    packet(0x82, &body)
}

/// A PUBLISH of QoS 1, ready to be sent many times, and where its changing bytes are.
pub(crate) struct Frame {
    pub(crate) bytes: Vec<u8>,
    pub(crate) packet_id_at: usize,
    pub(crate) payload_at: usize,
}

impl Frame {
    pub(crate) fn new(topic: &str, payload: &[u8]) -> Self {
        let mut bytes = vec![0x32];
        length(&mut bytes, 2 + topic.len() + 2 + 1 + payload.len());
        text(&mut bytes, topic);
        let packet_id_at = bytes.len();
        // Packet id, and no properties.
        bytes.extend([0, 0, 0]);
        let payload_at = bytes.len();
        bytes.extend(payload);
        Self { bytes, packet_id_at, payload_at }
    }

    /// Under this packet id.
    pub(crate) fn with_id(mut self, packet_id: u16) -> Vec<u8> {
        self.bytes[self.packet_id_at..][..2].copy_from_slice(&packet_id.to_be_bytes());
        self.bytes
    }
}

/// A received PUBLISH of QoS 1.
pub(crate) struct Publish<'a> {
    pub(crate) topic: &'a [u8],
    pub(crate) packet_id: [u8; 2],
    pub(crate) payload: &'a [u8],
}

impl<'a> Publish<'a> {
    /// From a packet's body; `None` for what the bench never sends.
    pub(crate) fn parse(body: &'a [u8]) -> Option<Self> {
        let (size, rest) = body.split_first_chunk::<2>()?;
        let (topic, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*size)))?;
        let (packet_id, rest) = rest.split_first_chunk::<2>()?;
        // Properties: the broker adds none or a few, always under 128 bytes here.
        let (&properties, rest) = rest.split_first()?;
        Some(Self { topic, packet_id: *packet_id, payload: rest.get(usize::from(properties)..)? })
    }
}

/// The PUBACK of a packet id: success, nothing said.
pub(crate) fn puback(packet_id: [u8; 2]) -> [u8; 4] {
    [0x40, 2, packet_id[0], packet_id[1]]
}

/// Cuts a byte stream into packets, in the buffer that it is read into.
#[derive(Default)]
pub(crate) struct Packets {
    buffer: Vec<u8>,
    /// What is received and not cut yet.
    start: usize,
    end: usize,
}

impl Packets {
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.room(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        self.filled(bytes.len());
    }

    /// Where the next bytes are to be read into: at least so many.
    pub(crate) fn room(&mut self, size: usize) -> &mut [u8] {
        if self.start == self.end || self.buffer.len() - self.end < size {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            self.buffer.resize(self.buffer.len().max(self.end + size), 0);
        }
        &mut self.buffer[self.end..]
    }

    /// So many bytes of that room have been read.
    pub(crate) fn filled(&mut self, n: usize) {
        self.end += n;
    }

    /// The next whole packet: its type and its body.
    pub(crate) fn next(&mut self) -> Option<(u8, &[u8])> {
        let rest = &self.buffer[self.start..self.end];
        let (mut size, mut at) = (0, 1);
        loop {
            let byte = *rest.get(at)?;
            size |= usize::from(byte & 0x7f) << (7 * (at - 1));
            at += 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let body = rest.get(at..at + size)?;
        self.start += at + size;
        Some((rest[0] >> 4, body))
    }
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    length(&mut bytes, body.len());
    bytes.extend(body);
    bytes
}

/// One short packet, whole (its length fits in one byte).
fn read_packet(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut bytes = vec![0; 2];
    stream.read_exact(&mut bytes)?;
    bytes.resize(2 + usize::from(bytes[1]), 0);
    stream.read_exact(&mut bytes[2..])?;
    Ok(bytes)
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend(u16::try_from(text.len()).expect("short").to_be_bytes());
    bytes.extend(text.as_bytes());
}

fn length(bytes: &mut Vec<u8>, mut length: usize) {
    loop {
        let low = u8::try_from(length & 0x7f).expect("seven bits");
        length >>= 7;
        bytes.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            return;
        }
    }
}
