//! Types of devices.

use crate::text_enum::text_enum;

text_enum! {
    /// The type of a device, as the database and the API spell it.
    pub enum DeviceType {
        Light = "LIGHT",
        Fan = "FAN",
        /// A bell or chime.
        Bell = "BELL",
        /// A door, lock or gate.
        Door = "DOOR",
        /// A switched socket.
        Plug = "PLUG",
        Thermostat = "THERMOSTAT",
        Camera = "CAMERA",
        /// A board with sensors.
        SensorNode = "SENSOR_NODE",
        PowerMeter = "POWER_METER",
        Other = "OTHER",
    }
}
