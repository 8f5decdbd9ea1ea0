//! SQL of integrations.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::{Access, HomeRole, IntegrationToken, Membership, Scopes, store};
use crate::db::schema::{devices, integration_tokens, memberships, users};
use crate::ids::{DeviceId, HomeId, SessionId, UserId};

/// In place of a password hash; no password matches it.
const NO_PASSWORD: &str = "!";
/// Domain of integrations' e-mail addresses, which RFC 2606 reserves: nobody can own one.
const EMAIL_DOMAIN: &str = "integration.invalid";

type Columns = (
    (
        integration_tokens::id,
        integration_tokens::user_id,
        integration_tokens::home_id,
        integration_tokens::name,
        integration_tokens::scopes,
        integration_tokens::device_ids,
    ),
    (
        integration_tokens::created_by,
        integration_tokens::created_at,
        integration_tokens::expires_at,
        integration_tokens::last_used_at,
    ),
);
const COLUMNS: Columns = (
    (
        integration_tokens::id,
        integration_tokens::user_id,
        integration_tokens::home_id,
        integration_tokens::name,
        integration_tokens::scopes,
        integration_tokens::device_ids,
    ),
    (
        integration_tokens::created_by,
        integration_tokens::created_at,
        integration_tokens::expires_at,
        integration_tokens::last_used_at,
    ),
);
type Row = (
    (Uuid, UserId, HomeId, String, i16, Option<Vec<DeviceId>>),
    (Option<UserId>, DateTime<Utc>, Option<DateTime<Utc>>, Option<DateTime<Utc>>),
);

fn token(
    ((id, user, home, name, scopes, devices), (created_by, created_at, expires_at, last_used_at)): Row,
) -> IntegrationToken {
    IntegrationToken {
        id: SessionId::from_database(id),
        user,
        home,
        name,
        scopes: Scopes::from_bits(scopes),
        devices,
        created_by,
        created_at,
        expires_at,
        last_used_at,
    }
}

/// Tokens that are neither revoked nor expired.
#[diesel::dsl::auto_type]
fn valid_at(now: DateTime<Utc>) -> _ {
    let is_unexpired =
        integration_tokens::expires_at.is_null().or(integration_tokens::expires_at.gt(now).assume_not_null());
    integration_tokens::revoked_at.is_null().and(is_unexpired)
}

/// One token to keep.
pub(super) struct New<'a> {
    pub(super) id: SessionId,
    pub(super) name: &'a str,
    pub(super) scopes: Scopes,
    pub(super) devices: Option<&'a [DeviceId]>,
    pub(super) expires_at: Option<DateTime<Utc>>,
}

/// Makes the user, its place in the home of the access, and the token.
pub(super) async fn insert(
    conn: &mut AsyncPgConnection,
    access: Access,
    new: &New<'_>,
    now: DateTime<Utc>,
) -> Result<IntegrationToken, crate::error::Error> {
    let user: UserId = diesel::insert_into(users::table)
        .values((
            users::email.eq(format!("{}@{EMAIL_DOMAIN}", new.id)),
            users::name.eq(new.name),
            users::password_hash.eq(NO_PASSWORD),
            users::created_at.eq(now),
            users::home_id.eq(access.home()),
        ))
        .returning(users::id)
        .get_result(conn)
        .await?;
    diesel::insert_into(memberships::table)
        .values((
            memberships::home_id.eq(access.home()),
            memberships::user_id.eq(user),
            memberships::role.eq(HomeRole::Guest),
            memberships::joined_at.eq(now),
            memberships::scopes.eq(new.scopes.bits()),
            memberships::device_ids.eq(new.devices),
        ))
        .execute(conn)
        .await?;
    let row: Row = diesel::insert_into(integration_tokens::table)
        .values((
            integration_tokens::id.eq(new.id.as_uuid()),
            integration_tokens::user_id.eq(user),
            integration_tokens::home_id.eq(access.home()),
            integration_tokens::name.eq(new.name),
            integration_tokens::scopes.eq(new.scopes.bits()),
            integration_tokens::device_ids.eq(new.devices),
            integration_tokens::created_by.eq(access.user()),
            integration_tokens::created_at.eq(now),
            integration_tokens::expires_at.eq(new.expires_at),
        ))
        .returning(COLUMNS)
        .get_result(conn)
        .await?;
    Ok(token(row))
}

pub(super) async fn count(conn: &mut AsyncPgConnection, home: HomeId, now: DateTime<Utc>) -> QueryResult<i64> {
    let of_home = integration_tokens::table.filter(integration_tokens::home_id.eq(home)).filter(valid_at(now));
    of_home.count().get_result(conn).await
}

/// How many of the devices belong to the home.
pub(super) async fn count_devices(conn: &mut AsyncPgConnection, home: HomeId, ids: &[DeviceId]) -> QueryResult<usize> {
    let found = devices::table.filter(devices::home_id.eq(home)).filter(devices::id.eq_any(ids));
    let n: i64 = found.count().get_result(conn).await?;
    Ok(usize::try_from(n).unwrap_or_default())
}

/// The valid tokens, ordered by home, oldest first.
pub(super) async fn valid(
    conn: &mut AsyncPgConnection,
    homes: &[HomeId],
    now: DateTime<Utc>,
) -> QueryResult<Vec<IntegrationToken>> {
    let rows: Vec<Row> = integration_tokens::table
        .filter(integration_tokens::home_id.eq_any(homes))
        .filter(valid_at(now))
        .order((integration_tokens::home_id, integration_tokens::created_at, integration_tokens::id))
        .select(COLUMNS)
        .load(conn)
        .await?;
    Ok(rows.into_iter().map(token).collect())
}

/// The viewer's membership in the home of a valid token.
pub(super) async fn visible(
    conn: &mut AsyncPgConnection,
    viewer: UserId,
    id: SessionId,
    now: DateTime<Utc>,
) -> QueryResult<Option<Membership>> {
    integration_tokens::table
        .inner_join(memberships::table.on(memberships::home_id.eq(integration_tokens::home_id)))
        .filter(memberships::user_id.eq(viewer))
        .filter(integration_tokens::id.eq(id.as_uuid()))
        .filter(valid_at(now))
        .select(store::MEMBERSHIP)
        .first(conn)
        .await
        .optional()
}

/// Records a use of a token; `false` if the token is not valid.
pub(super) async fn record_use(
    conn: &mut AsyncPgConnection,
    id: SessionId,
    user: UserId,
    now: DateTime<Utc>,
) -> QueryResult<bool> {
    let token = integration_tokens::table
        .filter(integration_tokens::id.eq(id.as_uuid()))
        .filter(integration_tokens::user_id.eq(user))
        .filter(valid_at(now));
    let n = diesel::update(token).set(integration_tokens::last_used_at.eq(now)).execute(conn).await?;
    Ok(n > 0)
}

pub(super) async fn name(conn: &mut AsyncPgConnection, id: SessionId) -> QueryResult<Option<String>> {
    let token = integration_tokens::table.find(id.as_uuid()).select(integration_tokens::name);
    token.first(conn).await.optional()
}

/// A selection of a home's tokens.
#[derive(Clone, Copy)]
pub(super) enum Which {
    Token(SessionId),
    MadeBy(UserId),
    All,
}

/// Revokes a home's tokens, deletes their memberships and returns their ids. Already revoked tokens are skipped.
pub(super) async fn revoke(
    conn: &mut AsyncPgConnection,
    home: HomeId,
    which: Which,
    now: DateTime<Utc>,
) -> QueryResult<Vec<SessionId>> {
    let of_home = integration_tokens::home_id.eq(home).and(integration_tokens::revoked_at.is_null());
    let revoked = integration_tokens::revoked_at.eq(now);
    let columns = (integration_tokens::id, integration_tokens::user_id);
    let of_home = integration_tokens::table.filter(of_home);
    let revoked_tokens: Vec<(Uuid, UserId)> = match which {
        Which::Token(id) => {
            let token = of_home.filter(integration_tokens::id.eq(id.as_uuid()));
            diesel::update(token).set(revoked).returning(columns).load(conn).await?
        }
        Which::MadeBy(user) => {
            let theirs = of_home.filter(integration_tokens::created_by.eq(user));
            diesel::update(theirs).set(revoked).returning(columns).load(conn).await?
        }
        Which::All => diesel::update(of_home).set(revoked).returning(columns).load(conn).await?,
    };
    let (ids, users): (Vec<_>, Vec<_>) = revoked_tokens.into_iter().unzip();
    if !users.is_empty() {
        let theirs =
            memberships::table.filter(memberships::home_id.eq(home)).filter(memberships::user_id.eq_any(users));
        diesel::delete(theirs).execute(conn).await?;
    }
    Ok(ids.into_iter().map(SessionId::from_database).collect())
}

/// Deletes ended tokens with their users, except the `retained` newest.
pub(super) async fn delete_ended(
    conn: &mut AsyncPgConnection,
    home: HomeId,
    retained: i64,
    now: DateTime<Utc>,
) -> QueryResult<()> {
    let old: Vec<UserId> = integration_tokens::table
        .filter(integration_tokens::home_id.eq(home))
        .filter(
            integration_tokens::revoked_at.is_not_null().or(integration_tokens::expires_at.le(now).assume_not_null()),
        )
        .order(integration_tokens::created_at.desc())
        .offset(retained)
        .select(integration_tokens::user_id)
        .load(conn)
        .await?;
    if old.is_empty() {
        return Ok(());
    }
    diesel::delete(users::table.filter(users::id.eq_any(old)).filter(users::home_id.eq(home)))
        .execute(conn)
        .await
        .map(drop)
}

/// The devices an integration is limited to (inner `None`: all devices). Outer `None`: its membership was deleted.
pub(super) async fn device_scope(
    conn: &mut AsyncPgConnection,
    access: Access,
) -> QueryResult<Option<Option<Vec<DeviceId>>>> {
    let membership = memberships::table.find((access.home(), access.user())).select(memberships::device_ids);
    membership.first(conn).await.optional()
}
