//! Commands of operators that need only the database: accounts and tokens.

use std::io::{self, IsTerminal, Read};
use std::path::PathBuf;
use std::time::Duration;

use super::{account_deletion, database, lists, output};
use crate::auth::{IssuerDomains, Tokens};
use crate::clock::Clock;
use crate::opaque_token;
use crate::revocation::Revocations;
use crate::settings::{AuthSettings, DatabaseSettings, Environment, MailLink, Secret};
use crate::throttle::Throttle;
use crate::users::{EmailVerification, Users, UsersDependencies};
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// Longest input that is read as a password.
const MAX_INPUT_BYTES: u64 = 4096;

#[derive(Subcommand)]
pub(crate) enum User {
    /// List all accounts: id, e-mail, name, number of homes.
    List {
        #[command(flatten)]
        format: lists::Format,
    },
    /// Create an account, also with REGISTRATION=closed.
    Create {
        /// The login name.
        #[arg(long)]
        email: String,
        /// The display name.
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
    /// Set the e-mail address of an account, which counts as verified then, and end all its sessions.
    SetEmail {
        /// The login name.
        #[arg(long)]
        email: String,
        /// The login name from now on.
        #[arg(long)]
        new_email: String,
    },
    /// Print a token, or a link with PASSWORD_RESET_URL, with which the user sets a new password within an hour.
    ResetPassword {
        /// The login name.
        #[arg(long)]
        email: String,
    },
    /// Delete an account with its sessions. Homes of which it is the only owner are handed over or deleted.
    Delete(account_deletion::Delete),
    /// Link an identity of a JWT_TRUSTED_ISSUERS issuer to an account: its tokens then authenticate this account.
    Link {
        /// The account's login name.
        #[arg(long)]
        email: String,
        /// `iss` of the tokens.
        #[arg(long)]
        issuer: String,
        /// `sub` of the tokens.
        #[arg(long)]
        subject: String,
    },
    /// Remove a link and close everything opened with its tokens. The identity is not linked by e-mail again.
    Unlink {
        /// `iss` of the tokens.
        #[arg(long)]
        issuer: String,
        /// `sub` of the tokens.
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
    /// Lifetime of the token.
    #[arg(long, value_name = "MINUTES", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=525_600))]
    minutes: u64,
}

/// A password. It is never taken from the command line, which other users of the machine can see.
#[derive(Args)]
pub(crate) struct Password {
    /// File with the password [default: prompt, or standard input].
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl User {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let any_key = any_key();
        match self {
            Self::List { format } => lists::users(format).await?,
            Self::Create { email, name, password } => {
                let user = users(any_key).await?.create(&email, password.read()?.reveal(), &name).await?;
                output::print(&format!("created user {} <{}>\n", user.id, user.email))?;
            }
            Self::SetPassword { email, password } => {
                users(any_key).await?.set_password(&email, password.read()?.reveal()).await?;
                output::print(&format!("set the password of {email}; all sessions are ended\n"))?;
            }
            Self::SetEmail { email, new_email } => {
                users(any_key).await?.set_email(&email, &new_email).await?;
                output::print(&format!("{email} signs in as {new_email} from now on; all sessions are ended\n"))?;
            }
            Self::ResetPassword { email } => {
                let users = users(any_key).await?;
                let (token, expires_at) = users.create_password_reset(&email).await?.context("user not found")?;
                eprintln!("valid for one use until {}", output::time(expires_at));
                output::print(&format!("{}\n", users.reset_link(&token)))?;
            }
            Self::Delete(delete) => delete.run().await?,
            Self::Link { email, issuer, subject } => {
                users(any_key).await?.link(&email, &issuer, &subject).await?;
                output::print(&format!("linked {subject} of {issuer} to {email}\n"))?;
            }
            Self::Unlink { issuer, subject } => {
                users(any_key).await?.unlink(&issuer, &subject).await?;
                output::print(&format!("unlinked {subject} of {issuer}\n"))?;
            }
        }
        Ok(())
    }
}

impl Token {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let (token, expires_at) = users(AuthSettings::read(&Environment)?)
            .await?
            .token_for(&self.email, Duration::from_secs(self.minutes * 60))
            .await?;
        eprintln!("valid until {}", output::time(expires_at));
        output::print(&format!("{token}\n"))?;
        Ok(())
    }
}

/// For commands that issue no token: any key will do.
pub(super) fn any_key() -> AuthSettings {
    AuthSettings::with_secret(Secret::new(opaque_token::generate("")))
}

pub(super) async fn users(auth: AuthSettings) -> anyhow::Result<Users> {
    let database = DatabaseSettings::read(&Environment)?;
    let clock = Clock::system();
    let pool = database::open(&database).await?;
    let (tokens, revocations) = (Tokens::from_settings(&auth, clock.clone())?, Revocations::new(clock.clone()));
    Ok(Users::new(UsersDependencies {
        pool,
        tokens,
        clock,
        revocations,
        throttle: Throttle::new(false),
        registration_open: auth.registration_open,
        issuer_domains: IssuerDomains::new(&auth),
        mailer: None,
        reset_link: MailLink::to_reset_password(&Environment)?,
        email_verification: EmailVerification { is_demanded: false },
        verification_link: None,
    }))
}

impl Password {
    fn read(&self) -> anyhow::Result<Secret> {
        let text = match &self.password_file {
            Some(path) => std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?,
            None if io::stdin().is_terminal() => prompt()?,
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

/// Prompts for the password with echo off; fails if the terminal can't turn echo off.
fn prompt() -> anyhow::Result<String> {
    let _echo = NoEcho::start()
        .context("can't turn off the terminal's echo: pipe the password in, or name a file with --password-file")?;
    eprint!("Password: ");
    let mut text = String::new();
    io::stdin().read_line(&mut text).context("read the password")?;
    eprintln!();
    Ok(text)
}

/// Terminal echo is off until this is dropped.
struct NoEcho(Termios);

impl NoEcho {
    fn start() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut modes = before.clone();
        modes.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &modes)?;
        let echo = Self(before);
        // tcsetattr succeeds even if it could apply only some of the changes.
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
