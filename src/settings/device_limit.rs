//! Settings of the rate limit of one device.

use super::{SettingsErrors, Source, all, small_number};

/// Sustained messages a second: ten times those of a sensor that is read twice a second.
const DEFAULT_PER_SECOND: u32 = 20;
/// Burst: five ingest batches, so that other devices do not wait long. It is also more than an hour of readings at
/// one a second, for devices that send what they gathered now and then.
const DEFAULT_BURST: u32 = 5_000;
/// Largest value; a higher limit would have no effect.
const MAX_PER_SECOND: u32 = 10_000;
/// Largest value; a higher limit would have no effect.
const MAX_BURST: u32 = 1_000_000;

/// The rate limit of each device at ingest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceLimit {
    /// `DEVICE_RATE_LIMIT`: sustained messages a second, at least 1.
    pub per_second: u32,
    /// `DEVICE_BURST`: messages in one burst, at least 1.
    pub burst: u32,
}

impl DeviceLimit {
    /// `DEVICE_RATE_LIMIT` and `DEVICE_BURST`; `None` when one of them is 0.
    pub(super) fn read(source: &impl Source) -> Result<Option<Self>, SettingsErrors> {
        let limit = all!(Self {
            per_second: small_number(source, "DEVICE_RATE_LIMIT", DEFAULT_PER_SECOND, 0..=MAX_PER_SECOND),
            burst: small_number(source, "DEVICE_BURST", DEFAULT_BURST, 0..=MAX_BURST),
        })?;
        Ok(Some(limit).filter(|limit| limit.per_second > 0 && limit.burst > 0))
    }
}
