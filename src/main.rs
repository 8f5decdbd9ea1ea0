//! The binary `smarthome`: runs the command line and turns its result into an exit status.
//!
//! Everything else is in the library, so that the server is compiled once and not again into each binary.

use std::process::ExitCode;

use clap::Parser;
use smarthome::cli;
use smarthome::settings::SettingsError;

/// The exit status for a missing or unusable setting, as clap's for arguments.
const UNUSABLE: u8 = 2;

fn main() -> ExitCode {
    // Two crypto providers are compiled in; rustls panics at its first use unless one is chosen.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        eprintln!("error: another crypto provider is installed already");
        return ExitCode::FAILURE;
    }
    match cli::run(cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<SettingsError>() => {
            eprintln!("error: {error}");
            ExitCode::from(UNUSABLE)
        }
        Err(error) => {
            // The chain of causes on one line.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
