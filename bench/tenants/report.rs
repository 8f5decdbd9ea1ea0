//! The result: two lines an attack, and what misses the aim.

use std::time::Duration;

use super::figures::{Memory, Window};
use crate::stats::percentile;

/// The aims.
const SLOWER: u32 = 3;
const CUT_WITHIN: Duration = Duration::from_secs(5);
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

const COLUMNS: usize = 17;
const HEAD: [&str; COLUMNS] = [
    "attack",
    "queries p50 / p95 ms",
    "refused",
    "sockets lost",
    "command p95 ms",
    "effect p95 ms",
    "unanswered",
    "live p95 ms",
    "sign-ins at once, in the end",
    "sessions kept",
    "cut s",
    "new device s",
    "command after return ms",
    "readings lost",
    "server MB",
    "broker MB",
    "processor % server, database, broker, load",
];

/// One attack.
pub(super) struct Case {
    pub(super) quiet: Window,
    pub(super) attacked: Window,
    /// How far the attack got.
    pub(super) notes: Vec<String>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Report {
    rows: Vec<[String; COLUMNS]>,
    remarks: Vec<String>,
}

impl Report {
    pub(super) fn add(&mut self, name: &str, what: &str, case: Case) {
        let missed = missed(&case);
        self.rows.push(row(&format!("{name} quiet"), &case.quiet));
        self.rows.push(row(&format!("{name} attacked"), &case.attacked));
        let mut remark = format!("{name}, {what}: {}", if missed.is_empty() { "held" } else { "MISSED" });
        for text in missed.into_iter().chain(case.notes) {
            remark += &format!("; {text}");
        }
        eprintln!("   {remark}");
        self.remarks.push(remark);
    }

    pub(super) fn failed(&mut self, name: &str, error: &anyhow::Error) {
        let remark = format!("{name}: not measured: {error:#}");
        eprintln!("   {remark}");
        self.remarks.push(remark);
    }

    pub(super) fn print(&self) {
        println!("\n| {} |", HEAD.join(" | "));
        println!("|{}", "---|".repeat(HEAD.len()));
        for row in &self.rows {
            println!("| {} |", row.join(" | "));
        }
        println!();
        for remark in &self.remarks {
            println!("* {remark}");
        }
    }
}

fn row(name: &str, window: &Window) -> [String; COLUMNS] {
    let (figures, devices, processor) = (&window.figures, &window.devices, &window.processor);
    let queries = [50, 95].map(|percent| millis(percentile(&figures.queries, percent))).join(" / ");
    let refused: Vec<_> = figures.refusals.iter().map(|(code, n)| format!("{n} {code}")).collect();
    let sign_ins = &figures.sign_ins;
    [
        name.to_owned(),
        queries,
        if refused.is_empty() { "0".to_owned() } else { refused.join(", ") },
        figures.sockets_lost.to_string(),
        millis(percentile(&figures.commands, 95)),
        millis(percentile(&figures.effects, 95)),
        figures.unanswered.to_string(),
        millis(percentile(&figures.live, 95)),
        format!("{}, {} of {}", sign_ins.at_once, sign_ins.in_the_end, sign_ins.wanted),
        format!("{} of {}", figures.kept, figures.refreshed),
        seconds(devices.cut),
        seconds(devices.new),
        millis(devices.returned),
        devices.readings_lost.to_string(),
        memory(window.server),
        memory(window.broker),
        [processor.server, processor.database, processor.broker, processor.load]
            .map(|used| used.to_string())
            .join(", "),
    ]
}

fn millis(time: Option<Duration>) -> String {
    time.map_or("-".to_owned(), |time| format!("{:.0}", time.as_secs_f64() * 1_000.0))
}

fn seconds(time: Option<Duration>) -> String {
    time.map_or("never".to_owned(), |time| format!("{:.1}", time.as_secs_f64()))
}

fn memory(memory: Memory) -> String {
    format!("{} -> {}, peak {}", memory.before, memory.after, memory.peak)
}

/// The aims that the attacked window misses.
fn missed(case: &Case) -> Vec<String> {
    let (quiet, attacked) = (&case.quiet.figures, &case.attacked.figures);
    let mut missed = Vec::new();
    let p95 = |latencies: &[Duration]| percentile(latencies, 95);
    if let (Some(before), Some(now)) = (p95(&quiet.queries), p95(&attacked.queries))
        && now > before * SLOWER
    {
        missed.push(format!("queries {:.1} times as slow", now.as_secs_f64() / before.as_secs_f64()));
    }
    if attacked.n_refused() > 0 {
        missed.push(format!("{} refusals", attacked.n_refused()));
    }
    if attacked.sockets_lost > 0 {
        missed.push(format!("{} sockets lost", attacked.sockets_lost));
    }
    for (what, latencies) in [("commands", &attacked.commands), ("effects", &attacked.effects)] {
        if p95(latencies).is_none_or(|p95| p95 > ANSWER_WITHIN) {
            missed.push(format!("{what} answered within {} ms", millis(p95(latencies))));
        }
    }
    if attacked.unanswered > 0 {
        missed.push(format!("{} commands unanswered", attacked.unanswered));
    }
    let sign_ins = &attacked.sign_ins;
    if sign_ins.in_the_end < sign_ins.wanted {
        missed.push(format!("{} of {} sign-ins", sign_ins.in_the_end, sign_ins.wanted));
    }
    if attacked.kept < attacked.refreshed {
        missed.push(format!("{} of {} sessions refreshed", attacked.kept, attacked.refreshed));
    }
    if case.attacked.devices.returned.is_none_or(|returned| returned > ANSWER_WITHIN) {
        missed.push(format!(
            "a device that came back heard its command after {} ms",
            millis(case.attacked.devices.returned)
        ));
    }
    if case.attacked.devices.cut.is_none_or(|cut| cut > CUT_WITHIN) {
        missed.push(format!("stolen device cut after {} s", seconds(case.attacked.devices.cut)));
    }
    if case.attacked.devices.readings_lost > 0 {
        missed.push(format!("{} readings lost", case.attacked.devices.readings_lost));
    }
    missed
}
