//! A position in the order of changes: by time, then by device and version.

use chrono::{DateTime, Utc};

use super::DeviceConfig;

#[derive(Debug, Clone, Copy)]
pub(super) struct ChangeCursor {
    pub(super) at: DateTime<Utc>,
    pub(super) device: i64,
    pub(super) version: i32,
}

impl ChangeCursor {
    /// Before every change of this time.
    pub(super) fn before(at: DateTime<Utc>) -> Self {
        Self { at, device: 0, version: 0 }
    }

    pub(super) fn of(config: &DeviceConfig) -> Self {
        Self { at: config.updated_at, device: config.device.get(), version: config.version }
    }
}
