//! The load generator: packets encoded beforehand, one connection, a window of unacknowledged
//! messages. Plain threads on plain sockets, so that it costs as little as it can.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::codec::{self, Frame, PUBACK, Packets};
use crate::messages::{DEVICES, Numbers, Stamper, payload};

/// Unacknowledged messages: past a thousand more brings nothing.
const WINDOW: u64 = 1_000;
/// Messages in one write.
const CHUNK: u64 = 64;
/// Pause between two reads of acknowledgements, which the broker writes one by one: without it the load would take as much of
/// the processor as the broker. In that time the broker takes some ten messages of the window.
const ACK_PAUSE: Duration = Duration::from_micros(200);

/// When each message of a run was given to the socket, by its number: nanoseconds after the start.
pub(crate) struct SentAt {
    start: Instant,
    first: u64,
    nanos: Vec<AtomicU64>,
}

impl SentAt {
    pub(crate) fn new(numbers: &Range<u64>) -> Arc<Self> {
        let nanos = (0..numbers.end - numbers.start).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Self { start: Instant::now(), first: numbers.start, nanos })
    }

    fn mark(&self, number: u64) {
        let nanos = u64::try_from(self.start.elapsed().as_nanos()).expect("a short run");
        self.nanos[usize::try_from(number - self.first).expect("in range")].store(nanos, Ordering::Release);
    }

    /// How long message `number` has been on its way; `None` if it is none of this run's.
    pub(crate) fn age(&self, number: u64) -> Option<Duration> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let sent = self.nanos.get(index)?.load(Ordering::Acquire);
        (sent > 0).then(|| self.start.elapsed().saturating_sub(Duration::from_nanos(sent)))
    }
}

/// One publishing connection.
pub(crate) struct Publisher {
    stream: TcpStream,
    frames: Vec<Frame>,
    stamper: Stamper,
    sent: u64,
    acks: Arc<Acks>,
    reader: Option<JoinHandle<()>>,
}

struct Acks {
    acked: AtomicU64,
    refused: AtomicU64,
    ended: AtomicBool,
    waiting: Thread,
}

impl Publisher {
    /// Publishes as these devices of this home in turn; one may be there several times. The thread that makes it is the
    /// one that uses it.
    pub(crate) fn connect(
        port: u16,
        prefix: &str,
        home: &str,
        devices: impl IntoIterator<Item = usize>,
        numbers: &Numbers,
    ) -> Result<Self> {
        let frame = |device| {
            assert!(device < DEVICES, "one of the run's devices");
            telemetry_frame(prefix, home, device)
        };
        Self::with_frames(
            port,
            &format!("bench-load-{prefix}-{home}"),
            devices.into_iter().map(frame).collect(),
            numbers,
        )
    }

    /// Publishes these messages in turn.
    pub(crate) fn with_frames(port: u16, client_id: &str, frames: Vec<Frame>, numbers: &Numbers) -> Result<Self> {
        let stream = codec::connect(port, client_id)?;
        let acks = Arc::new(Acks {
            acked: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            waiting: thread::current(),
        });
        let reader = thread::spawn({
            let (stream, acks) = (stream.try_clone()?, acks.clone());
            move || read_acks(stream, &acks)
        });
        Ok(Self { stream, frames, stamper: numbers.stamper(), sent: 0, acks, reader: Some(reader) })
    }

    /// Sends these messages as fast as the broker acknowledges; returns when the last one is.
    pub(crate) fn flood(&mut self, numbers: Range<u64>) -> Result<()> {
        let mut next = numbers.start;
        let mut buffer = Vec::with_capacity(64 * 1024);
        while next < numbers.end {
            let room = WINDOW - (self.sent - self.acks.acked.load(Ordering::Acquire));
            if room == 0 {
                self.wait(None)?;
                continue;
            }
            let until = numbers.end.min(next + room.min(CHUNK));
            buffer.clear();
            for number in next..until {
                self.encode(number, &mut buffer);
            }
            self.stream.write_all(&buffer)?;
            next = until;
        }
        self.drain()
    }

    /// Sends these messages evenly, `rate` a second; returns when the last one is acknowledged.
    pub(crate) fn paced(&mut self, numbers: Range<u64>, rate: u32, sent_at: &SentAt) -> Result<()> {
        let start = Instant::now();
        let mut buffer = Vec::with_capacity(1024);
        for (index, number) in (0u32..).zip(numbers) {
            let due = start + Duration::from_secs(1) / rate * index;
            // The pace is the load itself: nothing here waits for a state.
            while let Some(left) = due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
                self.wait(Some(left))?;
            }
            buffer.clear();
            self.encode(number, &mut buffer);
            sent_at.mark(number);
            self.stream.write_all(&buffer)?;
        }
        self.drain()
    }

    fn encode(&mut self, number: u64, buffer: &mut Vec<u8>) {
        let device = usize::try_from(number % self.frames.len() as u64).expect("an index");
        let frame = &mut self.frames[device];
        let packet_id = u16::try_from(self.sent % 65_535 + 1).expect("bounded");
        frame.bytes[frame.packet_id_at..][..2].copy_from_slice(&packet_id.to_be_bytes());
        self.stamper.stamp(&mut frame.bytes[frame.payload_at..], number);
        buffer.extend_from_slice(&frame.bytes);
        self.sent += 1;
    }

    fn drain(&self) -> Result<()> {
        while self.acks.acked.load(Ordering::Acquire) < self.sent {
            self.wait(None)?;
        }
        match self.acks.refused.load(Ordering::Relaxed) {
            0 => Ok(()),
            refused => bail!("the broker refused {refused} messages"),
        }
    }

    /// Until an acknowledgement comes, or this long.
    fn wait(&self, most: Option<Duration>) -> Result<()> {
        if self.acks.ended.load(Ordering::Acquire) {
            bail!("the broker closed the load's connection");
        }
        match most {
            Some(most) => thread::park_timeout(most),
            None => thread::park(),
        }
        Ok(())
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        // The reader ends with the connection.
        let closed = self.stream.shutdown(std::net::Shutdown::Both);
        if let (Ok(()), Some(reader)) = (closed, self.reader.take())
            && reader.join().is_err()
        {
            eprintln!("the load's reader failed");
        }
    }
}

fn read_acks(mut stream: TcpStream, acks: &Acks) {
    let (mut packets, mut bytes) = (Packets::default(), vec![0; 64 * 1024]);
    while let Ok(n @ 1..) = stream.read(&mut bytes) {
        packets.feed(&bytes[..n]);
        let (mut acked, mut refused) = (0, 0);
        while let Some((kind, body)) = packets.next() {
            if kind == PUBACK {
                acked += 1;
                refused += u64::from(body.get(2).is_some_and(|reason| *reason >= 0x80));
            }
        }
        acks.refused.fetch_add(refused, Ordering::Relaxed);
        acks.acked.fetch_add(acked, Ordering::Release);
        acks.waiting.unpark();
        thread::park_timeout(ACK_PAUSE);
    }
    acks.ended.store(true, Ordering::Release);
    acks.waiting.unpark();
}

/// What a device of a home sends.
pub(crate) fn telemetry_frame(prefix: &str, home: &str, device: usize) -> Frame {
    let topic = format!("{prefix}/{home}/{}/telemetry", crate::messages::key(device));
    Frame::new(&topic, payload(device).as_bytes())
}

/// Floods in a thread of its own.
pub(crate) fn flood_in_background(
    port: u16,
    prefix: &'static str,
    home: &'static str,
    numbers: &Arc<Numbers>,
    range: Range<u64>,
) -> JoinHandle<Result<()>> {
    let numbers = numbers.clone();
    thread::spawn(move || {
        Publisher::connect(port, prefix, home, 0..DEVICES, &numbers)?.flood(range).context("publish the load")
    })
}
