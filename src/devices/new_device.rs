//! Devices to register and changes of devices, validated.

use std::collections::HashSet;

use super::{Device, DeviceType, Mac, MqttCredentials};
use crate::error::Error;
use crate::ids::RoomId;
use crate::validation;

/// Devices registered in one call.
pub const MAX_DEVICES_PER_CALL: usize = 1_000;

/// A device to register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDevice {
    /// The name in its topics, unique in its home.
    pub key: String,
    /// The name that people see.
    pub name: String,
    pub kind: DeviceType,
    /// Another name for it in topics, unique in its home.
    pub mac: Option<Mac>,
    pub room: Option<RoomId>,
}

/// A change of a device: `None` keeps a field, `Some(None)` clears it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceChange {
    pub name: Option<String>,
    pub kind: Option<DeviceType>,
    pub mac: Option<Option<Mac>>,
    pub room: Option<Option<RoomId>>,
}

#[derive(Debug, Clone)]
pub struct RegisteredDevice {
    pub device: Device,
    /// Shown once: only digests are stored.
    pub credentials: MqttCredentials,
}

/// Normalizes names and keys, and refuses a batch in which two devices have the same key or MAC address.
pub(super) fn validated(mut new: Vec<NewDevice>) -> Result<Vec<NewDevice>, Error> {
    if !(1..=MAX_DEVICES_PER_CALL).contains(&new.len()) {
        return Err(Error::bad_input("devices", format!("devices must have 1 to {MAX_DEVICES_PER_CALL} entries")));
    }
    let (mut keys, mut macs) = (HashSet::new(), HashSet::new());
    for device in &mut new {
        device.key = validation::key("key", &device.key)?;
        device.name = validation::name("name", &device.name)?;
        if !keys.insert(device.key.clone()) {
            return Err(Error::Conflict(format!("key {:?} is given twice", device.key)));
        }
        if let Some(mac) = &device.mac
            && !macs.insert(mac.clone())
        {
            return Err(Error::Conflict(format!("macAddress {mac} is given twice")));
        }
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(key: &str, mac: Option<&str>) -> NewDevice {
        let mac = mac.map(|mac| mac.parse().unwrap());
        NewDevice { key: key.to_owned(), name: " Lamp ".to_owned(), kind: DeviceType::Light, mac, room: None }
    }

    #[test]
    fn a_batch_is_validated_before_it_reaches_the_database() {
        assert_eq!(validated(vec![device("a", None)]).unwrap()[0].name, "Lamp");
        let mac = Some("24:6F:28:AA:BB:CC");
        for (wrong, code) in [
            (vec![], "BAD_USER_INPUT"),
            (vec![device("42", None)], "BAD_USER_INPUT"),
            (vec![device("a", None), device("a", None)], "CONFLICT"),
            (vec![device("a", mac), device("b", mac)], "CONFLICT"),
            ((0..1001).map(|n| device(&format!("d{n}"), None)).collect(), "BAD_USER_INPUT"),
        ] {
            assert_eq!(validated(wrong).unwrap_err().code(), code);
        }
    }
}
