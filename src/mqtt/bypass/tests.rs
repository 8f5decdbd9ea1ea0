use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use rumqttc::mqttbytes::v5::{Packet, PubAck, Publish, PublishProperties};
use rumqttc::mqttbytes::{self, QoS};
use rumqttc::{AsyncClient, Broker, MqttOptions, PublishOptions};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio::net::{TcpListener, TcpStream};

use super::publish_packet::{Input, take_publish};
use super::*;
use crate::mqtt::cleanup::clearing_properties;
use crate::mqtt::options::MAX_PACKET;
use crate::settings::BrokerUrl;

impl connect::Stream for DuplexStream {
    fn pause(&mut self) {}
}

fn bypass() -> Bypass {
    Bypass::new(Metrics::default(), Traces::default())
}

fn batch() -> AcknowledgedBatch {
    AcknowledgedBatch { committed_at: Instant::now(), traced: Vec::new() }
}

fn encoded(packet: &Packet) -> BytesMut {
    let mut bytes = BytesMut::new();
    packet.write(&mut bytes, None).unwrap();
    bytes
}

/// A CONNACK without a session and properties.
const CONNACK: [u8; 5] = [0x20, 3, 0, 0, 0];

fn connack() -> Packet {
    Packet::read(&mut BytesMut::from(&CONNACK[..]), None).unwrap()
}

fn text(rng: &mut fastrand::Rng) -> String {
    (0..rng.usize(..9)).map(|_| rng.alphabetic()).collect()
}

fn properties(rng: &mut fastrand::Rng) -> PublishProperties {
    if rng.u8(..4) == 0 {
        return clearing_properties();
    }
    PublishProperties {
        payload_format_indicator: rng.bool().then_some(1),
        message_expiry_interval: rng.bool().then(|| rng.u32(..)),
        topic_alias: None,
        response_topic: rng.bool().then(|| text(rng)),
        correlation_data: rng.bool().then(|| text(rng).into()),
        user_properties: (0..rng.usize(..3)).map(|_| (text(rng), text(rng))).collect(),
        subscription_identifiers: rng.bool().then(|| rng.usize(1..300_000)).into_iter().collect(),
        content_type: rng.bool().then(|| text(rng)),
    }
}

/// A message with any QoS, or another packet.
fn packet(rng: &mut fastrand::Rng) -> Packet {
    if rng.u8(..4) == 0 {
        return if rng.bool() { Packet::PingResp } else { Packet::PubAck(PubAck::new(rng.u16(1..), None)) };
    }
    let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][rng.usize(..4)];
    let payload_len = if rng.u8(..20) == 0 { rng.usize(..40_000) } else { rng.usize(..200) };
    let payload: Vec<u8> = (0..rng.usize(..=payload_len)).map(|_| rng.u8(..)).collect();
    let mut publish = Publish::new(format!("p/{}", text(rng)), qos, payload, None);
    publish.properties = rng.bool().then(|| properties(rng)).filter(|all| *all != PublishProperties::default());
    publish.dup = qos != QoS::AtMostOnce && rng.bool();
    publish.retain = rng.bool();
    publish.pkid = if qos == QoS::AtMostOnce { 0 } else { rng.u16(1..) };
    Packet::Publish(publish)
}

/// What the bypass takes of a packet; `None` if it is for the client.
fn taken(packet: &Packet) -> Option<PublishPacket> {
    let Packet::Publish(publish) = packet else { return None };
    (publish.qos != QoS::ExactlyOnce).then(|| PublishPacket {
        topic: publish.topic.clone(),
        payload: publish.payload.clone(),
        packet_id: (publish.pkid != 0).then_some(publish.pkid),
        is_redelivery: publish.dup,
        retained: publish.retain,
        is_clearing: publish.payload.is_empty() && publish.properties == Some(clearing_properties()),
    })
}

/// Reads until something was taken or passed.
async fn read(stream: &mut BypassStream<DuplexStream>, bypass: &Bypass) -> (Vec<PublishPacket>, Vec<u8>) {
    let mut space = [0; 97];
    poll_fn(|cx| {
        let mut passed = ReadBuf::new(&mut space);
        let is_pending = Pin::new(&mut *stream).poll_read(cx, &mut passed).map(Result::unwrap).is_pending();
        let packets = mem::take(&mut *bypass.received());
        if is_pending && packets.is_empty() { Poll::Pending } else { Poll::Ready((packets, passed.filled().to_vec())) }
    })
    .await
}

#[tokio::test]
async fn messages_are_taken_and_the_client_gets_the_rest_in_order() {
    for seed in 0..40 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut packets: Vec<_> = (0..300).map(|_| packet(&mut rng)).collect();
        packets.insert(0, connack());
        let bytes: Vec<u8> = packets.iter().flat_map(|packet| encoded(packet).to_vec()).collect();
        let (broker, connection) = duplex(rng.usize(1..5_000));
        let sender = tokio::spawn(async move {
            let mut broker = broker;
            broker.write_all(&bytes).await.unwrap();
        });
        let bypass = bypass();
        let mut stream = BypassStream::new(connection, bypass.clone());
        let mut passed = BytesMut::new();
        let mut expected = packets.iter();
        // A message that comes before a packet of the client is there before it.
        loop {
            let (received, for_client) = read(&mut stream, &bypass).await;
            if received.is_empty() && for_client.is_empty() {
                break;
            }
            for packet in received {
                assert_eq!(Some(packet), expected.next().and_then(taken), "seed {seed}");
            }
            passed.extend_from_slice(&for_client);
            while let Ok(packet) = Packet::read(&mut passed, None) {
                assert_eq!(Some(&packet), expected.next(), "seed {seed}");
            }
        }
        assert_eq!((expected.next(), passed.len()), (None, 0), "seed {seed}");
        sender.await.unwrap();
    }
}

#[test]
fn damaged_packets_are_read_as_the_client_reads_them_or_left_to_it() {
    for seed in 0..20_000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut input = encoded(&packet(&mut rng));
        for _ in 0..rng.usize(..4) {
            let at = rng.usize(..input.len());
            input[at] = rng.u8(..);
        }
        let mut copy = input.clone();
        let read_by_client = Packet::read(&mut copy, Some(MAX_PACKET));
        let n_before = input.len();
        match (take_publish(&mut input, true), read_by_client) {
            (Input::Publish(packet), Ok(by_client)) => assert_eq!(Some(packet), taken(&by_client), "seed {seed}"),
            // Properties that are no UTF-8, or a topic that is none: the server does not rely on either.
            (Input::Publish(_), Err(_)) => {}
            (Input::Incomplete, read) => {
                assert!(matches!(read, Err(mqttbytes::Error::InsufficientBytes(_))), "seed {seed}: {read:?}");
                assert_eq!(input.len(), n_before);
            }
            (Input::Other { len }, _) => assert_eq!((input.len(), len > 1), (n_before, true), "seed {seed}"),
        }
    }
}

#[test]
fn what_breaks_the_protocol_is_left_to_the_client() {
    let no_packet_id = [0x32, 6, 0, 1, b't', 0, 0, 0];
    let topic_alias = [0x30, 7, 0, 1, b't', 3, 0x23, 0, 1];
    let redelivery_with_qos_0 = [0x38, 4, 0, 1, b't', 0];
    let qos_3 = [0x36, 6, 0, 1, b't', 0, 1, 0];
    let no_topic = [0x30, 3, 0, 0, 0];
    let properties_that_end_late = [0x30, 5, 0, 1, b't', 9, 1];
    for packet in
        [&no_packet_id[..], &topic_alias, &redelivery_with_qos_0, &qos_3, &no_topic, &properties_that_end_late]
    {
        assert_eq!(take_publish(&mut BytesMut::from(packet), true), Input::Other { len: packet.len() }, "{packet:?}");
    }
    let length_of_five_bytes = [0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1];
    assert_eq!(take_publish(&mut BytesMut::from(&length_of_five_bytes[..]), true), Input::Other { len: 5 });
    let too_large = [0x30, 0xFF, 0xFF, 0xFF, 0x7F];
    assert_eq!(take_publish(&mut BytesMut::from(&too_large[..]), true), Input::Other { len: 5 + 0x0FFF_FFFF });
}

#[tokio::test]
async fn acknowledgements_stand_between_the_packets_of_the_client() {
    for seed in 0..40 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let bypass = bypass();
        let (connection, mut broker) = duplex(rng.usize(1..50));
        let mut stream = BypassStream::new(connection, bypass.clone());
        let steps: Vec<_> = (1..200).map(|n| (n, rng.bool())).collect();
        let sent = tokio::spawn({
            let steps = steps.clone();
            async move {
                for (n, is_ack) in steps {
                    if is_ack {
                        bypass.acknowledge([n], batch());
                    } else {
                        let publish = Publish::new(n.to_string(), QoS::AtMostOnce, vec![b'x'; usize::from(n)], None);
                        stream.write_all(&encoded(&Packet::Publish(publish))).await.unwrap();
                    }
                }
                stream.shutdown().await.unwrap();
            }
        });
        let mut received = BytesMut::new();
        while broker.read_buf(&mut received).await.unwrap() > 0 {}
        for (n, is_ack) in steps {
            match Packet::read(&mut received, None).unwrap() {
                Packet::PubAck(ack) => assert_eq!((ack.pkid, true), (n, is_ack), "seed {seed}"),
                Packet::Publish(publish) => {
                    assert_eq!((publish.topic, false), (Bytes::from(n.to_string()), is_ack), "seed {seed}");
                }
                other => panic!("seed {seed}: {other:?}"),
            }
        }
        assert!(received.is_empty());
        sent.await.unwrap();
    }
}

#[tokio::test]
async fn an_acknowledgement_leaves_while_the_client_waits_for_a_packet() {
    let bypass = bypass();
    let (connection, mut broker) = duplex(1_024);
    let mut stream = BypassStream::new(connection, bypass.clone());
    let client = tokio::spawn(async move { stream.read_u8().await });
    let acks = tokio::spawn(async move { bypass.acknowledge([7, 0x0102], batch()) });
    let mut received = [0; 8];
    broker.read_exact(&mut received).await.unwrap();
    assert_eq!(received, [0x40, 2, 0, 7, 0x40, 2, 1, 2]);
    acks.await.unwrap();
    drop(broker);
    assert!(client.await.unwrap().is_err(), "the connection has ended");
}

#[tokio::test]
async fn few_messages_are_taken_at_once() {
    let bypass = bypass();
    let (connection, mut broker) = duplex(1 << 20);
    let mut stream = BypassStream::new(connection, bypass.clone());
    let publish = encoded(&Packet::Publish(Publish::new("t", QoS::AtMostOnce, "x", None)));
    broker.write_all(&CONNACK).await.unwrap();
    for _ in 0..600 {
        broker.write_all(&publish).await.unwrap();
    }
    assert_eq!(read(&mut stream, &bypass).await, (Vec::new(), CONNACK.to_vec()));
    let mut n_received = Vec::new();
    for _ in 0..3 {
        n_received.push(read(&mut stream, &bypass).await.0.len());
    }
    assert_eq!(n_received, [256, 256, 88]);
}

fn message(packet_id: u16) -> BytesMut {
    let mut publish = Publish::new("t", QoS::AtLeastOnce, "x", None);
    publish.pkid = packet_id;
    encoded(&Packet::Publish(publish))
}

async fn client(bypass: &Bypass) -> (AsyncClient, EventLoop, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let url: BrokerUrl = format!("mqtt://127.0.0.1:{port}").parse().unwrap_or_else(|_| panic!("port {port}"));
    let connector = Connector { broker: url, tls: None, bypass: bypass.clone() };
    let mut options = MqttOptions::new("c", Broker::tcp("127.0.0.1", port));
    options.set_socket_connector(move |_, network| connector.clone().connect(network));
    options.set_clean_start(true).set_ack_mode(rumqttc::AckMode::Manual);
    let (client, events) = AsyncClient::builder(options).capacity(26).build();
    (client, events, listener)
}

/// Accepts a connection, reads its CONNECT, and answers.
async fn accept(listener: &TcpListener, answer: &[u8]) -> TcpStream {
    let (mut broker, _) = listener.accept().await.unwrap();
    assert!(broker.read(&mut [0; 512]).await.unwrap() > 0);
    broker.write_all(answer).await.unwrap();
    broker
}

#[tokio::test]
async fn a_confirmation_is_not_lost_while_acknowledgements_wait() {
    let bypass = bypass();
    let (client, mut events, listener) = client(&bypass).await;
    let (mut broker, connected) = tokio::join!(accept(&listener, &CONNACK), bypass.receive(&mut events));
    assert!(matches!(connected.event, Some(Ok(Event::Incoming(Packet::ConnAck(_))))), "{:?}", connected.event);
    let confirmed = client.try_publish_tracked("a", "b", PublishOptions::new(QoS::AtLeastOnce)).unwrap();
    assert!(!bypass.receive(&mut events).await.is_lost());
    // The link takes 256 messages and pauses; ten more and the PUBACK are read already.
    let mut bytes: Vec<u8> = (1..=266).flat_map(message).collect();
    bytes.extend_from_slice(&encoded(&Packet::PubAck(PubAck::new(1, None))));
    broker.write_all(&bytes).await.unwrap();
    assert_eq!(bypass.receive(&mut events).await.packets.len(), 256);
    bypass.pause_reading();
    let acknowledge = async {
        tokio::task::yield_now().await;
        bypass.acknowledge([1], batch());
    };
    let (received, ()) = tokio::join!(bypass.receive(&mut events), acknowledge);
    let mut n_received = received.packets.len();
    let mut is_confirmed = received.event.is_some();
    while !is_confirmed || n_received < 10 {
        let received = bypass.receive(&mut events).await;
        assert!(!received.is_lost(), "{:?}", received.event);
        n_received += received.packets.len();
        is_confirmed |= received.event.is_some();
    }
    confirmed.wait_async().await.unwrap();
}

#[tokio::test]
async fn a_message_before_connack_ends_the_connection() {
    let bypass = bypass();
    let (_client, mut events, listener) = client(&bypass).await;
    let message = message(1);
    let (_broker, received) = tokio::join!(accept(&listener, &message), bypass.receive(&mut events));
    assert!(received.packets.is_empty() && received.is_lost(), "{:?}", received.event);
}

/// As a TLS stream, it takes bytes into a buffer of its own, and writes them when the stream below can.
struct Buffered {
    stream: DuplexStream,
    buffer: BytesMut,
    n_blocked: usize,
}

impl tokio::io::AsyncWrite for Buffered {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.buffer.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.n_blocked > 0 {
            self.n_blocked -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let bytes = mem::take(&mut self.buffer);
        if !bytes.is_empty() {
            assert!(Pin::new(&mut self.stream).poll_write(cx, &bytes).is_ready());
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Buffered {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl connect::Stream for Buffered {
    fn pause(&mut self) {}
}

#[tokio::test]
async fn an_acknowledgement_leaves_a_stream_that_could_not_be_flushed() {
    let bypass = bypass();
    let (stream, mut broker) = duplex(1_024);
    let mut stream = BypassStream::new(Buffered { stream, buffer: BytesMut::new(), n_blocked: 2 }, bypass.clone());
    bypass.acknowledge([7], batch());
    let client = tokio::spawn(async move { stream.read_u8().await });
    let mut received = [0; 4];
    broker.read_exact(&mut received).await.unwrap();
    assert_eq!(received, [0x40, 2, 0, 7]);
    client.abort();
}
