//! A soak: hours of an ordinary load, in which memory must stay flat and no message may go uncounted. It measures `serve`
//! with the run's own broker and database, or `dev`, which brings both.

mod devices;
mod memory;
mod sockets;
mod subject;
mod users;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::counters::Counters;
use crate::echo::wait_until;
use crate::process;
use crate::stage::Stage;
use crate::stats::thousands_of;
use crate::table::Table;
use memory::Samples;
use subject::Subject;

/// What is asked for.
pub(crate) struct Options {
    pub(crate) minutes: u32,
    /// `smarthome dev` instead of `serve`.
    pub(crate) dev: bool,
}

/// Time between two looks at the memory.
const SAMPLE_EVERY: Duration = Duration::from_secs(5);
/// Samples between two lines of progress: a minute.
const SAMPLES_A_LINE: usize = 12;
/// Until everything sent must be counted, after the last message.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the parts of the load share.
struct Shared<'a> {
    stage: &'a Stage,
    subject: &'a Subject,
    /// A user's access token, which is renewed.
    token: Mutex<String>,
    /// Set when the time is over or a part has failed.
    stop: AtomicBool,
}

impl Shared<'_> {
    fn token(&self) -> String {
        self.token.lock().expect("no panic while locked").clone()
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Runs a part of the load, which all others end with if it fails.
    fn part<T>(&self, name: &'static str, run: impl FnOnce() -> Result<T>) -> Result<T> {
        let result = run().context(name);
        if let Err(error) = &result {
            eprintln!("{error:#}");
            self.stop.store(true, Ordering::Relaxed);
        }
        result
    }
}

pub(crate) fn measure(stage: &Stage, table: &mut Table, options: &Options) -> Result<()> {
    let subject = Subject::start(stage, options.dev)?;
    let token = Mutex::new(subject.server.token()?);
    let shared = Shared { stage, subject: &subject, token, stop: AtomicBool::new(false) };
    let echo = devices::answer(&subject)?;
    let before = Counters::of(subject.server.addr)?;
    let (samples, sent, users, sockets) = thread::scope(|scope| {
        let load = scope.spawn(|| shared.part("the devices", || devices::run(&shared)));
        let users = scope.spawn(|| shared.part("the users", || users::run(&shared)));
        let sockets = scope.spawn(|| shared.part("the sockets", || sockets::run(&shared)));
        let samples = shared.part("the memory", || sample(&shared, options.minutes));
        shared.stop.store(true, Ordering::Relaxed);
        let ended = "a part of the load does not panic";
        (samples, load.join().expect(ended), users.join().expect(ended), sockets.join().expect(ended))
    });
    let (samples, sent, users, sockets) = (samples?, sent?, users?, sockets?);

    let what = format!("soak of `{}`, {} minutes at {} messages/s", subject.name, options.minutes, devices::RATE);
    samples.rows(table, &what);
    let load = format!(
        "{} sockets, {} of them unread; {} events; {} commands, {} configurations, {} queries; {} steps of the user not in time",
        sockets.opened, sockets.unread, sockets.events, users.commands, users.configurations, users.queries, users.late
    );
    table.row("the same: beside the messages", &load, "", None, "");
    ensure!(users.is_mostly_in_time(), "too many steps of the user were not in time: {load}");
    let law = await_law(&subject, &before, || sent.n_readings() + echo.answered())?;
    table.row("the same: received = stored + duplicate + rejected", &law, "", None, "exact");
    let rows = subject.count_rows(stage, &sent.telemetry)?;
    let measured = format!("{} of {}", thousands_of(rows), thousands_of(sent.n_readings()));
    table.row("the same: rows of the readings sent", &measured, "", None, "all");
    ensure!(rows == sent.n_readings(), "{measured} readings are stored");
    Ok(())
}

/// Looks at the server's memory until the time is over.
fn sample(shared: &Shared<'_>, minutes: u32) -> Result<Samples> {
    let pid = shared.subject.server.process.id();
    let begun = Instant::now();
    let mut samples = Samples::default();
    for index in 0.. {
        let due = SAMPLE_EVERY * index;
        if due > Duration::from_secs(60) * minutes || shared.is_over() {
            break;
        }
        wait_until(begun + due);
        let (now, highest) = process::memory_kib(pid)?;
        samples.add(begun.elapsed(), now, highest);
        if (index as usize).is_multiple_of(SAMPLES_A_LINE) {
            let counters = Counters::of(shared.subject.server.addr)?;
            eprintln!("   minute {}: {}; {counters}", index as usize / SAMPLES_A_LINE, memory::mib(now));
        }
    }
    Ok(samples)
}

/// Until everything sent is counted: the counters' sum as text.
fn await_law(subject: &Subject, before: &Counters, sent: impl Fn() -> u64) -> Result<String> {
    let begun = Instant::now();
    loop {
        let counted = Counters::of(subject.server.addr)?.since(before);
        if counted.received == sent() && counted.is_conserved() {
            return Ok(format!("{counted}; sent {}", thousands_of(sent())));
        }
        ensure!(begun.elapsed() < PATIENCE, "the counters do not add up: {counted}; sent {}", sent());
        wait_until(Instant::now() + Duration::from_millis(100));
    }
}
