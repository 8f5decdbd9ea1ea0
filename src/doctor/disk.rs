//! The check of free space: of the folders that were named, and of those in which PostgreSQL and Mosquitto store their data
//! when they run on this machine.

use std::path::{Path, PathBuf};

use rustix::fs::statvfs;

use super::report::Check;

const NAME: &str = "disk";
/// Folders of the Debian packages.
const USUAL: [&str; 2] = ["/var/lib/postgresql", "/var/lib/mosquitto"];
/// Less free space than both of these is a fault: a part, and MiB.
const FULL: (f64, u64) = (0.05, 4 << 10);
/// Less than both of these is a note.
const NEARLY_FULL: (f64, u64) = (0.1, 16 << 10);

pub(super) fn check(named: &[PathBuf]) -> Vec<Check> {
    let usual = USUAL.into_iter().map(PathBuf::from).filter(|folder| folder.exists());
    let checks: Vec<_> = named.iter().cloned().chain(usual).map(|folder| of(&folder)).collect();
    if checks.is_empty() {
        let detail = "neither PostgreSQL nor Mosquitto stores its data on this machine, as far as can be seen; name folders with --disk";
        return vec![Check::not_checked(NAME, detail)];
    }
    checks
}

fn of(folder: &Path) -> Check {
    let stat = match statvfs(folder) {
        Ok(stat) => stat,
        Err(error) => {
            return Check::fault(
                NAME,
                format!("{}: {error}", folder.display()),
                "name a folder of this machine with --disk",
            );
        }
    };
    let mib = stat.f_bavail.saturating_mul(stat.f_frsize) >> 20;
    let free = part(stat.f_bavail, stat.f_blocks);
    let detail = format!("{}: {mib} MiB are free, {:.0} %", folder.display(), free * 1e2);
    let is_below = |(part, limit): (f64, u64)| free < part && mib < limit;
    const CURE: &str = "free some, or enlarge the disk: a full disk stops PostgreSQL, and messages wait at the broker. Old months \
                        of `telemetry` can be dropped";
    if is_below(FULL) {
        Check::fault(NAME, detail, CURE)
    } else if is_below(NEARLY_FULL) {
        Check::note(NAME, detail, CURE)
    } else {
        Check::ok(NAME, detail)
    }
}

/// A file system without a limit counts as empty.
#[expect(clippy::cast_precision_loss, reason = "a part of a whole")]
fn part(available: u64, all: u64) -> f64 {
    if all == 0 { 1.0 } else { available as f64 / all as f64 }
}
