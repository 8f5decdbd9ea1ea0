//! How much one device may say.

use super::{SettingsError, Source, number};

/// Messages a second in the long run: ten times what a sensor that is read twice a second says.
const DEFAULT_PER_SECOND: u64 = 20;
/// Messages at once: five batches, so that nobody else waits for long; and more than an hour of a reading
/// a second from a device that tells all it has now and then.
const DEFAULT_BURST: u64 = 5_000;
/// Beyond this nothing is limited.
const MAX_PER_SECOND: u64 = 10_000;
/// Beyond this nothing is limited.
const MAX_BURST: u64 = 1_000_000;

/// The limit of each device at ingest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceLimit {
    /// `DEVICE_RATE_LIMIT`: messages a second in the long run, at least 1.
    pub per_second: u32,
    /// `DEVICE_BURST`: messages at once, at least 1.
    pub burst: u32,
}

impl DeviceLimit {
    /// `DEVICE_RATE_LIMIT` and `DEVICE_BURST`; `None` where one of them is 0.
    pub(super) fn read(source: &impl Source) -> Result<Option<Self>, SettingsError> {
        let per_second = number(source, "DEVICE_RATE_LIMIT", DEFAULT_PER_SECOND, 0..=MAX_PER_SECOND)?;
        let burst = number(source, "DEVICE_BURST", DEFAULT_BURST, 0..=MAX_BURST)?;
        let [per_second, burst] = [per_second, burst].map(|value| u32::try_from(value).expect("bounded above"));
        Ok((per_second > 0 && burst > 0).then_some(Self { per_second, burst }))
    }
}
