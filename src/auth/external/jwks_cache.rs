//! The keys of one issuer as they were last read, and when to read them again.
//!
//! Invariants: nobody makes us ask an issuer more than once a minute, whatever tokens they send; a reading
//! is a task of its own, so that whoever caused it can't stop it by going away; what was read last holds
//! on while its source is away, and not because nobody has asked.

use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::SystemTime;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::fetch::Fetcher;
use super::jwks::{Key, Keys, Rules};
use crate::settings::{KeySource, TrustedIssuer};

/// Bytes of a JWK set.
const MAX_SET_BYTES: usize = 256 << 10;
/// How often an issuer is asked at most.
const ASK_EVERY: TimeDelta = TimeDelta::seconds(60);
/// How often a file is looked at, at most.
const LOOK_EVERY: TimeDelta = TimeDelta::seconds(1);
/// Age at which an issuer's keys are asked for again: a key it has withdrawn must not hold for ever.
const FRESH_FOR: TimeDelta = TimeDelta::minutes(15);
/// Age up to which they hold while they are asked for: nobody waits as long as tokens come.
const HOLD_FOR: TimeDelta = TimeDelta::minutes(30);

/// One issuer's keys. Cheap to clone.
#[derive(Clone)]
pub(super) struct JwksCache(Arc<Ring>);

struct Ring {
    rules: Rules,
    source: Source,
    keys: RwLock<Held>,
    reading: Arc<Mutex<Reading>>,
}

enum Source {
    File(PathBuf),
    Url(Box<Fetcher>),
}

#[derive(Default)]
struct Held {
    keys: Arc<Keys>,
    read_at: Option<DateTime<Utc>>,
}

/// Of the reader, who is one at a time.
#[derive(Default)]
struct Reading {
    tried_at: Option<DateTime<Utc>>,
    /// Tells whether a file is the one that was read.
    stamp: Option<Stamp>,
}

type Stamp = (Option<SystemTime>, u64);

/// How far keys may be trusted for the time since they were read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Age {
    Fresh,
    /// They hold while they are read again.
    Stale,
    /// They hold if they can't be read again.
    Old,
}

impl JwksCache {
    /// Reads a file at once: what is wrong with it is told before anybody comes. An issuer is asked when
    /// its first token comes.
    pub(super) fn new(settings: &TrustedIssuer) -> Result<Self, String> {
        let rules = Rules::new(settings);
        let (mut held, mut reading) = (Held::default(), Reading::default());
        let source = match &settings.keys {
            KeySource::File(path) => {
                let unusable = |problem: String| format!("{}: {problem}", path.display());
                let (set, stamp) = read_file(path).map_err(unusable)?;
                held.keys = Arc::new(rules.keys(&set).map_err(unusable)?);
                if held.keys.is_empty() {
                    return Err(unusable("no key in it has a kid and an algorithm that may sign here".to_owned()));
                }
                reading.stamp = Some(stamp);
                Source::File(path.clone())
            }
            KeySource::Url { url, ca_file } => Source::Url(Box::new(Fetcher::new(url, ca_file.as_deref())?)),
        };
        let reading = Arc::new(Mutex::new(reading));
        Ok(Self(Arc::new(Ring { rules, source, keys: RwLock::new(held), reading })))
    }

    /// The key of this name. One that is not known may have come since the last reading.
    pub(super) async fn find(&self, kid: &str, now: DateTime<Utc>) -> Option<Arc<Key>> {
        let (known, age) = self.0.look(kid, now);
        if age == Age::Fresh && known.is_some() {
            return known;
        }
        let must_wait = age == Age::Old || known.is_none();
        let reading = if must_wait {
            self.0.reading.clone().lock_owned().await
        } else {
            // Somebody is at it, and the key we have holds meanwhile.
            let Ok(reading) = self.0.reading.clone().try_lock_owned() else { return known };
            reading
        };
        if !self.0.is_due(&reading, now) {
            return self.0.look(kid, now).0;
        }
        let ring = self.0.clone();
        let task = tokio::spawn(async move { ring.read(reading, now).await });
        if must_wait {
            // A task that panicked has read nothing.
            let _ = task.await;
            return self.0.look(kid, now).0;
        }
        known
    }
}

impl Ring {
    /// The key as last read, and how long ago that was.
    fn look(&self, kid: &str, now: DateTime<Utc>) -> (Option<Arc<Key>>, Age) {
        let held = self.keys.read().expect("keys lock");
        let (fresh_for, hold_for) = match self.source {
            Source::File(_) => (LOOK_EVERY, LOOK_EVERY),
            Source::Url(_) => (FRESH_FOR, HOLD_FOR),
        };
        let age = match held.read_at {
            Some(at) if is_within(at, now, fresh_for) => Age::Fresh,
            Some(at) if is_within(at, now, hold_for) => Age::Stale,
            _ => Age::Old,
        };
        (held.keys.get(kid).cloned(), age)
    }

    fn is_due(&self, reading: &Reading, now: DateTime<Utc>) -> bool {
        let every = match self.source {
            Source::File(_) => LOOK_EVERY,
            Source::Url(_) => ASK_EVERY,
        };
        !reading.tried_at.is_some_and(|at| is_within(at, now, every))
    }

    async fn read(self: Arc<Self>, mut reading: OwnedMutexGuard<Reading>, now: DateTime<Utc>) {
        reading.tried_at = Some(now);
        let read = match &self.source {
            Source::Url(fetcher) => fetcher.get(MAX_SET_BYTES).await.and_then(|set| self.rules.keys(&set)).map(Some),
            Source::File(path) => self.read_changed(path.clone(), &mut reading).await,
        };
        match read {
            Ok(keys) => {
                let mut held = self.keys.write().expect("keys lock");
                held.read_at = Some(now);
                if let Some(keys) = keys {
                    held.keys = Arc::new(keys);
                }
                if held.keys.is_empty() {
                    let issuer = self.rules.issuer();
                    tracing::warn!(issuer, "no key of a trusted issuer may sign here: its tokens are refused");
                }
            }
            Err(problem) => {
                let issuer = self.rules.issuer();
                tracing::warn!(issuer, problem, "can't read a trusted issuer's keys: those read before hold on");
            }
        }
    }

    /// The keys of a file, unless it is still the one that was read.
    async fn read_changed(&self, path: PathBuf, reading: &mut Reading) -> Result<Option<Keys>, String> {
        let known = reading.stamp;
        let looked = tokio::task::spawn_blocking(move || match stamp(&path) {
            Ok(present) if Some(present) == known => Ok(None),
            _ => read_file(&path).map(Some),
        });
        let Some((set, stamp)) = looked.await.map_err(|error| error.to_string())?? else { return Ok(None) };
        let keys = self.rules.keys(&set)?;
        reading.stamp = Some(stamp);
        Ok(Some(keys))
    }
}

/// A clock that was set back makes it due.
fn is_within(at: DateTime<Utc>, now: DateTime<Utc>, span: TimeDelta) -> bool {
    at <= now && now - at < span
}

fn stamp(path: &Path) -> Result<Stamp, String> {
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    Ok((metadata.modified().ok(), metadata.len()))
}

/// The stamp is taken first: what is written meanwhile is read again.
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
