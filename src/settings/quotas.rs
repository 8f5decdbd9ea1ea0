//! Settings of what one user and one device may store.

use super::{SettingsErrors, Source, all, number, small_number};

const DEFAULT_HOMES: u32 = 100;
/// Largest value: a query of all homes of a user must stay answerable.
const MAX_HOMES: u32 = 10_000;

/// MiB: sixty times what a sensor sends that reports 500 bytes every ten seconds.
const DEFAULT_DAILY_MIB: u64 = 256;
/// Largest value: 1 TiB.
const MAX_DAILY_MIB: u64 = 1 << 20;

/// What one user and one device may store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quotas {
    /// `HOMES_PER_USER`: homes that one user may own, at least 1.
    pub homes_per_user: u32,
    /// `DEVICE_DAILY_MIB`: bytes of readings that one device may store in a day; `None` for no limit.
    pub device_daily_bytes: Option<u64>,
}

impl Quotas {
    /// Without rate limits, a device may store as much as it sends.
    pub(super) fn read(source: &impl Source, rate_limits: bool) -> Result<Self, SettingsErrors> {
        let daily_mib = number(source, "DEVICE_DAILY_MIB", DEFAULT_DAILY_MIB, 0..=MAX_DAILY_MIB);
        all!(Self {
            homes_per_user: small_number(source, "HOMES_PER_USER", DEFAULT_HOMES, 1..=MAX_HOMES),
            device_daily_bytes: daily_mib.map(|mib| (mib > 0 && rate_limits).then_some(mib << 20)),
        })
    }
}
