//! The sensors of the device protocol, in one table. A new sensor is a line here, a column in a migration and in
//! `sql/*.sql`, and its field in `schema.graphql`.

use serde_json::Value;

/// Calls a macro with the table: documentation, column, type and name in messages of each sensor.
macro_rules! for_each_sensor {
    ($callback:ident) => {
        $callback! {
            /// Current of the board's own sensor, in amperes.
            current: f64 = "current",
            /// Gas concentration in ppm.
            gas_ppm: f64 = "gasPpm",
            /// Whether a flame is seen.
            flame: bool = "flame",
            /// Fill level of a bin in percent.
            bin_level: f64 = "binLevel",
            /// Active power in watts.
            power_w: f64 = "powerW",
            /// Energy counter in kilowatt-hours.
            energy_kwh: f64 = "energyKwh",
            /// Mains voltage in volts.
            voltage_v: f64 = "voltageV",
            /// Mains current in amperes.
            current_a: f64 = "currentA",
            /// Mains frequency in hertz.
            frequency_hz: f64 = "frequencyHz",
            /// Power factor, 0 to 1.
            power_factor: f64 = "powerFactor",
            /// Distance in centimetres.
            distance_cm: f64 = "distanceCm",
            /// Temperature in degrees Celsius.
            temperature: f64 = "temperature",
            /// Relative humidity in percent.
            humidity: f64 = "humidity",
        }
    };
}
pub(crate) use for_each_sensor;

macro_rules! define_sensors {
    ($($(#[$doc:meta])* $field:ident: $type:ty = $name:literal,)*) => {
        /// The values of one message; a sensor that the device did not send is `None`, never 0 or false.
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct Sensors {
            $($(#[$doc])* pub $field: Option<$type>,)*
        }

        impl Sensors {
            /// A value by its name in messages. The outer `None` means that there is no such sensor.
            pub(super) fn value(&self, name: &str) -> Option<Option<Value>> {
                match name {
                    $($name => Some(self.$field.map(Value::from)),)*
                    _ => None,
                }
            }
        }
    };
}
for_each_sensor!(define_sensors);
