//! What an operator does with the database alone: accounts and tokens.

use std::io::{self, IsTerminal, Read};
use std::path::PathBuf;
use std::time::Duration;

use crate::auth::Tokens;
use crate::clock::Clock;
use crate::db;
use crate::revocation::Revocations;
use crate::settings::{AuthSettings, DatabaseSettings, Environment, Secret};
use crate::throttle::Throttle;
use crate::users::Users;
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use prometheus_client::metrics::counter::Counter;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// Longer input is no password.
const MAX_INPUT_BYTES: u64 = 4096;

/// Accounts.
#[derive(Subcommand)]
pub(crate) enum User {
    /// Make an account, whatever REGISTRATION says.
    Create {
        /// The login name.
        #[arg(long)]
        email: String,
        /// What to call them.
        #[arg(long)]
        name: String,
        #[command(flatten)]
        password: Password,
    },
    /// Set a password and end all sessions of the account.
    SetPassword {
        /// The login name.
        #[arg(long)]
        email: String,
        #[command(flatten)]
        password: Password,
    },
    /// Say who somebody at an issuer of JWT_TRUSTED_ISSUERS is: their tokens then stand for this account.
    Link {
        /// The account's login name.
        #[arg(long)]
        email: String,
        /// `iss` of their tokens.
        #[arg(long)]
        issuer: String,
        /// `sub` of their tokens.
        #[arg(long)]
        subject: String,
    },
    /// Take a link back and end what was opened by it; their e-mail links them no more.
    Unlink {
        /// `iss` of their tokens.
        #[arg(long)]
        issuer: String,
        /// `sub` of their tokens.
        #[arg(long)]
        subject: String,
    },
}

/// Print an access token for an account. Needs DATABASE_URL and the JWT_* variables of the server.
#[derive(Args)]
pub(crate) struct Token {
    /// The account's login name.
    #[arg(long)]
    email: String,
    /// How long it is valid.
    #[arg(long, value_name = "MINUTES", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=525_600))]
    minutes: u64,
}

/// Where a password comes from: never from the command line, which other users can see.
#[derive(Args)]
pub(crate) struct Password {
    /// File that holds the password [default: asked for, or the standard input].
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl User {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let users = users()?;
        match self {
            Self::Create { email, name, password } => {
                let user = users.create(&email, password.read()?.reveal(), &name).await?;
                println!("created user {} <{}>", user.id, user.email);
            }
            Self::SetPassword { email, password } => {
                users.set_password(&email, password.read()?.reveal()).await?;
                println!("set the password of {email}; all sessions are ended");
            }
            Self::Link { email, issuer, subject } => {
                users.link(&email, &issuer, &subject).await?;
                println!("{subject} of {issuer} is {email} from now on");
            }
            Self::Unlink { issuer, subject } => {
                users.unlink(&issuer, &subject).await?;
                println!("{subject} of {issuer} is nobody here any more");
            }
        }
        Ok(())
    }
}

impl Token {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let (token, expires_at) = users()?.token_for(&self.email, Duration::from_secs(self.minutes * 60)).await?;
        eprintln!("valid until {}", expires_at.to_rfc3339());
        println!("{token}");
        Ok(())
    }
}

fn users() -> anyhow::Result<Users> {
    let auth = AuthSettings::read(&Environment)?;
    let database = DatabaseSettings::read(&Environment)?;
    let clock = Clock::system();
    let pool = db::pool(&database, Counter::default());
    let (tokens, revocations) = (Tokens::from_settings(&auth, clock.clone())?, Revocations::new(clock.clone()));
    Ok(Users::new(pool, tokens, clock, revocations, Throttle::new(false), auth.registration_open))
}

impl Password {
    fn read(&self) -> anyhow::Result<Secret> {
        let text = match &self.password_file {
            Some(path) => std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?,
            None if io::stdin().is_terminal() => ask()?,
            None => {
                let mut text = String::new();
                io::stdin().take(MAX_INPUT_BYTES).read_to_string(&mut text).context("read the password")?;
                text
            }
        };
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            bail!("no password: type one, pipe one in, or name a file with --password-file");
        }
        Ok(Secret::new(text))
    }
}

/// Asks on the terminal, which does not show what is typed; where it can't be kept from that, not at all.
fn ask() -> anyhow::Result<String> {
    let _echo = NoEcho::start()
        .context("this terminal shows what is typed: pipe the password in, or name a file with --password-file")?;
    eprint!("Password: ");
    let mut text = String::new();
    io::stdin().read_line(&mut text).context("read the password")?;
    eprintln!();
    Ok(text)
}

/// The terminal shows what is typed again once this is gone.
struct NoEcho(Termios);

impl NoEcho {
    fn start() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut modes = before.clone();
        modes.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &modes)?;
        let echo = Self(before);
        // Success of the call means that something was changed, not that all was.
        if tcgetattr(io::stdin())?.local_modes.contains(LocalModes::ECHO) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(echo)
    }
}

impl Drop for NoEcho {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}
