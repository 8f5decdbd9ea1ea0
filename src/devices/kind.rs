//! What sort of thing a device is.

use std::str::FromStr;

/// The kinds of devices we know by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeviceType {
    /// A lamp.
    Light,
    /// A fan.
    Fan,
    /// A bell or chime.
    Bell,
    /// A door, lock or gate.
    Door,
    /// A switched socket.
    Plug,
    /// A thermostat.
    Thermostat,
    /// A camera.
    Camera,
    /// A board with sensors.
    SensorNode,
    /// A power meter.
    PowerMeter,
    /// Anything else.
    Other,
}

/// The text is no device type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a device type")]
pub struct DeviceTypeError;

impl DeviceType {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Light,
        Self::Fan,
        Self::Bell,
        Self::Door,
        Self::Plug,
        Self::Thermostat,
        Self::Camera,
        Self::SensorNode,
        Self::PowerMeter,
        Self::Other,
    ];

    /// As the database and the API spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Light => "LIGHT",
            Self::Fan => "FAN",
            Self::Bell => "BELL",
            Self::Door => "DOOR",
            Self::Plug => "PLUG",
            Self::Thermostat => "THERMOSTAT",
            Self::Camera => "CAMERA",
            Self::SensorNode => "SENSOR_NODE",
            Self::PowerMeter => "POWER_METER",
            Self::Other => "OTHER",
        }
    }
}

impl FromStr for DeviceType {
    type Err = DeviceTypeError;

    fn from_str(text: &str) -> Result<Self, DeviceTypeError> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(DeviceTypeError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_prints_parses() {
        for kind in DeviceType::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
        assert_eq!("light".parse::<DeviceType>(), Err(DeviceTypeError));
    }
}
