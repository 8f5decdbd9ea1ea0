//! From a pushed configuration to a stored one: merged or replaced, checked, its secrets sealed.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::key_ring::KeyRing;
use super::secrets::{self, PLACEHOLDER, Secrets};
use super::{ConfigMode, schema};
use crate::error::Error;
use crate::ids::DeviceId;
use crate::secret_box::CannotOpen;

/// Bytes of a configuration in the device's message, as JSON.
const MAX_CONFIG_BYTES: usize = 8 * 1024;
/// Levels of nested objects and lists.
const MAX_DEPTH: usize = 16;

/// The stored content of a version.
#[cfg_attr(test, derive(Clone))]
pub(super) struct Content {
    /// With a placeholder for each secret.
    pub(super) public: Value,
    /// The secrets, sealed.
    pub(super) secrets: Option<Vec<u8>>,
}

/// A device and the keys of this server, if it has any: what seals and opens the device's secrets.
#[derive(Clone, Copy)]
pub(super) struct DeviceKeys<'a> {
    pub(super) device: DeviceId,
    pub(super) key_ring: Option<&'a KeyRing>,
}

impl DeviceKeys<'_> {
    fn seal(self, secrets: &Secrets) -> Result<Option<Vec<u8>>, Error> {
        let Some(first) = secrets.0.keys().next() else { return Ok(None) };
        let key_ring = self.key_ring.ok_or_else(|| no_key(first))?;
        let plain = serde_json::to_vec(secrets).map_err(Error::internal)?;
        Ok(Some(key_ring.seal(self.device, plain)))
    }

    fn open(self, sealed: &[u8]) -> Result<Secrets, CannotOpen> {
        let plain = self.key_ring.ok_or(CannotOpen)?.open(self.device, sealed)?;
        serde_json::from_slice(&plain).map_err(|_| CannotOpen)
    }
}

fn no_key(pointer: &str) -> Error {
    let name = secrets::display_path(pointer);
    let message =
        format!("{name} is a secret, and this server has no key for secrets: its operator must set ENCRYPTION_KEY");
    Error::bad_input("config", message)
}

/// The content of the version that a push makes, and the top-level keys that it changes. `newest` is the version
/// before, if there is one.
pub(super) fn push(
    newest: Option<Content>,
    pushed: Value,
    mode: ConfigMode,
    keys: DeviceKeys<'_>,
) -> Result<(Content, BTreeSet<String>), Error> {
    if !pushed.is_object() {
        return Err(Error::bad_input("config", "config must be an object"));
    }
    if depth(&pushed) > MAX_DEPTH {
        return Err(Error::bad_input("config", format!("config must not be nested deeper than {MAX_DEPTH}")));
    }
    let newest = newest.unwrap_or_else(|| Content { public: Value::Object(Map::new()), secrets: None });
    let mut public = match mode {
        ConfigMode::Replace => pushed,
        ConfigMode::Merge => {
            let mut merged = newest.public.clone();
            merge(&mut merged, pushed);
            merged
        }
    };
    schema::check(public.as_object().expect("an object merged into one"))?;
    let mut secrets = secrets::extract(&mut public);
    let mut changed = changed_keys(Some(&newest.public), &public);
    let new_secrets = secrets.0.iter().filter(|(_, secret)| **secret != PLACEHOLDER);
    changed.extend(new_secrets.map(|(pointer, _)| secrets::top_level_key(pointer)));
    merge_kept_secrets(&mut secrets, &public, &newest, keys)?;
    let sealed = keys.seal(&secrets)?;
    let mut whole = public.clone();
    secrets::insert(&mut whole, &secrets);
    let n_bytes = whole.to_string().len();
    if n_bytes > MAX_CONFIG_BYTES {
        let message = format!("config would have {n_bytes} bytes; the limit is {MAX_CONFIG_BYTES}");
        return Err(Error::TooLarge { field: "config", message });
    }
    Ok((Content { public, secrets: sealed }, changed))
}

/// The top-level keys whose values differ.
pub(super) fn changed_keys(before: Option<&Value>, after: &Value) -> BTreeSet<String> {
    let nothing = Map::new();
    let before = before.and_then(Value::as_object).unwrap_or(&nothing);
    let after = after.as_object().unwrap_or(&nothing);
    let keys = before.keys().chain(after.keys());
    keys.filter(|key| before.get(*key) != after.get(*key)).cloned().collect()
}

/// Replaces each pushed placeholder with the secret of the newest version.
fn merge_kept_secrets(
    secrets: &mut Secrets,
    public: &Value,
    newest: &Content,
    keys: DeviceKeys<'_>,
) -> Result<(), Error> {
    let mut opened: Option<Secrets> = None;
    for (pointer, secret) in secrets.0.iter_mut().filter(|(_, secret)| **secret == PLACEHOLDER) {
        let refuse = |why: &str| {
            let path = secrets::display_path(pointer);
            Error::bad_input("config", format!("{path}: {why}; push the secret itself"))
        };
        if !secrets::can_keep(pointer, &newest.public, public) {
            return Err(refuse(&format!("the newest version has no secret here that {PLACEHOLDER:?} could keep")));
        }
        let opened = match &mut opened {
            Some(opened) => opened,
            none => {
                keys.key_ring.ok_or_else(|| no_key(pointer))?;
                let sealed = newest.secrets.as_deref().unwrap_or_default();
                none.insert(keys.open(sealed).map_err(|_| refuse("it was sealed with a key that is not set"))?)
            }
        };
        *secret = opened.0.get(pointer).cloned().ok_or_else(|| refuse("the newest version lacks this secret"))?;
    }
    Ok(())
}

/// The content of an old version again, and the top-level keys that differ from the newest version.
pub(super) fn roll_back(
    newest: Option<Content>,
    old: Content,
    keys: DeviceKeys<'_>,
) -> Result<(Content, BTreeSet<String>), Error> {
    let Ok(whole) = with_secrets(old.public.clone(), old.secrets.as_deref(), keys) else {
        let message = "the secrets of that version were sealed with a key that is not set: push them again, or have \
                       the operator set that key as ENCRYPTION_KEY_PREVIOUS";
        return Err(Error::bad_input("toVersion", message));
    };
    // If the newest version does not open, its public part is compared: which secrets differ is unknown.
    let newest = newest
        .map(|newest| with_secrets(newest.public.clone(), newest.secrets.as_deref(), keys).unwrap_or(newest.public));
    Ok((old, changed_keys(newest.as_ref(), &whole)))
}

/// The configuration with its secrets, as the device gets it.
pub(super) fn with_secrets(
    mut public: Value,
    sealed: Option<&[u8]>,
    keys: DeviceKeys<'_>,
) -> Result<Value, CannotOpen> {
    let Some(sealed) = sealed else { return Ok(public) };
    let secrets = keys.open(sealed)?;
    if secrets::insert(&mut public, &secrets) { Ok(public) } else { Err(CannotOpen) }
}

/// Merge patch (RFC 7396): null deletes a key, objects merge, every other value replaces.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let entries = target.as_object_mut().expect("made one just now");
    for (key, value) in patch {
        if value.is_null() {
            entries.remove(&key);
        } else {
            merge(entries.entry(key).or_insert(Value::Null), value);
        }
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Object(entries) => 1 + entries.values().map(depth).max().unwrap_or_default(),
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or_default(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
