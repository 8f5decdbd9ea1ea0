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
use crate::telemetry::{self, SharedReading};

/// Readings of a page, unless the client says otherwise.
pub(super) const PAGE: usize = 100;

/// One telemetry message of a device.
pub(super) struct Telemetry(pub(super) SharedReading);

/// One telemetry message of a device.
#[Object(serial)]
impl Telemetry {
    /// Opaque, and a cursor: give the last one you saw as `after` to the subscription `telemetry`.
    async fn id(&self) -> ID {
        self.0.id.into()
    }

    /// The device that sent it.
    async fn device(&self, ctx: &Context<'_>) -> Result<Device> {
        let device = ctx.loaders().devices.get(ctx.batch_scope(), ctx.viewer()?.user, self.0.device).await?;
        Ok(Device(device.ok_or(Error::NotFound("device"))?))
    }

    /// Effective time of the reading: the device's where it has a usable clock, else the receipt.
    async fn recorded_at(&self) -> Instant {
        self.0.recorded_at.into()
    }

    /// When the server took it from the broker.
    async fn received_at(&self) -> Instant {
        self.0.received_at.into()
    }

    /// Whose clock gave `recordedAt`.
    async fn time_source(&self) -> TimeSource {
        self.0.time_source.into()
    }

    /// The readings.
    async fn sensors(&self) -> Sensors {
        self.0.sensors.clone().into()
    }

    /// Readings the schema does not know, e.g. `{"co2": 612}`.
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

/// A reading the device did not send is null, never 0 or false.
#[derive(SimpleObject)]
#[graphql(serial)]
pub(super) struct Sensors {
    /// Current of the board's own sensor, in amperes.
    current: Option<f64>,
    /// Gas concentration in ppm.
    gas_ppm: Option<f64>,
    /// Whether a flame is seen.
    flame: Option<bool>,
    /// Fill level of a bin in percent.
    bin_level: Option<f64>,
    /// Active power in watts.
    power_w: Option<f64>,
    /// Energy counter in kilowatt-hours.
    energy_kwh: Option<f64>,
    /// Mains voltage in volts.
    voltage_v: Option<f64>,
    /// Mains current in amperes.
    current_a: Option<f64>,
    /// Mains frequency in hertz.
    frequency_hz: Option<f64>,
    /// Power factor, 0 to 1.
    power_factor: Option<f64>,
    /// Distance in centimetres.
    distance_cm: Option<f64>,
    /// Temperature in degrees Celsius.
    temperature: Option<f64>,
    /// Relative humidity in percent.
    humidity: Option<f64>,
}

impl From<telemetry::Sensors> for Sensors {
    fn from(sensors: telemetry::Sensors) -> Self {
        Self {
            current: sensors.current,
            gas_ppm: sensors.gas_ppm,
            flame: sensors.flame,
            bin_level: sensors.bin_level,
            power_w: sensors.power_w,
            energy_kwh: sensors.energy_kwh,
            voltage_v: sensors.voltage_v,
            current_a: sensors.current_a,
            frequency_hz: sensors.frequency_hz,
            power_factor: sensors.power_factor,
            distance_cm: sensors.distance_cm,
            temperature: sensors.temperature,
            humidity: sensors.humidity,
        }
    }
}

/// A page of a device's history, newest first.
pub(super) async fn page(
    ctx: &Context<'_>,
    device: DeviceAccess,
    from: Option<InstantInput>,
    to: Option<InstantInput>,
    first: Option<IntInput>,
    after: Option<String>,
) -> Result<Page<Telemetry>> {
    let size = paging::size(first, PAGE)?;
    let after = paging::parse_cursor(after.as_deref())?;
    let from = from.map(|at| at.read("from")).transpose()?;
    let to = to.map(|at| at.read("to")).transpose()?;
    let group = HistoryPage { from, to, after, limit: paging::limit(size) };
    let rows = ctx.loaders().history.get(ctx.batch_scope(), (device.access().user(), group), device);
    let readings = paging::load_page(ctx, size, rows).await?;
    Ok(paging::page(readings, size, after.is_some(), |reading| {
        (HistoryCursor::of(&reading).to_string(), Telemetry(reading))
    }))
}
