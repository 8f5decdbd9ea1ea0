//! A page of a device's history, and the cursor from which it continues.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};

use super::{Reading, SharedReading};
use crate::devices::DeviceAccess;
use crate::ids::{DeviceId, TelemetryId};

/// A position in a device's history: the readings after it are older. Opaque to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HistoryCursor {
    pub(super) recorded_at: DateTime<Utc>,
    pub(super) id: TelemetryId,
}

/// The wanted part of the past, the same for all devices of one statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HistoryPage {
    /// Readings at or after it.
    pub from: Option<DateTime<Utc>>,
    /// Readings before it.
    pub to: Option<DateTime<Utc>>,
    /// Readings older than this one.
    pub after: Option<HistoryCursor>,
    /// Readings of a device at most.
    pub limit: i64,
    /// Whether to read firmware version, signal, battery, and values of other sensors.
    pub health: bool,
}

/// A page of a device's readings that was read with the device, before anybody proved that they may be read.
#[derive(Debug)]
pub struct FetchedPage {
    pub(super) device: DeviceId,
    pub(super) page: HistoryPage,
    pub(super) readings: Arc<[SharedReading]>,
}

impl FetchedPage {
    /// The readings, if they are this page of this device.
    pub fn readings(&self, device: DeviceAccess, page: &HistoryPage) -> Option<Arc<[SharedReading]>> {
        (self.device == device.device() && self.page == *page).then(|| self.readings.clone())
    }
}

/// Before every reading.
pub(super) fn first_instant() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH
}

/// After every reading.
pub(super) fn last_instant() -> DateTime<Utc> {
    const YEAR_9999: i64 = 253_402_300_799;
    DateTime::from_timestamp(YEAR_9999, 0).expect("in range")
}

impl HistoryCursor {
    pub fn of(reading: &Reading) -> Self {
        Self { recorded_at: reading.recorded_at, id: reading.id }
    }
}

/// The text is not a cursor of this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor of this list")]
pub struct CursorError;

impl fmt::Display for HistoryCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{}", self.recorded_at.timestamp_micros(), self.id);
        f.write_str(&URL_SAFE_NO_PAD.encode(text))
    }
}

impl FromStr for HistoryCursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| CursorError)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| CursorError)?;
        let (micros, id) = text.split_once('.').ok_or(CursorError)?;
        let micros = micros.parse().map_err(|_| CursorError)?;
        let recorded_at = DateTime::from_timestamp_micros(micros).ok_or(CursorError)?;
        // PostgreSQL's own range is narrower than chrono's.
        if !(first_instant()..=last_instant()).contains(&recorded_at) {
            return Err(CursorError);
        }
        Ok(Self { recorded_at, id: id.parse().map_err(|_| CursorError)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_prints_what_it_parses() {
        let at = DateTime::from_timestamp_micros(1_790_000_000_123_456).unwrap();
        let cursor = HistoryCursor { recorded_at: at, id: TelemetryId::from_database(42) };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for wrong in ["", "42", "x.y", "!!!", "MTIz", "9223372036854775807.1"] {
            assert_eq!(wrong.parse::<HistoryCursor>(), Err(CursorError), "{wrong}");
            assert_eq!(URL_SAFE_NO_PAD.encode(wrong).parse::<HistoryCursor>(), Err(CursorError), "{wrong}");
        }
    }
}
