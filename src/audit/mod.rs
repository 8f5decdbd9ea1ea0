//! The audit log: who did what, to what, when and from where. An entry is written in the transaction of
//! what it tells, so neither is there without the other; the database itself refuses to change one.

mod entry;
mod retention;
mod store;

use std::net::IpAddr;
use std::str::FromStr;

use chrono::{DateTime, Utc};

pub use entry::{Action, Details, Entry, MAX_DETAILS_BYTES};
pub use retention::{delete_expired, delete_home_log, run_retention};

use crate::auth::{Actor, Principal};
use crate::db::{Connection, JsonText, Pool};
use crate::error::Error;
use crate::ids::{AuditEntryId, HomeId, UserId};

/// Who acts, by what and from where: an argument of whatever leaves an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestContext {
    /// Who.
    pub user: UserId,
    /// By what.
    pub actor: Actor,
    /// The client's network address, if it is known.
    pub address: Option<IpAddr>,
}

impl RequestContext {
    /// The holder of a token, at an address.
    pub fn new(who: &Principal, address: Option<IpAddr>) -> Self {
        Self { user: who.user, actor: who.actor, address }
    }
}

/// By what somebody acted, as it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActorKind {
    /// A person who was signed in.
    Session,
    /// A token that an operator has made for somebody.
    Operator,
    /// The token of an integration.
    Integration,
    /// A token of an outside issuer.
    Outside,
}

/// The text is no kind of actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a kind of actor")]
pub struct ActorKindError;

impl ActorKind {
    const ALL: [Self; 4] = [Self::Session, Self::Operator, Self::Integration, Self::Outside];

    /// As the database and the API spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session => "SESSION",
            Self::Operator => "OPERATOR",
            Self::Outside => "OUTSIDE",
            Self::Integration => "INTEGRATION",
        }
    }
}

impl From<Actor> for ActorKind {
    fn from(actor: Actor) -> Self {
        match actor {
            Actor::Session(_) => Self::Session,
            Actor::Operator => Self::Operator,
            Actor::External(_) => Self::Outside,
            Actor::Integration(_) => Self::Integration,
        }
    }
}

impl FromStr for ActorKind {
    type Err = ActorKindError;

    fn from_str(text: &str) -> Result<Self, ActorKindError> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(ActorKindError)
    }
}

/// An entry as it was kept.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredEntry {
    /// Its id; later ones are greater.
    pub id: AuditEntryId,
    /// When, by the database's clock.
    pub at: DateTime<Utc>,
    /// By what they acted.
    pub actor_kind: ActorKind,
    /// Who; the account may be gone.
    pub actor_user: UserId,
    /// What they were called at that time.
    pub actor: String,
    /// The client's network address, where it was known.
    pub address: Option<String>,
    /// What was done, see [`Action`].
    pub action: String,
    /// To what.
    pub target: String,
    /// What there is to say of it.
    pub details: JsonText,
}

/// Writes entries of a home, or of none, in the caller's transaction: one statement, which other
/// statements of the connection need not wait for.
pub async fn record(
    conn: &Connection,
    by: &RequestContext,
    home: impl Into<Option<HomeId>>,
    entries: &[Entry],
) -> Result<(), Error> {
    if entries.is_empty() {
        return Ok(());
    }
    Ok(store::insert(conn, by, home.into(), entries).await?)
}

/// Up to `limit` entries of a home, newest first, from after a cursor on. Whoever asks has judged who may.
pub(crate) async fn page(
    pool: &Pool,
    home: HomeId,
    after: Option<AuditEntryId>,
    limit: i64,
) -> Result<Vec<StoredEntry>, Error> {
    let mut conn = pool.get().await?;
    Ok(store::page(&mut conn, home, after, limit).await?)
}
