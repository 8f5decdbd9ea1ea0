//! Rate limits by address and by user, and delays that grow with failed passwords. Each server counts for itself, in
//! memory; every table is bounded.

mod keyed_limiter;
mod password_attempts;
mod repeated_passwords;

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::Error;
use crate::ids::UserId;
use crate::rate::Gcra;
use keyed_limiter::KeyedLimiter;
use password_attempts::FailedPasswords;
use repeated_passwords::RepeatedPasswords;

pub use password_attempts::{PasswordAttempt, PasswordSubject};

/// Sign-ins, registrations, token refreshes, accepted invitations, and changes and resets of passwords and accounts of one
/// address: per minute, and at once.
const ATTEMPTS_PER_MINUTE: u32 = 60;
/// Changes of the own password or account of one user: per minute, and at once. Each costs up to two password hashes.
const USER_ATTEMPTS_PER_MINUTE: u32 = 10;
/// Home keys that one user chooses: per minute, and at once. A refusal tells that another home has, or had, the key.
const HOME_KEYS_PER_MINUTE: u32 = 30;
/// Integration tokens that one user creates and revokes: per minute, and at once. Every server reads each revocation.
const TOKEN_CHANGES_PER_MINUTE: u32 = 60;
/// Sustained requests of one user per second.
const REQUESTS_PER_SECOND: u32 = 50;
/// Requests of one user at once.
const REQUEST_BURST: u32 = 500;
/// Sustained requests of one address per second. A household, or a proxy, is one address.
const ADDRESS_REQUESTS_PER_SECOND: u32 = 200;
/// Requests of one address at once. After a restart of the server all sockets of an office connect again, and each takes three:
/// the upgrade, `connection_init` and a subscription.
const ADDRESS_REQUEST_BURST: u32 = 4_000;
/// Entries in the table of failed passwords.
const MAX_FAILED_PASSWORDS: NonZeroUsize = NonZeroUsize::new(20_000).expect("not zero");

/// All rate limits of requests. Cheap to clone; all clones count together.
#[derive(Clone)]
pub struct Throttle(Option<Arc<Tables>>);

struct Tables {
    address_attempts: KeyedLimiter<IpAddr>,
    user_attempts: KeyedLimiter<UserId>,
    home_keys: KeyedLimiter<UserId>,
    token_changes: KeyedLimiter<UserId>,
    user_requests: KeyedLimiter<UserId>,
    address_requests: KeyedLimiter<IpAddr>,
    failed_passwords: Arc<FailedPasswords>,
    repeated_passwords: RepeatedPasswords,
}

impl Throttle {
    /// Without limits unless `is_on` (`RATE_LIMITS`).
    pub fn new(is_on: bool) -> Self {
        let user_requests = Gcra::new(REQUESTS_PER_SECOND, REQUEST_BURST);
        let address_requests = Gcra::new(ADDRESS_REQUESTS_PER_SECOND, ADDRESS_REQUEST_BURST);
        let (any_address, any_user) = (IpAddr::from([0, 0, 0, 0]), UserId::from_database(0));
        Self(is_on.then(|| {
            Arc::new(Tables {
                address_attempts: KeyedLimiter::new(Gcra::per_minute(ATTEMPTS_PER_MINUTE), any_address),
                user_attempts: KeyedLimiter::new(Gcra::per_minute(USER_ATTEMPTS_PER_MINUTE), any_user),
                home_keys: KeyedLimiter::new(Gcra::per_minute(HOME_KEYS_PER_MINUTE), any_user),
                token_changes: KeyedLimiter::new(Gcra::per_minute(TOKEN_CHANGES_PER_MINUTE), any_user),
                user_requests: KeyedLimiter::new(user_requests, any_user),
                address_requests: KeyedLimiter::new(address_requests, any_address),
                failed_passwords: Arc::new(FailedPasswords::new(MAX_FAILED_PASSWORDS)),
                repeated_passwords: RepeatedPasswords::default(),
            })
        }))
    }

    /// Counts a request of an address, before its token is verified: verification is costly too.
    pub fn address_request(&self, from: Option<IpAddr>) -> Result<(), Error> {
        let Some(tables) = &self.0 else { return Ok(()) };
        from.map_or(Ok(()), |from| tables.address_requests.check(&network(from)).map_err(too_soon))
    }

    /// Counts the same request for its user, once the token is verified.
    pub fn user_request(&self, user: UserId) -> Result<(), Error> {
        let Some(tables) = &self.0 else { return Ok(()) };
        tables.user_requests.check(&user).map_err(too_soon)
    }

    /// Counts an attempt to authenticate from an address: a sign-in, a registration, a token refresh, an accepted
    /// invitation, or a change of a password or an account.
    pub fn address_attempt(&self, from: Option<IpAddr>) -> Result<(), Error> {
        let Some(tables) = &self.0 else { return Ok(()) };
        from.map_or(Ok(()), |from| tables.address_attempts.check(&network(from)).map_err(too_soon))
    }

    /// Counts an attempt of a user to change their password or account.
    pub fn user_attempt(&self, user: UserId) -> Result<(), Error> {
        let Some(tables) = &self.0 else { return Ok(()) };
        tables.user_attempts.check(&user).map_err(too_soon)
    }

    /// Counts a home key that a user chooses.
    pub fn home_key(&self, user: UserId) -> Result<(), Error> {
        let Some(tables) = &self.0 else { return Ok(()) };
        tables.home_keys.check(&user).map_err(too_soon)
    }

    /// Counts an integration token that a user creates or revokes.
    pub fn token_change(&self, user: UserId) -> Result<(), Error> {
        let Some(tables) = &self.0 else { return Ok(()) };
        tables.token_changes.check(&user).map_err(too_soon)
    }

    /// Whether so many attempts failed recently that it matters if the account has signed in from the address's network
    /// before ([`PasswordSubject::SignIn`]).
    pub fn is_sign_in_contended(&self, account: &str, from: Option<IpAddr>) -> bool {
        let Some(tables) = &self.0 else { return false };
        tables.failed_passwords.is_sign_in_contended(account, from, Instant::now())
    }

    /// As [`Throttle::begin_password_attempt`], for a sign-in. If the account has signed in from this network before,
    /// a password that was refused repeatedly because of a delay is admitted.
    pub fn begin_sign_in(
        &self,
        account: &str,
        from: Option<IpAddr>,
        is_known: bool,
        password: &str,
    ) -> Result<PasswordAttempt, Error> {
        let attempt = self.begin_password_attempt(PasswordSubject::SignIn { account, from, is_known });
        match (attempt, &self.0) {
            (Err(refusal), Some(tables))
                if is_known && tables.repeated_passwords.is_to_be_verified(account, from.map(network), password) =>
            {
                Ok(PasswordAttempt::during_delay(refusal))
            }
            (attempt, _) => attempt,
        }
    }

    /// Starts a password attempt, or fails with the time to wait. The attempt counts as failed until it is resolved.
    pub fn begin_password_attempt(&self, subject: PasswordSubject<'_>) -> Result<PasswordAttempt, Error> {
        match &self.0 {
            Some(tables) => FailedPasswords::begin(&tables.failed_passwords, subject, Instant::now()),
            None => Ok(PasswordAttempt::uncounted()),
        }
    }
}

fn too_soon(wait: Duration) -> Error {
    let whole = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    Error::TooSoon { retry_after_seconds: whole.max(1) }
}

/// What rate limits count an address as: itself, or the /64 network of an IPv6 address, because one subscriber usually
/// owns a whole /64.
pub fn network(addr: IpAddr) -> IpAddr {
    match addr.to_canonical() {
        IpAddr::V6(addr) => Ipv6Addr::from_bits(addr.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

/// The first and the last address of [`network`].
pub fn network_range(addr: IpAddr) -> (IpAddr, IpAddr) {
    match network(addr) {
        IpAddr::V6(first) => (first.into(), Ipv6Addr::from_bits(first.to_bits() | u128::from(u64::MAX)).into()),
        v4 => (v4, v4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_of_one_address_are_limited_unless_limits_are_off() {
        let address = Some(IpAddr::from([192, 0, 2, 1]));
        let throttle = Throttle::new(true);
        let n_admitted = (0..100).filter(|_| throttle.address_attempt(address).is_ok()).count();
        assert!((60..=61).contains(&n_admitted));
        assert!((0..1_000).all(|_| Throttle::new(false).address_attempt(address).is_ok()));
    }
}
