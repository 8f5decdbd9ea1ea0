//! The devices: readings at a steady rate over connections that come and go, and answers to commands and configurations.

use std::ops::Range;

use anyhow::Result;

use super::Shared;
use super::subject::Subject;
use crate::echo::Echo;
use crate::load::{Publisher, SentAt};
use crate::messages::DEVICES;
use crate::server::{HOME, PREFIX};

/// Messages a second of all devices together.
pub(super) const RATE: u32 = 1_000;
/// How long a publishing connection lives, in seconds.
const SECONDS_A_CONNECTION: u32 = 10;

/// What the devices have sent.
pub(super) struct Sent {
    /// The numbers of the readings.
    pub(super) telemetry: Range<u64>,
}

impl Sent {
    pub(super) fn n_readings(&self) -> u64 {
        self.telemetry.end - self.telemetry.start
    }
}

/// Sends readings until the end.
pub(super) fn run(shared: &Shared<'_>) -> Result<Sent> {
    let numbers = &shared.stage.numbers;
    let mut telemetry: Option<Range<u64>> = None;
    while !shared.is_over() {
        let range = numbers.take(u64::from(RATE * SECONDS_A_CONNECTION));
        let begun = telemetry.map_or(range.start, |sent| sent.start);
        telemetry = Some(begun..range.end);
        let sent_at = SentAt::new(&range);
        Publisher::connect(shared.subject.mqtt_port, PREFIX, HOME, 0..DEVICES, numbers)?
            .paced(range, RATE, &sent_at)?;
    }
    Ok(Sent { telemetry: telemetry.unwrap_or(0..0) })
}

/// Devices that answer every command and configuration until dropped.
pub(super) fn answer(subject: &Subject) -> Result<Echo> {
    Echo::start_with_configurations(subject.mqtt_port, PREFIX, HOME)
}
