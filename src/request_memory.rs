//! The memory that requests hold: the rows and values of running operations, and responses that their clients have not
//! taken yet. One account, one address and all together have a limit, and memory is reserved before it is used.
//!
//! While more than half of the whole is in use, the limits of one account and of one address are an eighth, so that a few
//! of them can't refuse all others. The first [`FREE_BYTES`] of every request are not counted: small requests are never
//! refused, and cost no lock.
//!
//! An operation learns what it takes only as its rows arrive, when the database has done its work. So a user who was
//! refused of late and still holds much is refused large operations before they begin.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::ids::UserId;
use crate::metrics::Metrics;
use crate::throttle::network;

/// Bytes of each request that count for no limit.
pub const FREE_BYTES: usize = 16 << 10;
/// Bytes that a reservation grows by, so that rows and values seldom need the lock.
const STEP_BYTES: usize = 64 << 10;
/// The part of their limits that accounts and addresses have while more than half of the whole is in use.
const SCARCE_PART: usize = 8;
/// When a refused request may come again, in seconds: clients that read nothing are disconnected by then.
pub const RETRY_AFTER_SECONDS: u32 = 15;
const RETRY_AFTER: Duration = Duration::from_secs(RETRY_AFTER_SECONDS as u64);

/// The limits, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct MemoryLimits {
    /// One account. An operation and its response take up to 40 MiB.
    pub per_user: usize,
    /// One client address.
    pub per_address: usize,
    /// All requests.
    pub in_all: usize,
}

impl Default for MemoryLimits {
    fn default() -> Self {
        Self { per_user: 40 << 20, per_address: 64 << 20, in_all: 96 << 20 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    User(UserId),
    Address(IpAddr),
}

/// The limit that refused a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MemoryExceeded {
    #[error("the responses of this account take too much memory: read them, or ask for less at a time")]
    PerUser,
    #[error("the responses of this address take too much memory: read them, or ask for less at a time")]
    PerAddress,
    #[error("service temporarily unavailable, try again")]
    InAll,
}

impl From<MemoryExceeded> for Error {
    fn from(_: MemoryExceeded) -> Self {
        Self::TooSoon { retry_after_seconds: RETRY_AFTER_SECONDS.into() }
    }
}

/// The names of all in `smarthome_quota_exceeded`.
pub const MEMORY_QUOTAS: [&str; 3] =
    [MemoryExceeded::PerUser.name(), MemoryExceeded::PerAddress.name(), MemoryExceeded::InAll.name()];

impl MemoryExceeded {
    /// The `reason` of `smarthome_quota_exceeded`.
    const fn name(self) -> &'static str {
        match self {
            Self::PerUser => "MEMORY_PER_USER",
            Self::PerAddress => "MEMORY_PER_ADDRESS",
            Self::InAll => "MEMORY_IN_ALL",
        }
    }
}

/// The memory of all requests. Cheap to clone; all clones count together.
#[derive(Clone, Default)]
pub struct RequestMemory(Arc<Shared>);

#[derive(Default)]
struct Shared {
    limits: MemoryLimits,
    metrics: Metrics,
    used: Mutex<Used>,
}

#[derive(Default)]
struct Used {
    in_all: usize,
    /// Keys without reservations take no memory.
    by_key: HashMap<Key, OfKey>,
}

/// What the requests of one account or address hold.
#[derive(Default)]
struct OfKey {
    bytes: usize,
    /// When its own limit last refused a request.
    refused_at: Option<Instant>,
}

/// The memory of one request, released when its last clone is dropped.
#[derive(Clone, Default)]
pub struct Reservation(Option<Arc<Reserved>>);

struct Reserved {
    memory: RequestMemory,
    user: Option<UserId>,
    address: Option<IpAddr>,
    bytes: Mutex<Bytes>,
}

/// The size of a reservation.
#[derive(Default)]
struct Bytes {
    /// What the request holds.
    held: usize,
    /// What counts of it, in whole steps.
    counted: usize,
}

impl RequestMemory {
    pub fn new(limits: MemoryLimits, metrics: Metrics) -> Self {
        Self(Arc::new(Shared { limits, metrics, used: Mutex::default() }))
    }

    /// An empty reservation for a request of this user and address.
    pub fn reservation(&self, user: Option<UserId>, address: Option<IpAddr>) -> Reservation {
        let (memory, address) = (self.clone(), address.map(network));
        Reservation(Some(Arc::new(Reserved { memory, user, address, bytes: Mutex::default() })))
    }

    /// Refuses a large operation of a user before it begins, if one was refused within [`RETRY_AFTER_SECONDS`] and the
    /// user still holds more than half of what a user may hold.
    pub fn check_large_operation(&self, user: UserId) -> Result<(), MemoryExceeded> {
        let used = self.0.used.lock().expect("request memory lock");
        let is_refused = used.by_key.get(&Key::User(user)).is_some_and(|of_user| {
            let is_recent = of_user.refused_at.is_some_and(|at| at.elapsed() < RETRY_AFTER);
            is_recent && of_user.bytes > self.0.limits.per_user / 2
        });
        drop(used);
        if is_refused { Err(self.count_refused(MemoryExceeded::PerUser)) } else { Ok(()) }
    }

    fn take(&self, reserved: &Reserved, bytes: usize) -> Result<(), MemoryExceeded> {
        let limits = &self.0.limits;
        let mut used = self.0.used.lock().expect("request memory lock");
        let in_all = used.in_all.saturating_add(bytes);
        let part = if in_all > limits.in_all / 2 { SCARCE_PART } else { 1 };
        let fits = |key: Option<Key>, limit: usize| {
            key.is_none_or(|key| {
                used.by_key.get(&key).map_or(0, |of_key| of_key.bytes).saturating_add(bytes) <= limit / part
            })
        };
        let exceeded = if !fits(reserved.user.map(Key::User), limits.per_user) {
            MemoryExceeded::PerUser
        } else if !fits(reserved.address.map(Key::Address), limits.per_address) {
            MemoryExceeded::PerAddress
        } else if in_all > limits.in_all {
            MemoryExceeded::InAll
        } else {
            used.in_all = in_all;
            for key in reserved.keys() {
                used.by_key.entry(key).or_default().bytes += bytes;
            }
            self.0.metrics.request_memory.set(i64::try_from(in_all).unwrap_or(i64::MAX));
            return Ok(());
        };
        if exceeded == MemoryExceeded::PerUser
            && let Some(of_user) = reserved.user.and_then(|user| used.by_key.get_mut(&Key::User(user)))
        {
            of_user.refused_at = Some(Instant::now());
        }
        Err(self.count_refused(exceeded))
    }

    fn count_refused(&self, exceeded: MemoryExceeded) -> MemoryExceeded {
        self.0.metrics.count_quota_exceeded(exceeded.name());
        exceeded
    }

    fn give_back(&self, reserved: &Reserved, bytes: usize) {
        let mut used = self.0.used.lock().expect("request memory lock");
        used.in_all -= bytes;
        for key in reserved.keys() {
            if let Entry::Occupied(mut entry) = used.by_key.entry(key) {
                entry.get_mut().bytes -= bytes;
                if entry.get().bytes == 0 {
                    entry.remove();
                }
            }
        }
        self.0.metrics.request_memory.set(i64::try_from(used.in_all).unwrap_or(i64::MAX));
    }
}

impl Reserved {
    fn keys(&self) -> impl Iterator<Item = Key> {
        self.user.map(Key::User).into_iter().chain(self.address.map(Key::Address))
    }
}

impl Reservation {
    /// Another, empty reservation for the same user and address.
    #[must_use]
    pub fn another(&self) -> Self {
        let reserved = self.0.as_ref();
        reserved.map_or_else(Self::default, |reserved| reserved.memory.reservation(reserved.user, reserved.address))
    }

    /// Reserves more bytes. After an error they are not reserved.
    pub fn grow(&self, n_bytes: usize) -> Result<(), MemoryExceeded> {
        let Some(reserved) = &self.0 else { return Ok(()) };
        let mut bytes = reserved.bytes.lock().expect("reservation lock");
        let held = bytes.held.saturating_add(n_bytes);
        let counted = counted(held);
        if counted > bytes.counted {
            reserved.memory.take(reserved, counted - bytes.counted)?;
            bytes.counted = counted;
        }
        bytes.held = held;
        Ok(())
    }

    /// Returns bytes.
    pub fn shrink(&self, n_bytes: usize) {
        self.shrink_with(|held| held.saturating_sub(n_bytes));
    }

    /// Returns all but these bytes.
    pub fn shrink_to(&self, n_bytes: usize) {
        self.shrink_with(|held| held.min(n_bytes));
    }

    fn shrink_with(&self, left: impl FnOnce(usize) -> usize) {
        let Some(reserved) = &self.0 else { return };
        let mut bytes = reserved.bytes.lock().expect("reservation lock");
        bytes.held = left(bytes.held);
        let counted = counted(bytes.held);
        if counted < bytes.counted {
            reserved.memory.give_back(reserved, bytes.counted - counted);
            bytes.counted = counted;
        }
    }
}

/// What counts of a request that holds so many bytes.
fn counted(held: usize) -> usize {
    held.saturating_sub(FREE_BYTES).div_ceil(STEP_BYTES).saturating_mul(STEP_BYTES)
}

impl std::fmt::Debug for Reservation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reservation").finish_non_exhaustive()
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let counted = self.bytes.get_mut().map_or(0, |bytes| bytes.counted);
        if counted > 0 {
            self.memory.give_back(self, counted);
        }
    }
}

#[cfg(test)]
mod tests;
