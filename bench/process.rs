//! Processes of the run: ended with it, and what they cost by /proc.

use std::fmt::Display;
use std::fs;
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result};

/// Length of a clock tick in /proc: 100 a second on every Linux that matters.
const TICK: Duration = Duration::from_millis(10);

/// A child that does not outlive its handle.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Asks it to end, and waits.
    pub(crate) fn terminate(&mut self) -> Result<()> {
        let asked = std::process::Command::new("kill").args(["-TERM", &self.id().to_string()]).status();
        asked.context("run kill")?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already ended: nothing to kill, and wait() only collects it.
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait()) {
            eprintln!("a process of the benchmark could not be ended: {error}");
        }
    }
}

/// Fields of /proc/PROCESS/stat after the name, the first being the state.
fn stat(process: impl Display) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    Some(rest.split(' ').map(str::to_owned).collect())
}

/// Processor time so far of a process, or of this thread if it is `thread-self`; with its collected children where
/// `children`.
pub(crate) fn cpu(process: impl Display, children: bool) -> Duration {
    let Some(fields) = stat(process) else { return Duration::ZERO };
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u32>().ok()).unwrap_or(0);
    let own = ticks(11) + ticks(12);
    TICK * (own + if children { ticks(13) + ticks(14) } else { 0 })
}

/// The process that started this one.
pub(crate) fn parent(pid: u32) -> Option<u32> {
    stat(pid)?.get(1)?.parse().ok()
}

/// Processor time of a process and all its children, living and collected.
pub(crate) fn family_cpu(pid: u32) -> Duration {
    let living = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = living.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let children = pids.filter(|child| parent(*child) == Some(pid));
    children.map(|child| cpu(child, false)).sum::<Duration>() + cpu(pid, true)
}

/// Resident memory in KiB: now and at its highest.
pub(crate) fn memory_kib(pid: u32) -> Result<(u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).context("read the server's memory")?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_matches([':', ' ', '\t']).split(' ').next()?.parse().ok()
    };
    Ok((field("VmRSS").context("VmRSS")?, field("VmHWM").context("VmHWM")?))
}
