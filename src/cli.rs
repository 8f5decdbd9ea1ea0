//! The commands. Each boots only what it needs.

mod health;
mod mqtt;
mod operator;

use crate::app::{App, Options};
use crate::settings::{DatabaseSettings, Environment, Provisioning, Settings, SettingsError, Source};
use crate::{db, dev, graphql, logging, simulator};
use anyhow::Context;
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Smart-home backend: MQTT in, PostgreSQL, GraphQL with live subscriptions out.
#[derive(Parser)]
#[command(version, about, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Dev(dev::Args),
    /// Run the server: configured by environment, see the README.
    Serve {
        /// Leave the database's schema as it is.
        #[arg(long)]
        no_migrate: bool,
    },
    /// Bring the database's schema up to date. Needs DATABASE_URL.
    Migrate,
    /// Print the GraphQL schema.
    Schema,
    Simulate(Box<simulator::Args>),
    /// Accounts. Needs DATABASE_URL and JWT_SECRET.
    #[command(subcommand)]
    User(operator::User),
    Token(operator::Token),
    Health(health::Health),
    /// The MQTT broker's files.
    #[command(subcommand)]
    Mqtt(mqtt::Mqtt),
}

/// Runs a command to its end.
pub fn run(cli: Cli) -> anyhow::Result<()> {
    let is_dev = matches!(cli.command, Command::Dev(_));
    let quiet = |name: &str| {
        // `dev` is for reading its banner: less noise, unless asked for.
        let default = (is_dev && name == "LOG").then(|| "warn".to_owned());
        Environment.get(name).or(default)
    };
    logging::start(&quiet)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(async {
        match cli.command {
            Command::Dev(args) => dev::run(args, stop_signal()?).await,
            Command::Serve { no_migrate } => serve(no_migrate).await,
            Command::Migrate => migrate().await,
            Command::Schema => {
                println!("{}", graphql::sdl().trim_end());
                Ok(())
            }
            Command::Simulate(args) => Ok(simulator::run(*args, stop_signal()?).await?),
            Command::User(user) => user.run().await,
            Command::Token(token) => token.run().await,
            Command::Health(health) => health.run().await,
            Command::Mqtt(mqtt) => mqtt.run().await,
        }
    })
}

async fn serve(no_migrate: bool) -> anyhow::Result<()> {
    let settings = Settings::read(&Environment)?;
    if settings.mqtt.provisioning == Provisioning::Embedded {
        let problem = "`embedded` is for the broker of `smarthome dev`: use `none` or `dynsec`".to_owned();
        return Err(SettingsError { name: "MQTT_PROVISIONING".to_owned(), problem }.into());
    }
    let stop = stop_signal()?;
    let app = App::start(settings, Options { skip_migrations: no_migrate, ..Options::default() }).await?;
    let ended = tokio::select! {
        () = stop.cancelled() => Ok(()),
        () = app.ended() => Err(anyhow::anyhow!("a part of the server ended; its reason is in the log")),
    };
    app.stop().await;
    ended
}

async fn migrate() -> anyhow::Result<()> {
    let applied = db::migrate(&DatabaseSettings::read(&Environment)?).await.context("migrate the database")?;
    if applied.is_empty() {
        println!("nothing to do: the schema is up to date");
    }
    for name in applied {
        println!("applied {name}");
    }
    Ok(())
}

/// Cancelled by SIGINT, SIGTERM or SIGHUP; the second one ends the process where it stands.
fn stop_signal() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let mut signals = Vec::new();
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        signals.push(signal(kind).context("listen to signals")?);
    }
    let told = stop.clone();
    tokio::spawn(async move {
        loop {
            let waits = signals.iter_mut().map(|signal| Box::pin(signal.recv()));
            futures_util::future::select_all(waits).await;
            if told.is_cancelled() {
                // 128 + SIGINT, as shells have it.
                std::process::exit(130);
            }
            told.cancel();
        }
    });
    Ok(stop)
}
