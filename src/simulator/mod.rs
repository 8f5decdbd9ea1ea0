//! `smarthome simulate`: a fleet of virtual ESP32 devices over real MQTT, for the demo, the tests
//! and whoever wants to see the server work. Speaks the seed's payloads to the letter and knows
//! nothing of the server: all it shares with it is the broker.

mod actuator;
mod answers;
mod args;
mod config;
mod connection;
mod device;
mod faults;
mod fleet;
mod hearing;
mod link;
mod outbox;
mod receipts;
mod report;
mod schedule;
mod sensors;
mod session;
mod speech;
#[cfg(test)]
mod tests;
mod waiting;

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

pub use answers::Answers;
pub use args::Args;
pub use config::{Credentials, FleetConfig, Pace, Qos, Timekeeping, VirtualDevice};
pub use faults::Faults;
pub use fleet::Fleet;
pub use receipts::{Receipt, Receipts, Said};
pub use report::{Ledger, Report};

/// Why a fleet could not start.
#[derive(Debug, thiserror::Error)]
pub enum SimulatorError {
    /// Nothing to simulate.
    #[error("no devices: give --devices N, --device KEY or --devices-file FILE")]
    NoDevices,
    /// A rate of nothing.
    #[error("--rate: expected messages a second, more than 0 (or --flood)")]
    Rate,
    /// A broker lets one user in per connection.
    #[error("--connections: devices with credentials of their own need a connection each")]
    SharedConnection,
    /// It can't stand in a topic.
    #[error("{0:?}: a prefix, a home and a device key are 1 to 64 letters, digits, '_', '.', '-' or ':'")]
    Name(String),
    /// The broker's address can't be used.
    #[error("--broker: {0}")]
    Broker(String),
    /// A file can't be used.
    #[error("{}: {problem}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

/// Runs a fleet until `stop`, its duration or its number of messages ends it, and prints what it did.
pub async fn run(args: Args, stop: CancellationToken) -> Result<(), SimulatorError> {
    let config = args.into_config()?;
    tracing::info!(
        devices = config.devices.len(),
        home = config.home,
        broker = format!("{}:{}", config.broker.host, config.broker.port),
        "simulating"
    );
    let fleet = Fleet::start(config, &stop)?;
    let mut progress = tokio::time::interval(args::PROGRESS);
    progress.tick().await;
    let report = loop {
        tokio::select! {
            report = fleet.finished() => break report,
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
    };
    println!("{report}");
    Ok(())
}
