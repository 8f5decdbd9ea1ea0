//! The first step of a message: a usable message of a registered device, or a rejection. Pure.

use crate::devices::{Resolved, ResolvedDevice};
use crate::ids::HomeId;
use crate::mqtt::Rejection;
use crate::mqtt::payload::Content;

/// A usable message of a registered device.
#[derive(Debug, PartialEq)]
pub(super) struct Message {
    pub(super) device: ResolvedDevice,
    pub(super) content: Content,
}

/// Why a message can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rejected {
    pub(super) reason: Rejection,
    /// The home that the topic names, if it exists: its admins can read the message.
    pub(super) home: Option<HomeId>,
}

/// Classifies a message by its parsed payload and by what its topic names. What is wrong with the message itself
/// outranks an unknown home or device. `is_seen` tells whether a device has ever sent a message.
pub(super) fn classify(
    content: Result<Content, Rejection>,
    resolved: Resolved,
    retained: bool,
    is_seen: impl Fn(ResolvedDevice) -> bool,
) -> Result<Message, Rejected> {
    let home = match resolved {
        Resolved::Device(device) => Some(device.home),
        Resolved::NoDevice(home) => Some(home),
        Resolved::NoHome => None,
    };
    let reason = match (content, resolved) {
        (Err(reason), _) => reason,
        (Ok(_), Resolved::NoHome) => Rejection::UnknownHome,
        (Ok(_), Resolved::NoDevice(_)) => Rejection::UnknownDevice,
        // A retained message may be of any age. A status is of use even so, unless it is older than the device: then
        // another device left it, which had the same key.
        (Ok(content), Resolved::Device(device))
            if retained && !(matches!(content, Content::Status(_)) && is_seen(device)) =>
        {
            Rejection::Retained
        }
        (Ok(content), Resolved::Device(device)) => return Ok(Message { device, content }),
    };
    Err(Rejected { reason, home })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::{Report, StatusReport};
    use crate::ids::DeviceId;

    #[test]
    fn each_message_is_usable_or_has_one_reason() {
        let home = HomeId::from_database(1);
        let device = ResolvedDevice::online(home, DeviceId::from_database(7));
        let heartbeat = || Ok(Content::Heartbeat(Report::default()));
        let status = || {
            let (report, last_status) = (Report::default(), serde_json::json!({}));
            let (timestamp, state, n_dropped) = (None, None, 0);
            let status = StatusReport { online: true, report, last_status, timestamp, state, n_dropped };
            Ok(Content::Status(Box::new(status)))
        };
        let bad = || Err(Rejection::BadJson);
        let new_device = ResolvedDevice { seen: false, ..device };
        let (here, none, nowhere) = (Resolved::Device(device), Resolved::NoDevice(home), Resolved::NoHome);
        let new = Resolved::Device(new_device);
        for (content, resolved, retained, expected) in [
            (heartbeat(), here, false, None),
            (heartbeat(), here, true, Some((Rejection::Retained, Some(home)))),
            (status(), here, true, None),
            (status(), new, true, Some((Rejection::Retained, Some(home)))),
            (status(), new, false, None),
            (heartbeat(), none, true, Some((Rejection::UnknownDevice, Some(home)))),
            (heartbeat(), nowhere, false, Some((Rejection::UnknownHome, None))),
            (bad(), here, true, Some((Rejection::BadJson, Some(home)))),
            (bad(), none, false, Some((Rejection::BadJson, Some(home)))),
            (bad(), nowhere, false, Some((Rejection::BadJson, None))),
        ] {
            let expected = match expected {
                Some((reason, home)) => Err(Rejected { reason, home }),
                None => {
                    let device = if resolved == new { new_device } else { device };
                    Ok(Message { device, content: content.clone().unwrap() })
                }
            };
            assert_eq!(classify(content, resolved, retained, |device| device.seen), expected);
        }
    }
}
