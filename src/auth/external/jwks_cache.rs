//! A cache of the keys of one issuer.
//!
//! Invariants: an issuer is asked at most once a minute, whatever tokens arrive. A refresh is a task of its own, so
//! a client that disconnects does not cancel it. While the source is unavailable the last keys stay valid; they do
//! not stay valid merely because no token arrived that would have refreshed them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::SystemTime;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::fetch::Fetcher;
use super::jwks::{Key, Keys, Rules};
use crate::settings::{KeySource, TrustedIssuer};

/// Most bytes of a JWK set.
const MAX_SET_BYTES: usize = 256 << 10;
/// Shortest time between two requests to an issuer.
const MIN_REQUEST_INTERVAL: TimeDelta = TimeDelta::seconds(60);
/// Shortest time between two checks of a file.
const FILE_CHECK_INTERVAL: TimeDelta = TimeDelta::seconds(1);
/// Age at which an issuer's keys are refreshed: a withdrawn key must not stay valid forever.
const FRESH_FOR: TimeDelta = TimeDelta::minutes(15);
/// Age up to which keys are used while a refresh runs in the background. Older keys wait for the refresh.
const STALE_FOR: TimeDelta = TimeDelta::minutes(30);

/// Cheap to clone; all clones share the keys.
#[derive(Clone)]
pub(super) struct JwksCache(Arc<Inner>);

struct Inner {
    rules: Rules,
    source: Source,
    keys: RwLock<CachedKeys>,
    refresh: Arc<Mutex<RefreshState>>,
}

enum Source {
    File(PathBuf),
    Url(Box<Fetcher>),
}

#[derive(Default)]
struct CachedKeys {
    keys: Arc<Keys>,
    read_at: Option<DateTime<Utc>>,
}

/// The state of the refresh. Its lock makes refreshes run one at a time.
#[derive(Default)]
struct RefreshState {
    tried_at: Option<DateTime<Utc>>,
    /// Identifies the version of the file that was read.
    stamp: Option<Stamp>,
}

type Stamp = (Option<SystemTime>, u64);

/// How current the cached keys are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Age {
    Fresh,
    /// Used while they are refreshed.
    Stale,
    /// Used only if they can't be refreshed.
    Expired,
}

impl JwksCache {
    /// Reads a file at once, so that its faults stop the start. An issuer is asked when its first token arrives.
    pub(super) fn new(settings: &TrustedIssuer) -> Result<Self, String> {
        let rules = Rules::new(settings);
        let (mut cached, mut refresh) = (CachedKeys::default(), RefreshState::default());
        let source = match &settings.keys {
            KeySource::File(path) => {
                let unusable = |problem: String| format!("{}: {problem}", path.display());
                let (set, stamp) = read_file(path).map_err(unusable)?;
                cached.keys = Arc::new(rules.keys(&set).map_err(unusable)?);
                if cached.keys.is_empty() {
                    return Err(unusable("none of its keys has a kid and an allowed algorithm".to_owned()));
                }
                refresh.stamp = Some(stamp);
                Source::File(path.clone())
            }
            KeySource::Url { url, ca_file } => Source::Url(Box::new(Fetcher::new(url, ca_file.as_deref())?)),
        };
        let refresh = Arc::new(Mutex::new(refresh));
        Ok(Self(Arc::new(Inner { rules, source, keys: RwLock::new(cached), refresh })))
    }

    /// The key of this id. An unknown id may be a new key, so it causes a refresh.
    pub(super) async fn find(&self, kid: &str, now: DateTime<Utc>) -> Option<Arc<Key>> {
        let (cached, age) = self.0.get(kid, now);
        if age == Age::Fresh && cached.is_some() {
            return cached;
        }
        let must_wait = age == Age::Expired || cached.is_none();
        let refresh = if must_wait {
            self.0.refresh.clone().lock_owned().await
        } else {
            // Another task refreshes already, and the cached key is valid meanwhile.
            let Ok(refresh) = self.0.refresh.clone().try_lock_owned() else { return cached };
            refresh
        };
        if !self.0.is_due(&refresh, now) {
            return self.0.get(kid, now).0;
        }
        let inner = self.0.clone();
        let task = tokio::spawn(async move { inner.read(refresh, now).await });
        if must_wait {
            // A task that panicked has read nothing.
            let _ = task.await;
            return self.0.get(kid, now).0;
        }
        cached
    }
}

impl Inner {
    /// The cached key, and how current the cache is.
    fn get(&self, kid: &str, now: DateTime<Utc>) -> (Option<Arc<Key>>, Age) {
        let cached = self.keys.read().expect("jwks lock");
        let (fresh_for, stale_for) = match self.source {
            Source::File(_) => (FILE_CHECK_INTERVAL, FILE_CHECK_INTERVAL),
            Source::Url(_) => (FRESH_FOR, STALE_FOR),
        };
        let age = match cached.read_at {
            Some(at) if is_within(at, now, fresh_for) => Age::Fresh,
            Some(at) if is_within(at, now, stale_for) => Age::Stale,
            _ => Age::Expired,
        };
        (cached.keys.get(kid).cloned(), age)
    }

    fn is_due(&self, refresh: &RefreshState, now: DateTime<Utc>) -> bool {
        let every = match self.source {
            Source::File(_) => FILE_CHECK_INTERVAL,
            Source::Url(_) => MIN_REQUEST_INTERVAL,
        };
        !refresh.tried_at.is_some_and(|at| is_within(at, now, every))
    }

    async fn read(self: Arc<Self>, mut refresh: OwnedMutexGuard<RefreshState>, now: DateTime<Utc>) {
        refresh.tried_at = Some(now);
        let read = match &self.source {
            Source::Url(fetcher) => fetcher.get(MAX_SET_BYTES).await.and_then(|set| self.rules.keys(&set)).map(Some),
            Source::File(path) => self.read_changed(path.clone(), &mut refresh).await,
        };
        match read {
            Ok(keys) => {
                let mut cached = self.keys.write().expect("jwks lock");
                cached.read_at = Some(now);
                if let Some(keys) = keys {
                    cached.keys = Arc::new(keys);
                }
                if cached.keys.is_empty() {
                    let issuer = self.rules.issuer();
                    tracing::warn!(issuer, "a trusted issuer has no usable key: its tokens are refused");
                }
            }
            Err(problem) => {
                let issuer = self.rules.issuer();
                tracing::warn!(
                    issuer,
                    problem,
                    "can't refresh the keys of a trusted issuer; the cached ones stay valid"
                );
            }
        }
    }

    /// The keys of a file, or `None` if it has not changed.
    async fn read_changed(&self, path: PathBuf, refresh: &mut RefreshState) -> Result<Option<Keys>, String> {
        let known = refresh.stamp;
        let changed = tokio::task::spawn_blocking(move || match stamp(&path) {
            Ok(present) if Some(present) == known => Ok(None),
            _ => read_file(&path).map(Some),
        });
        let Some((set, stamp)) = changed.await.map_err(|error| error.to_string())?? else { return Ok(None) };
        let keys = self.rules.keys(&set)?;
        refresh.stamp = Some(stamp);
        Ok(Some(keys))
    }
}

/// False also when the clock was set back.
fn is_within(at: DateTime<Utc>, now: DateTime<Utc>, span: TimeDelta) -> bool {
    at <= now && now - at < span
}

fn stamp(path: &Path) -> Result<Stamp, String> {
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    Ok((metadata.modified().ok(), metadata.len()))
}

/// The stamp is taken first, so that a change while reading causes another read.
fn read_file(path: &Path) -> Result<(Vec<u8>, Stamp), String> {
    use std::io::Read;
    let stamp = stamp(path)?;
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut set = Vec::new();
    file.take(MAX_SET_BYTES as u64 + 1).read_to_end(&mut set).map_err(|error| error.to_string())?;
    if set.len() > MAX_SET_BYTES {
        return Err(format!("longer than {MAX_SET_BYTES} bytes"));
    }
    Ok((set, stamp))
}
