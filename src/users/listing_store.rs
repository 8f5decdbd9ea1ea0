//! All accounts, for operators.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Text, Timestamptz};
use diesel_async::RunQueryDsl;

use crate::db::{Pool, statement};
use crate::error::Error;
use crate::ids::UserId;

statement! {
    struct ListUsers("sql/list_users.sql") -> (BigInt, Text, Text, Timestamptz, BigInt) {
        after: BigInt = i64,
        limit: BigInt = i64,
    }
}

/// A person who can sign in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedUser {
    pub id: UserId,
    pub email: String,
    pub name: String,
    pub created_at: DateTime<Utc>,
    /// Homes that they are a member of.
    pub n_homes: i64,
}

/// Up to `limit` accounts by id, those after `after`.
pub async fn list_users(pool: &Pool, after: Option<UserId>, limit: i64) -> Result<Vec<ListedUser>, Error> {
    let after = after.map_or(0, UserId::get);
    let rows: Vec<(UserId, String, String, DateTime<Utc>, i64)> =
        ListUsers { after, limit }.load(&mut pool.get().await?).await?;
    let user = |(id, email, name, created_at, n_homes)| ListedUser { id, email, name, created_at, n_homes };
    Ok(rows.into_iter().map(user).collect())
}
