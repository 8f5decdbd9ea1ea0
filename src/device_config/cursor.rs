//! A position in the order of changes of a home's configurations.

use chrono::{DateTime, Utc};

use super::DeviceConfig;

/// Ordered by the time of the change, then by device and version.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChangeCursor {
    pub(super) at: DateTime<Utc>,
    pub(super) device: i64,
    pub(super) version: i32,
}

impl ChangeCursor {
    /// Before every change at this time or later.
    pub(super) fn before(at: DateTime<Utc>) -> Self {
        Self { at, device: 0, version: 0 }
    }

    pub(super) fn of(config: &DeviceConfig) -> Self {
        Self { at: config.updated_at, device: config.device.get(), version: config.version }
    }
}
