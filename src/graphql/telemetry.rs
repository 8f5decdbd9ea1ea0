//! Readings.

use async_graphql::{Context, ID, Object, SimpleObject};

use super::context::ContextExt;
use super::devices::Device;
use super::error::Result;
use super::inputs::InstantInput;
use super::paging::{self, Page, PageArguments};
use super::scalars::{Instant, Json, TimeSource};
use crate::devices::DeviceAccess;
use crate::error::Error;
use crate::telemetry::history::{HistoryCursor, HistoryPage};
use crate::telemetry::{self, SharedReading, for_each_sensor};

pub(super) const PAGE: usize = 100;

pub(super) struct Telemetry(pub(super) SharedReading);

/// A reading: one telemetry message of a device.
#[Object(serial)]
impl Telemetry {
    /// The ID of the reading. Pass the last one that you received as `after` to the subscription `telemetry`.
    async fn id(&self) -> ID {
        self.0.id.into()
    }

    /// The device that sent the reading.
    async fn device(&self, ctx: &Context<'_>) -> Result<Device> {
        let device = ctx.loaders().devices.get(ctx.batch_scope(), ctx.viewer()?.user, self.0.device).await?;
        Ok(Device(device.ok_or(Error::NotFound("device"))?))
    }

    /// The time of the reading: from the clock of the device if it is usable, otherwise the time of receipt.
    async fn recorded_at(&self) -> Instant {
        self.0.recorded_at.into()
    }

    /// The time at which the server received the reading from the broker.
    async fn received_at(&self) -> Instant {
        self.0.received_at.into()
    }

    /// The clock that set `recordedAt`.
    async fn time_source(&self) -> TimeSource {
        self.0.time_source.into()
    }

    /// The sensor values.
    async fn sensors(&self) -> Sensors {
        (&self.0.sensors).into()
    }

    /// Values of other sensors, for example `{"co2": 612}`.
    async fn extra(&self, ctx: &Context<'_>) -> Option<Json> {
        match &self.0.extra {
            Some(extra) => Some(ctx.json(extra).await),
            None => None,
        }
    }

    /// The firmware version of the device when it sent the reading.
    async fn firmware_version(&self) -> Option<&str> {
        self.0.firmware_version.as_deref()
    }

    /// The radio signal strength in dBm.
    async fn signal_strength(&self) -> Option<f64> {
        self.0.signal_strength
    }

    /// The battery charge in percent.
    async fn battery_level(&self) -> Option<f64> {
        self.0.battery_level
    }
}

macro_rules! define_sensors {
    ($($(#[$doc:meta])* $field:ident: $type:ty = $name:literal,)*) => {
        /// The sensor values of one reading. A value that the device did not send is null, never 0 or false.
        #[derive(SimpleObject)]
        #[graphql(serial)]
        pub(super) struct Sensors {
            $($(#[$doc])* #[graphql(name = $name)] $field: Option<$type>,)*
        }

        impl From<&telemetry::Sensors> for Sensors {
            fn from(sensors: &telemetry::Sensors) -> Self {
                Self { $($field: sensors.$field,)* }
            }
        }
    };
}
for_each_sensor!(define_sensors);

/// Readings recorded at or after `from` and before `to`.
pub(super) struct TimeRange {
    pub(super) from: Option<InstantInput>,
    pub(super) to: Option<InstantInput>,
}

/// A page of a device's history, newest first.
pub(super) async fn page(
    ctx: &Context<'_>,
    device: DeviceAccess,
    range: TimeRange,
    arguments: PageArguments,
) -> Result<Page<Telemetry>> {
    let size = paging::size(arguments.first, PAGE)?;
    let after = paging::parse_cursor(arguments.after.as_deref())?;
    let from = range.from.map(|at| at.read("from")).transpose()?;
    let to = range.to.map(|at| at.read("to")).transpose()?;
    let group = HistoryPage { from, to, after, limit: paging::limit(size) };
    let rows = ctx.loaders().history.get(ctx.batch_scope(), (device.access().user(), group), device);
    let readings = paging::load_page(ctx, size, rows).await?;
    Ok(paging::page(readings, size, after.is_some(), |reading| {
        (HistoryCursor::of(&reading).to_string(), Telemetry(reading))
    }))
}
