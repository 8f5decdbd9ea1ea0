//! Readings in the graph.

use async_graphql::{Context, ID, Object, SimpleObject};
use serde_json::Value;

use super::context::ContextExt;
use super::devices::Device;
use super::error::Result;
use super::inputs::{InstantInput, IntInput};
use super::paging::{self, Page};
use super::scalars::{Instant, TimeSource};
use crate::devices::DeviceAccess;
use crate::error::Error;
use crate::telemetry::history::{HistoryCursor, HistoryPage};
use crate::telemetry::{self, SharedReading, for_each_sensor};

/// Readings of a page by default.
pub(super) const PAGE: usize = 100;

/// One telemetry message of a device.
pub(super) struct Telemetry(pub(super) SharedReading);

/// One telemetry message of a device.
#[Object(serial)]
impl Telemetry {
    /// An opaque cursor: pass the last one you received as `after` to the subscription `telemetry`.
    async fn id(&self) -> ID {
        self.0.id.into()
    }

    /// The device that sent it.
    async fn device(&self, ctx: &Context<'_>) -> Result<Device> {
        let device = ctx.loaders().devices.get(ctx.batch_scope(), ctx.viewer()?.user, self.0.device).await?;
        Ok(Device(device.ok_or(Error::NotFound("device"))?))
    }

    /// Effective time of the reading: the device's clock if it is usable, otherwise the time of receipt.
    async fn recorded_at(&self) -> Instant {
        self.0.recorded_at.into()
    }

    /// When the server received it from the broker.
    async fn received_at(&self) -> Instant {
        self.0.received_at.into()
    }

    /// The clock that gave `recordedAt`.
    async fn time_source(&self) -> TimeSource {
        self.0.time_source.into()
    }

    /// The sensors' values.
    async fn sensors(&self) -> Sensors {
        (&self.0.sensors).into()
    }

    /// Values of unknown sensors, e.g. `{"co2": 612}`.
    async fn extra(&self, ctx: &Context<'_>) -> Option<Value> {
        match &self.0.extra {
            Some(extra) => Some(ctx.json(extra).await),
            None => None,
        }
    }

    /// Firmware that sent it.
    async fn firmware_version(&self) -> Option<&str> {
        self.0.firmware_version.as_deref()
    }

    /// Strength of the radio signal in dBm.
    async fn signal_strength(&self) -> Option<f64> {
        self.0.signal_strength
    }

    /// Charge of the battery in percent.
    async fn battery_level(&self) -> Option<f64> {
        self.0.battery_level
    }
}

macro_rules! define_sensors {
    ($($(#[$doc:meta])* $field:ident: $type:ty = $name:literal,)*) => {
        /// A sensor whose value the device did not send is null, never 0 or false.
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
    first: Option<IntInput>,
    after: Option<String>,
) -> Result<Page<Telemetry>> {
    let size = paging::size(first, PAGE)?;
    let after = paging::parse_cursor(after.as_deref())?;
    let from = range.from.map(|at| at.read("from")).transpose()?;
    let to = range.to.map(|at| at.read("to")).transpose()?;
    let group = HistoryPage { from, to, after, limit: paging::limit(size) };
    let rows = ctx.loaders().history.get(ctx.batch_scope(), (device.access().user(), group), device);
    let readings = paging::load_page(ctx, size, rows).await?;
    Ok(paging::page(readings, size, after.is_some(), |reading| {
        (HistoryCursor::of(&reading).to_string(), Telemetry(reading))
    }))
}
