//! Figures of the process under the names that the client libraries of Prometheus use, from Linux' `/proc`. A figure that can't be
//! read is left out.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Ticks per second in `/proc`: `USER_HZ` of Linux.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let stat = Stat::read();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        // The file has kibibytes.
        let status_bytes = |name| value(&status, name).map(|kib| kib * 1024.0);
        if let Some(seconds) = stat.as_ref().map(Stat::cpu_seconds) {
            let (name, help) = ("process_cpu_seconds", "Processor time of the server, in user and system mode.");
            let counter = ConstCounter::new(seconds);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Resident memory of the server.", status_bytes("VmRSS:")),
            ("process_virtual_memory_bytes", "Virtual memory of the server.", status_bytes("VmSize:")),
            ("process_threads", "Threads of the server.", value(&status, "Threads:")),
            ("process_open_fds", "Open file descriptors of the server.", open_files()),
            ("process_max_fds", "Most file descriptors that the server may open.", max_files()),
            (
                "process_start_time_seconds",
                "When the server started, in seconds since 1970.",
                stat.as_ref().and_then(Stat::start_time),
            ),
        ] {
            let Some(value) = value else { continue };
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

/// `/proc/self/stat` from its third field on; the second one is a name that may contain spaces.
struct Stat(Vec<f64>);

impl Stat {
    fn read() -> Option<Self> {
        let text = fs::read_to_string("/proc/self/stat").ok()?;
        let (_, fields) = text.rsplit_once(") ")?;
        // The third field is a letter.
        Some(Self(fields.split_whitespace().map(|field| field.parse().unwrap_or_default()).collect()))
    }

    /// A field by its number in proc(5).
    fn field(&self, number: usize) -> f64 {
        self.0.get(number - 3).copied().unwrap_or_default()
    }

    fn cpu_seconds(&self) -> f64 {
        (self.field(14) + self.field(15)) / TICKS_PER_SECOND
    }

    fn start_time(&self) -> Option<f64> {
        let boot = value(&fs::read_to_string("/proc/stat").ok()?, "btime")?;
        Some(boot + self.field(22) / TICKS_PER_SECOND)
    }
}

/// The first number after a name at the start of a line.
fn value(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

fn open_files() -> Option<f64> {
    let n = fs::read_dir("/proc/self/fd").ok()?.count();
    // One is that of the folder.
    u32::try_from(n).ok().map(|n| f64::from(n.saturating_sub(1)))
}

fn max_files() -> Option<f64> {
    value(&fs::read_to_string("/proc/self/limits").ok()?, "Max open files")
}
