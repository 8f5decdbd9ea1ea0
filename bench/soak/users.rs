//! A user's work: commands, configurations and lists, each over a connection of its own, and sign-ins.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use super::Shared;
use crate::client::ask;
use crate::echo::wait_until;

/// Time between two steps.
const STEP: Duration = Duration::from_millis(250);
/// Steps between two sign-ins: five minutes.
const STEPS_A_TOKEN: u64 = 1_200;
const COMMAND: &str = "mutation($device: ID!) { sendCommand(input: {deviceId: $device, type: \"SET_POWER\", \
                       payload: {power: true}}) { id } }";
const CONFIGURATION: &str = "mutation($device: ID!, $config: JSON!) { pushConfig(input: {deviceId: $device, \
                             config: $config}) { version } }";
const LIST: &str = "query($home: ID!) { devices(homeId: $home, first: 20) { nodes { id key online lastSeenAt \
                    latestTelemetry { recordedAt sensors { temperature powerW } } } } }";

#[derive(Default)]
pub(super) struct Tally {
    pub(super) commands: u64,
    pub(super) configurations: u64,
    pub(super) queries: u64,
    /// Steps that the server could not do in time: others use the machine too.
    pub(super) late: u64,
}

/// Codes of errors that say so. The answer to a commit may have been late.
const LATE: [&str; 2] = ["UNAVAILABLE", "OUTCOME_UNKNOWN"];
/// With more of the steps late than one in so many, something is wrong with the server.
const ONE_LATE_IN: u64 = 100;

impl Tally {
    pub(super) fn is_mostly_in_time(&self) -> bool {
        let n_steps = self.commands + self.configurations + self.queries + self.late;
        self.late * ONE_LATE_IN <= n_steps
    }
}

/// Works until the end: a command, a list, a configuration, a list, and so on.
pub(super) fn run(shared: &Shared<'_>) -> Result<Tally> {
    let (mut tally, begun, server) = (Tally::default(), Instant::now(), &shared.subject.server);
    for step in 0u64.. {
        if shared.is_over() {
            break;
        }
        wait_until(begun + STEP * u32::try_from(step)?);
        if step % STEPS_A_TOKEN == STEPS_A_TOKEN - 1 {
            let token = server.token()?;
            *shared.token.lock().expect("no panic while locked") = token;
        }
        let (token, device) = (shared.token(), &server.devices[usize::try_from(step / 4)? % server.devices.len()]);
        let (document, variables, count) = match step % 4 {
            0 => (COMMAND, json!({"device": device}), &mut tally.commands),
            2 => (CONFIGURATION, json!({"device": device, "config": {"step": step}}), &mut tally.configurations),
            _ => (LIST, json!({"home": server.home}), &mut tally.queries),
        };
        match ask(server.addr, Some(&token), document, &variables) {
            Ok(_) => *count += 1,
            Err(error) if LATE.iter().any(|code| error.to_string().contains(code)) => tally.late += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(tally)
}
