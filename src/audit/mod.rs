//! The audit log: who did what, when and from where. An entry is written in the transaction of the change that it
//! records, so neither exists without the other. The database refuses to change an entry.

mod entry;
mod retention;
mod store;

use std::net::IpAddr;

pub use entry::{Action, Details, Entry, MAX_DETAILS_BYTES};
pub use retention::{delete_expired, delete_home_log, run_retention};
pub use store::StoredEntry;

use crate::auth::{Actor, Principal};
use crate::db::{Connection, Pool};
use crate::error::Error;
use crate::ids::{AuditEntryId, HomeId, UserId};
use crate::text_enum::text_enum;

/// The actor of a request and the request's network address. Every function that writes an entry takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestContext {
    pub user: UserId,
    pub actor: Actor,
    /// The client's network address, if it is known.
    pub address: Option<IpAddr>,
}

impl RequestContext {
    pub fn new(principal: &Principal, address: Option<IpAddr>) -> Self {
        Self { user: principal.user, actor: principal.actor, address }
    }
}

text_enum! {
    /// The kind of credential that an actor used.
    pub enum ActorKind {
        /// A person's session.
        Session = "SESSION",
        /// A token made by an operator.
        Operator = "OPERATOR",
        /// The token of an integration.
        Integration = "INTEGRATION",
        /// A token of an external identity provider.
        External = "OUTSIDE",
    }
}

impl From<Actor> for ActorKind {
    fn from(actor: Actor) -> Self {
        match actor {
            Actor::Session(_) => Self::Session,
            Actor::Operator => Self::Operator,
            Actor::External(_) => Self::External,
            Actor::Integration(_) => Self::Integration,
        }
    }
}

/// Writes entries of a home, or of none, in the caller's transaction: one statement, sent at the first poll, so that
/// it can be one of several in a round trip.
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

/// Up to `limit` entries of a home, newest first, older than the entry `after`. The caller has checked the permission.
pub(crate) async fn page(
    pool: &Pool,
    home: HomeId,
    after: Option<AuditEntryId>,
    limit: i64,
) -> Result<Vec<StoredEntry>, Error> {
    let mut conn = pool.get().await?;
    Ok(store::page(&mut conn, home, after, limit).await?)
}
