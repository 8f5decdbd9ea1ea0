//! Readings.

use std::borrow::Cow;
use std::collections::HashMap;

use async_graphql::parser::types::{Field, SelectionSet};
use async_graphql::{Context, ID, InputType, Name, Object, OutputType, Positioned, SimpleObject, Value};

use super::context::ContextExt;
use super::devices::{Device, WITHOUT_STATE};
use super::error::Result;
use super::inputs::InstantInput;
use super::paging::{self, Cursor, Page, PageArguments};
use super::rows::{Direct, JsonWriter, Row, Write, leaf, nested};
use super::scalars::{Instant, Json, TimeSource};
use super::selected_fields::{all_fields, has_only};
use crate::devices::DeviceAccess;
use crate::telemetry::history::{FetchedPage, HistoryCursor, HistoryPage};
use crate::telemetry::{self, SharedReading, for_each_sensor};

pub(super) const PAGE: usize = 100;

#[derive(Clone)]
pub(super) struct Telemetry {
    reading: SharedReading,
    /// The device, if it is known already.
    device: Option<Device>,
}

impl Telemetry {
    pub(super) fn new(reading: SharedReading) -> Self {
        Self { reading, device: None }
    }

    pub(super) fn with_device(reading: SharedReading, device: Option<Device>) -> Self {
        Self { reading, device }
    }
}

/// A reading: one telemetry message of a device.
#[Object(serial)]
impl Telemetry {
    /// The ID of the reading. Pass the last one that you received as `afterId` to `homeTelemetry` or `deviceTelemetry`.
    async fn id(&self) -> ID {
        self.reading.id.into()
    }

    /// The device that sent the reading.
    async fn device(&self, ctx: &Context<'_>) -> Result<Device> {
        if let Some(device) = &self.device {
            return Ok(device.clone());
        }
        Device::load(ctx, self.reading.device).await
    }

    /// The time of the reading: from the clock of the device if it is usable, otherwise the time of receipt.
    async fn recorded_at(&self) -> Instant {
        self.reading.recorded_at.into()
    }

    /// The time at which the server received the reading from the broker.
    async fn received_at(&self) -> Instant {
        self.reading.received_at.into()
    }

    /// The clock that set `recordedAt`.
    async fn time_source(&self) -> TimeSource {
        self.reading.time_source.into()
    }

    /// The sensor values.
    async fn sensors(&self) -> Sensors {
        (&self.reading.sensors).into()
    }

    /// Values of other sensors, for example `{"co2": 612}`.
    async fn extra(&self, ctx: &Context<'_>) -> Option<Json> {
        match &self.reading.extra {
            Some(extra) => Some(ctx.json(extra).await),
            None => None,
        }
    }

    /// The firmware version of the device when it sent the reading.
    async fn firmware_version(&self) -> Option<&str> {
        self.reading.firmware_version.as_deref()
    }

    /// The radio signal strength in dBm.
    async fn signal_strength(&self) -> Option<f64> {
        self.reading.signal_strength
    }

    /// The battery charge in percent.
    async fn battery_level(&self) -> Option<f64> {
        self.reading.battery_level
    }
}

impl Row for Telemetry {
    fn type_name() -> Cow<'static, str> {
        <Self as OutputType>::type_name()
    }

    fn writer(name: &str, below: &SelectionSet) -> Option<Write<Self>> {
        match name {
            "id" => leaf(|row: &Self, out| out.id(row.reading.id)),
            "device" => nested(below, |row: &Self| row.device.as_ref().map(Some)),
            "recordedAt" => leaf(|row: &Self, out| out.instant(row.reading.recorded_at)),
            "receivedAt" => leaf(|row: &Self, out| out.instant(row.reading.received_at)),
            "timeSource" => leaf(|row: &Self, out| out.enumeration(TimeSource::from(row.reading.time_source))),
            "sensors" => nested(below, |row: &Self| Some(Some(&row.reading.sensors))),
            "extra" => leaf(|row: &Self, out| out.optional(row.reading.extra.as_ref(), JsonWriter::json)),
            "firmwareVersion" => leaf(|row: &Self, out| out.value(&row.reading.firmware_version)),
            "signalStrength" => leaf(|row: &Self, out| out.value(&row.reading.signal_strength)),
            "batteryLevel" => leaf(|row: &Self, out| out.value(&row.reading.battery_level)),
            _ => None,
        }
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

        impl Row for telemetry::Sensors {
            fn type_name() -> Cow<'static, str> {
                <Sensors as OutputType>::type_name()
            }

            fn writer(name: &str, _: &SelectionSet) -> Option<Write<Self>> {
                match name {
                    $($name => leaf(|sensors: &Self, out| out.value(&sensors.$field)),)*
                    _ => None,
                }
            }
        }
    };
}
for_each_sensor!(define_sensors);

/// The arguments of a page of readings: those recorded at or after `from` and before `to`.
pub(super) struct PageOfReadings {
    pub(super) from: Option<InstantInput>,
    pub(super) to: Option<InstantInput>,
    pub(super) arguments: PageArguments,
}

impl PageOfReadings {
    /// The arguments of a field of a normalised operation, as the resolver gets them.
    fn of(field: &Field) -> Option<Self> {
        let given = field.arguments.iter().map(|(name, value)| {
            let value = value.node.clone().into_const()?;
            Some((name.node.clone(), value))
        });
        let mut given = given.collect::<Option<HashMap<Name, Value>>>()?;
        let mut value = |name: &str| given.remove(name);
        // Null and no `first` are the default size.
        let first = InputType::parse(value("first")).ok()?;
        let arguments = PageArguments { first, after: InputType::parse(value("after")).ok()? };
        let (from, to) = (InputType::parse(value("from")).ok()?, InputType::parse(value("to")).ok()?);
        Some(Self { from, to, arguments })
    }

    /// The size of the page, and what is read for it.
    fn parse(self, field: &Field) -> Result<(usize, HistoryPage)> {
        let size = paging::size(self.arguments.first, PAGE)?;
        let after = paging::parse_cursor(self.arguments.after.as_deref())?;
        let from = self.from.map(|at| at.read("from")).transpose()?;
        let to = self.to.map(|at| at.read("to")).transpose()?;
        Ok((size, HistoryPage { from, to, after, limit: paging::limit(size), health: page_reads_health(field) }))
    }
}

/// A page of a device's history, newest first. `fetched` may be that page.
pub(super) async fn page(
    ctx: &Context<'_>,
    device: DeviceAccess,
    page: PageOfReadings,
    fetched: Option<&FetchedPage>,
) -> Result<Direct<Page<Telemetry>>> {
    let (size, page) = page.parse(&ctx.item.node)?;
    let rows = async {
        match fetched.and_then(|fetched| fetched.readings(device, &page)) {
            Some(readings) => Ok(Some(readings)),
            None => ctx.loaders().history.get(ctx.batch_scope(), (device.access().user(), page), device).await,
        }
    };
    let readings = paging::load_page(ctx, size, rows).await?;
    Ok(Direct(paging::page(readings, size, page.after.is_some(), |reading| {
        (Cursor::Reading(HistoryCursor::of(&reading)), Telemetry::new(reading))
    })))
}

/// The page of readings in the selection below a device, if it is the only one, its arguments are valid, and nothing else
/// there reads the state of the device.
pub(super) fn only_page(device: &Positioned<SelectionSet>) -> Option<HistoryPage> {
    let mut page = None;
    let is_only = all_fields(device, |field| {
        if field.name.node == "telemetry" {
            return page.replace(field).is_none();
        }
        WITHOUT_STATE.contains(&field.name.node.as_str())
    });
    let page = page.filter(|_| is_only)?;
    let (_, page) = PageOfReadings::of(page)?.parse(page).ok()?;
    Some(page)
}

/// Fields of a reading that do not need its firmware version, signal, battery and values of other sensors.
const WITHOUT_HEALTH: [&str; 7] = ["__typename", "id", "device", "recordedAt", "receivedAt", "timeSource", "sensors"];

/// Whether the selection below a field whose type is `Telemetry` needs more than the other fields have.
pub(super) fn reads_health(readings: &Field) -> bool {
    !has_only(&readings.selection_set, &WITHOUT_HEALTH)
}

/// The same for a page of readings.
fn page_reads_health(page: &Field) -> bool {
    !all_fields(&page.selection_set, |field| match field.name.node.as_str() {
        "nodes" => !reads_health(field),
        "edges" => all_fields(&field.selection_set, |edge| edge.name.node != "node" || !reads_health(edge)),
        _ => true,
    })
}
