//! The binary `smarthome`: runs the command line and turns its result into an exit status.
//!
//! Everything else is in the library, so that the server is compiled once and not again into each binary.

use std::process::ExitCode;

use clap::Parser;
use smarthome::cli;
use smarthome::settings::SettingsError;

/// The exit status for a setting that is missing or unusable, as clap has it for arguments.
const UNUSABLE: u8 = 2;

fn main() -> ExitCode {
    // Two providers are compiled in; without a choice rustls panics at its first use.
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
            // The chain on one line: what failed, then why.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
