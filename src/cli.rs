//! The command line. Each command starts only what it needs.

mod account_deletion;
mod database;
mod health;
mod lists;
mod mqtt;
mod operator;
mod output;

use crate::app::{App, Options};
use crate::db::{self, MigrationError};
use crate::settings::{DatabaseSettings, Environment, Source};
use crate::{app, dev, doctor, graphql, logging, settings, simulator};
use anyhow::Context;
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Smart-home backend: receives MQTT messages, stores them in PostgreSQL, serves GraphQL with live subscriptions.
#[derive(Parser)]
#[command(version, about, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Dev(dev::Args),
    /// Run the server. It is configured by environment variables, of which DATABASE_URL, MQTT_BROKER_URL and JWT_SECRET are
    /// required. `--help` lists all of them.
    #[command(after_long_help = settings::help())]
    Serve {
        /// Do not run database migrations at the start.
        #[arg(long)]
        no_migrate: bool,
    },
    /// Run database migrations. Needs DATABASE_URL.
    Migrate {
        /// Revert all migrations after this one instead, such as 2026-11-28-000076_unheard_expiry, for a return to an older
        /// version. No server may run.
        #[arg(long, value_name = "MIGRATION")]
        revert_to: Option<String>,
    },
    /// Print the GraphQL schema.
    Schema,
    Simulate(Box<simulator::Args>),
    /// Manage accounts. Needs DATABASE_URL.
    #[command(subcommand)]
    User(operator::User),
    /// List homes. Needs DATABASE_URL.
    #[command(subcommand)]
    Home(lists::Home),
    /// List devices. Needs DATABASE_URL.
    #[command(subcommand)]
    Device(lists::Device),
    Token(operator::Token),
    Health(health::Health),
    Doctor(doctor::Doctor),
    /// Manage the files of the MQTT broker.
    #[command(subcommand)]
    Mqtt(mqtt::Mqtt),
}

/// Runs a command.
pub fn run(cli: Cli) -> anyhow::Result<()> {
    let is_dev = matches!(cli.command, Command::Dev(_));
    let with_default_level = |name: &str| {
        // `dev` prints a banner to read: only warnings below it, unless LOG is set.
        let default = (is_dev && name == "LOG").then(|| "warn".to_owned());
        Environment.get(name).or(default)
    };
    logging::start(&with_default_level)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(async {
        match cli.command {
            Command::Dev(args) => dev::run(args, stop_signal()?).await,
            Command::Serve { no_migrate } => serve(no_migrate).await,
            Command::Migrate { revert_to } => migrate(revert_to.as_deref()).await,
            Command::Schema => {
                output::print(&format!("{}\n", graphql::sdl().trim_end()))?;
                Ok(())
            }
            Command::Simulate(args) => {
                let report = simulator::run(*args, stop_signal()?).await?;
                output::print(&format!("{report}\n"))?;
                Ok(())
            }
            Command::User(user) => user.run().await,
            Command::Home(home) => home.run().await,
            Command::Device(device) => device.run().await,
            Command::Token(token) => token.run().await,
            Command::Health(health) => health.run().await,
            Command::Doctor(doctor) => {
                let findings = doctor.run(app::settings_of_serve(&Environment).err()).await;
                output::print(&findings.text)?;
                findings.result()
            }
            Command::Mqtt(mqtt) => mqtt.run().await,
        }
    })
}

async fn serve(no_migrate: bool) -> anyhow::Result<()> {
    let settings = app::settings_of_serve(&Environment)?;
    let stop = stop_signal()?;
    let app = App::start(settings, Options { skip_migrations: no_migrate, ..Options::default() }).await?;
    let ended = tokio::select! {
        () = stop.cancelled() => Ok(()),
        () = app.ended() => Err(anyhow::anyhow!("a part of the server ended unexpectedly; the log has the reason")),
    };
    app.stop().await;
    ended
}

async fn migrate(revert_to: Option<&str>) -> anyhow::Result<()> {
    let settings = DatabaseSettings::read(&Environment)?;
    let (done, verb) = match revert_to {
        Some(last_kept) => (db::revert_to(&settings, last_kept).await, "reverted"),
        None => (db::migrate(&settings).await.map(|migration| migration.applied), "applied"),
    };
    let names = match done {
        Ok(names) => names,
        Err(MigrationError::Refused(setting)) => return Err(setting.into()),
        Err(error) => return Err(error).context("migrate the database"),
    };
    if names.is_empty() {
        output::print("the database schema is up to date\n")?;
    }
    for name in names {
        output::print(&format!("{verb} {name}\n"))?;
    }
    Ok(())
}

/// Cancelled by SIGINT, SIGTERM or SIGHUP. A second signal exits at once.
fn stop_signal() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let mut signals = Vec::new();
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        signals.push(signal(kind).context("install signal handlers")?);
    }
    let received = stop.clone();
    tokio::spawn(async move {
        loop {
            let waits = signals.iter_mut().map(|signal| Box::pin(signal.recv()));
            futures_util::future::select_all(waits).await;
            if received.is_cancelled() {
                // 128 + SIGINT, the convention of shells.
                std::process::exit(130);
            }
            received.cancel();
        }
    });
    Ok(stop)
}
