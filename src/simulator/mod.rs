//! `smarthome simulate`: a fleet of virtual ESP32 devices over real MQTT, for the demo and the tests. It sends the
//! payloads of the device protocol and shares nothing with the server but the broker.

mod actuator;
mod answers;
mod args;
mod client;
mod command_events;
mod config;
mod delayed;
mod device;
mod device_connection;
mod faults;
mod fleet;
mod inbound;
mod outbox;
mod publish;
mod report;
mod schedule;
mod sensors;
mod session;
mod shared;
mod shares;

use std::path::PathBuf;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub use answers::Answers;
pub use args::Args;
pub use command_events::{CommandEvent, CommandListener, ReceivedCommand, SentAnswer};
pub use config::{Credentials, FleetConfig, VirtualDevice};
pub use faults::Faults;
pub use fleet::Fleet;
pub use report::Report;

/// Time between two progress lines in the log.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// The reason why a fleet can't start.
#[derive(Debug, thiserror::Error)]
pub enum SimulatorError {
    #[error("no devices: give --devices N, --device KEY or --devices-file FILE")]
    NoDevices,
    #[error("--rate: expected messages a second, more than 0")]
    Rate,
    #[error("{0:?}: a prefix, a home and a device key are 1 to 64 letters, digits, '_', '.', '-' or ':'")]
    Name(String),
    #[error("--broker: {0}")]
    Broker(String),
    #[error("{}: {problem}", path.display())]
    File { path: PathBuf, problem: String },
}

/// Runs a fleet until `stop` or its duration ends it.
pub async fn run(args: Args, stop: CancellationToken) -> Result<Report, SimulatorError> {
    let config = args.into_config()?;
    tracing::info!(
        devices = config.devices.len(),
        home = config.home,
        broker = format!("{}:{}", config.broker.host, config.broker.port),
        "simulating"
    );
    let fleet = Fleet::start(config, &stop)?;
    let mut progress = tokio::time::interval(PROGRESS_INTERVAL);
    progress.tick().await;
    loop {
        tokio::select! {
            report = fleet.finished() => return Ok(report),
            _ = progress.tick() => {
                let so_far = fleet.report();
                tracing::info!(
                    telemetry = so_far.telemetry,
                    confirmed = so_far.confirmed,
                    commands = so_far.commands,
                    answers = so_far.answers,
                    connects = so_far.connects,
                    disconnects = so_far.disconnects,
                    "simulating"
                );
            }
        }
    }
}
