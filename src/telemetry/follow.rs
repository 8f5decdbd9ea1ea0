//! Following a home's readings, live.

use futures_util::stream::{Stream, unfold};

use super::{ReadingHub, SharedReading};
use crate::error::Error;
use crate::hub::Heard;
use crate::ids::{DeviceId, HomeId, TelemetryId};

/// Opens streams of readings.
#[derive(Clone)]
pub struct Follow {
    hub: ReadingHub,
}

impl Follow {
    /// Follows through this hub.
    pub fn new(hub: ReadingHub) -> Self {
        Self { hub }
    }

    /// The readings of a home, or of one device of it, newer than `after` if that is given.
    pub fn stream(
        &self,
        home: HomeId,
        device: Option<DeviceId>,
        after: Option<TelemetryId>,
    ) -> impl Stream<Item = Result<SharedReading, Error>> + Send + 'static {
        unfold(self.hub.listen(home), move |mut listener| async move {
            loop {
                match listener.recv().await {
                    Heard::Event(reading) => {
                        let wanted = device.is_none_or(|device| device == reading.device);
                        if wanted && after.is_none_or(|after| reading.id > after) {
                            return Some((Ok(reading), listener));
                        }
                    }
                    Heard::Lagged(_) => {}
                    Heard::Closed => return None,
                }
            }
        })
    }
}
