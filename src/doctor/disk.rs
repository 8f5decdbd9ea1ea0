//! The check of free space: of the folders that were named, and of those in which PostgreSQL and Mosquitto store their data
//! when they run on this machine.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::statvfs;

use super::report::Check;

const NAME: &str = "disk";
/// Less free space than both of these is a fault: a part, and MiB.
const FULL: (f64, u64) = (0.05, 4 << 10);
/// Less than both of these is a note.
const NEARLY_FULL: (f64, u64) = (0.1, 16 << 10);

/// Where a service stores its data.
#[derive(Debug)]
pub(super) enum Place {
    /// In this folder of this machine.
    Folder(PathBuf),
    /// On this machine, in a folder that nobody tells.
    ThisMachine,
    /// On another machine or in a container, or it is not known.
    Elsewhere,
}

/// A service, and the folder of its Debian package.
struct Service {
    name: &'static str,
    usual: &'static str,
}

const POSTGRESQL: Service = Service { name: "PostgreSQL", usual: "/var/lib/postgresql" };
const MOSQUITTO: Service = Service { name: "Mosquitto", usual: "/var/lib/mosquitto" };

pub(super) fn check(named: &[PathBuf], postgresql: &Place, mosquitto: &Place) -> Vec<Check> {
    let mut checks: Vec<_> = named.iter().map(|folder| of_named(folder)).collect();
    for (service, place) in [(POSTGRESQL, postgresql), (MOSQUITTO, mosquitto)] {
        match place {
            Place::Folder(folder) => checks.push(of_service(&service, folder)),
            Place::ThisMachine if named.is_empty() => checks.extend(of_usual(&service)),
            Place::ThisMachine | Place::Elsewhere => {}
        }
    }
    if checks.is_empty() {
        let detail = "no folder is known in which PostgreSQL or Mosquitto stores its data on this machine; name folders with --disk";
        checks.push(Check::not_checked(NAME, detail));
    }
    checks
}

fn of_named(folder: &Path) -> Check {
    free_space(folder, &folder.display().to_string()).unwrap_or_else(|error| {
        Check::fault(NAME, format!("{}: {error}", folder.display()), "name a folder of this machine with --disk")
    })
}

/// A folder that the service has named.
fn of_service(service: &Service, folder: &Path) -> Check {
    let subject = format!("{} ({})", folder.display(), service.name);
    free_space(folder, &subject).unwrap_or_else(|error| {
        Check::not_checked(NAME, format!("{subject}: {error}; name a folder of the same disk with --disk"))
    })
}

/// The service runs here, but may store its data in another folder.
fn of_usual(service: &Service) -> Option<Check> {
    let Service { name, usual } = service;
    let subject = format!("{usual} (if {name} stores its data there; otherwise name its folder with --disk)");
    free_space(Path::new(usual), &subject).ok()
}

/// `subject` is what the check is about.
fn free_space(folder: &Path, subject: &str) -> io::Result<Check> {
    let stat = statvfs(folder)?;
    let mib = stat.f_bavail.saturating_mul(stat.f_frsize) >> 20;
    let free = part(stat.f_bavail, stat.f_blocks);
    let detail = format!("{subject}: {mib} MiB are free, {:.0} %", free * 1e2);
    let is_below = |(part, limit): (f64, u64)| free < part && mib < limit;
    const CURE: &str = "free some, or enlarge the disk: a full disk stops PostgreSQL, and messages wait at the broker. Old months \
                        of `telemetry` can be dropped";
    Ok(if is_below(FULL) {
        Check::fault(NAME, detail, CURE)
    } else if is_below(NEARLY_FULL) {
        Check::note(NAME, detail, CURE)
    } else {
        Check::ok(NAME, detail)
    })
}

/// A file system without a limit counts as empty.
#[expect(clippy::cast_precision_loss, reason = "a part of a whole")]
fn part(available: u64, all: u64) -> f64 {
    if all == 0 { 1.0 } else { available as f64 / all as f64 }
}
