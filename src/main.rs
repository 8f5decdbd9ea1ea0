//! The binary `smarthome`: runs the command line and turns its result into an exit status.
//!
//! Everything else is in the library, so that the server is compiled once and not again into each binary.

use std::process::ExitCode;

use clap::Parser;
use smarthome::cli;
use smarthome::settings::{SettingsError, SettingsErrors};

/// Returns freed memory to the system after a second (`.cargo/config.toml`), also that of threads that have become idle.
///
/// Resident MiB of a release build of `serve` when idle, 15 s after 60 sign-ins at once, and 20 s after 120 clients closed
/// that had not read 8 MiB each, before memory had a limit for each account: glibc 32, 491, 663; glibc with
/// `M_MMAP_THRESHOLD` at 1 MiB 31, 35, 115; mimalloc 2 34, 36, 730; jemalloc 35, 38, 77, and with its background thread,
/// as here, 35, 36, 40.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

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
        Err(error) => match error.downcast::<SettingsErrors>().or_else(|error| error.downcast().map(only)) {
            Ok(SettingsErrors(errors)) => {
                for error in errors {
                    eprintln!("error: {error}");
                }
                ExitCode::from(UNUSABLE)
            }
            Err(error) => {
                // The chain of causes on one line.
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

fn only(error: SettingsError) -> SettingsErrors {
    error.into()
}
