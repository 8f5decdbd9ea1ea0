//! From what was pushed to what is stored: merged or replaced, checked, its secrets sealed.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::key_ring::KeyRing;
use super::secrets::{self, HIDDEN, Secrets};
use super::{ConfigMode, schema};
use crate::error::Error;
use crate::ids::DeviceId;
use crate::secret_box::CannotOpen;

/// Bytes a configuration may have as the device gets it, in JSON.
const MAX_CONFIG_BYTES: usize = 8 * 1024;
/// Objects and lists within each other.
const MAX_DEPTH: usize = 16;

/// A version's content as it is stored.
pub(super) struct Content {
    /// With a fixed text where a secret belongs.
    pub(super) public: Value,
    /// The secrets, sealed.
    pub(super) secrets: Option<Vec<u8>>,
}

/// The content that a push makes of the one before, and the topmost keys that it changes.
pub(super) fn next(
    before: Option<&Content>,
    pushed: Value,
    mode: ConfigMode,
    device: DeviceId,
    keys: Option<&KeyRing>,
) -> Result<(Content, BTreeSet<String>), Error> {
    if !pushed.is_object() {
        return Err(Error::bad_input("config", "config must be an object"));
    }
    if depth(&pushed) > MAX_DEPTH {
        return Err(Error::bad_input("config", format!("config must not be nested deeper than {MAX_DEPTH}")));
    }
    let before_public = before.map_or_else(|| Value::Object(Map::new()), |before| before.public.clone());
    let mut public = match mode {
        ConfigMode::Replace => pushed,
        ConfigMode::Merge => {
            let mut merged = before_public.clone();
            merge(&mut merged, pushed);
            merged
        }
    };
    schema::check(public.as_object().expect("an object merged into one"))?;
    let mut secrets = secrets::take(&mut public);
    let mut changes = changed(Some(&before_public), &public);
    changes.extend(secrets.0.iter().filter(|(_, secret)| **secret != HIDDEN).map(|(place, _)| secrets::topmost(place)));
    keep(&mut secrets, &public, before, &before_public, device, keys)?;
    let sealed = match secrets.0.keys().next() {
        None => None,
        Some(first) => {
            let keys = keys.ok_or_else(|| no_key(first))?;
            let plain = serde_json::to_vec(&secrets).map_err(Error::internal)?;
            Some(keys.seal(device, plain))
        }
    };
    let mut whole = public.clone();
    secrets::put(&mut whole, &secrets);
    let n_bytes = whole.to_string().len();
    if n_bytes > MAX_CONFIG_BYTES {
        let message = format!("config would have {n_bytes} bytes; it may have {MAX_CONFIG_BYTES}");
        return Err(Error::TooLarge { field: "config", message });
    }
    Ok((Content { public, secrets: sealed }, changes))
}

/// The topmost keys whose values differ.
pub(super) fn changed(before: Option<&Value>, after: &Value) -> BTreeSet<String> {
    let nothing = Map::new();
    let before = before.and_then(Value::as_object).unwrap_or(&nothing);
    let after = after.as_object().unwrap_or(&nothing);
    let keys = before.keys().chain(after.keys());
    keys.filter(|key| before.get(*key) != after.get(*key)).cloned().collect()
}

/// Fills in the secrets for which the hidden text came back.
fn keep(
    secrets: &mut Secrets,
    public: &Value,
    before: Option<&Content>,
    before_public: &Value,
    device: DeviceId,
    keys: Option<&KeyRing>,
) -> Result<(), Error> {
    let mut opened: Option<Secrets> = None;
    for (place, secret) in secrets.0.iter_mut().filter(|(_, secret)| **secret == HIDDEN) {
        let give =
            |why: &str| Error::bad_input("config", format!("{}: {why}; give the secret itself", secrets::name(place)));
        if !secrets::stands_at(place, before_public, public) {
            return Err(give(&format!("there is no secret here for {HIDDEN:?} to keep")));
        }
        let opened = match &mut opened {
            Some(opened) => opened,
            none => {
                let keys = keys.ok_or_else(|| no_key(place))?;
                let sealed = before.and_then(|before| before.secrets.as_deref()).unwrap_or_default();
                let found = open(keys, device, sealed).map_err(|_| give("it was sealed with a key that is not set"))?;
                none.insert(found)
            }
        };
        *secret = opened.0.get(place).cloned().ok_or_else(|| give("it is not there any more"))?;
    }
    Ok(())
}

fn no_key(place: &str) -> Error {
    let name = secrets::name(place);
    let message = format!("{name} is a secret, and this server can keep none: its operator must set ENCRYPTION_KEY");
    Error::bad_input("config", message)
}

fn open(keys: &KeyRing, device: DeviceId, sealed: &[u8]) -> Result<Secrets, CannotOpen> {
    let plain = keys.open(device, sealed)?;
    serde_json::from_slice(&plain).map_err(|_| CannotOpen)
}

/// The configuration as the device gets it.
pub(super) fn whole(
    mut public: Value,
    sealed: Option<&[u8]>,
    device: DeviceId,
    keys: Option<&KeyRing>,
) -> Result<Value, CannotOpen> {
    let Some(sealed) = sealed else { return Ok(public) };
    let secrets = open(keys.ok_or(CannotOpen)?, device, sealed)?;
    if secrets::put(&mut public, &secrets) { Ok(public) } else { Err(CannotOpen) }
}

/// RFC 7396: null deletes, objects merge, all else replaces.
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
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

    use super::*;
    use crate::settings::EncryptionSettings;

    const DEVICE: fn() -> DeviceId = || DeviceId::from_database(7);

    fn key_ring() -> KeyRing {
        let key = |name: &str| (name == "ENCRYPTION_KEY").then(|| STANDARD.encode([3; 32]));
        KeyRing::new(&EncryptionSettings::read(&key).unwrap()).unwrap()
    }

    fn push(before: Option<&Content>, pushed: Value, mode: ConfigMode) -> Result<Content, Error> {
        next(before, pushed, mode, DEVICE(), Some(&key_ring())).map(|(content, _)| content)
    }

    fn sent(content: &Content) -> Value {
        whole(content.public.clone(), content.secrets.as_deref(), DEVICE(), Some(&key_ring())).unwrap()
    }

    /// The table of the RFC's appendix.
    #[test]
    fn a_merge_patch_is_that_of_rfc_7396() {
        for (original, patch, result) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a": "b"}), json!(["c"]), json!(["c"])),
            (json!({"a": "foo"}), json!(null), json!(null)),
            (json!({"a": "foo"}), json!("bar"), json!("bar")),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            let mut target = original.clone();
            merge(&mut target, patch.clone());
            assert_eq!(target, result, "{original} with {patch}");
        }
    }

    #[test]
    fn what_was_read_can_be_written_back_and_keeps_its_secrets() {
        let wifi = json!({"wifiConfig": {"ssid": "home", "password": "canary-1"}, "sampleRate": 5});
        let first = push(None, wifi.clone(), ConfigMode::Merge).unwrap();
        assert!(!first.public.to_string().contains("canary"));
        assert_eq!(sent(&first), wifi);
        for mode in [ConfigMode::Merge, ConfigMode::Replace] {
            let mut read = first.public.clone();
            read["sampleRate"] = json!(9);
            let second = push(Some(&first), read, mode).unwrap();
            assert_eq!(sent(&second)["wifiConfig"]["password"], "canary-1");
            assert_eq!(sent(&second)["sampleRate"], 9);
        }
        let merged = push(Some(&first), json!({"apiToken": "canary-2"}), ConfigMode::Merge).unwrap();
        assert_eq!(sent(&merged)["wifiConfig"]["password"], "canary-1");
        assert_eq!(sent(&merged)["apiToken"], "canary-2");
        let gone = push(Some(&merged), json!({"wifiConfig": null, "apiToken": null}), ConfigMode::Merge).unwrap();
        assert_eq!((sent(&gone), gone.secrets.is_none()), (json!({"sampleRate": 5}), true));
        let nothing = push(Some(&first), json!({"token": HIDDEN}), ConfigMode::Merge);
        assert!(nothing.err().unwrap().to_string().contains("config.token"));
    }

    #[test]
    fn a_push_tells_the_keys_it_changes_secrets_among_them() {
        let next =
            |before: Option<&Content>, pushed, mode| next(before, pushed, mode, DEVICE(), Some(&key_ring())).unwrap();
        let pushed =
            json!({"sampleRate": 5, "wifiConfig": {"ssid": "home", "password": "canary-1"}, "a/b~token": "canary-2"});
        let (first, keys) = next(None, pushed, ConfigMode::Merge);
        assert_eq!(keys.iter().map(String::as_str).collect::<Vec<_>>(), ["a/b~token", "sampleRate", "wifiConfig"]);
        for (pushed, mode, expected) in [
            (json!({"sampleRate": 5}), ConfigMode::Merge, &[][..]),
            (first.public.clone(), ConfigMode::Replace, &[]),
            (json!({"wifiConfig": {"password": "canary-3"}}), ConfigMode::Merge, &["wifiConfig"]),
            (json!({"sampleRate": 6}), ConfigMode::Replace, &["a/b~token", "sampleRate", "wifiConfig"]),
            (json!({"sampleRate": null}), ConfigMode::Merge, &["sampleRate"]),
        ] {
            let (_, keys) = next(Some(&first), pushed.clone(), mode);
            assert_eq!(keys.iter().map(String::as_str).collect::<Vec<_>>(), expected, "{pushed}");
        }
    }

    #[test]
    fn without_a_key_a_secret_is_refused_by_name_and_the_rest_is_taken() {
        let without = |before, pushed| next(before, pushed, ConfigMode::Merge, DEVICE(), None);
        let error = without(None, json!({"a": [{"token": "canary"}]})).err().unwrap();
        assert_eq!(error.code(), "BAD_USER_INPUT");
        let text = error.to_string();
        assert!(text.contains("config.a.0.token") && text.contains("ENCRYPTION_KEY") && !text.contains("canary"));
        assert!(without(None, json!({"token": null, "sampleRate": 1})).is_ok());
        let sealed = push(None, json!({"token": "canary"}), ConfigMode::Merge).unwrap();
        assert!(without(Some(&sealed), json!({"sampleRate": 1})).err().unwrap().to_string().contains("ENCRYPTION_KEY"));
        assert!(without(Some(&sealed), json!({"token": null})).is_ok());
    }

    #[test]
    fn size_depth_and_shape_are_bounded() {
        let fits = json!({"x": "y".repeat(MAX_CONFIG_BYTES - 8)});
        assert_eq!(fits.to_string().len(), MAX_CONFIG_BYTES);
        let full = push(None, fits, ConfigMode::Merge).unwrap();
        let code = |result: Result<Content, Error>| result.err().unwrap().code();
        assert_eq!(code(push(Some(&full), json!({"z": 1}), ConfigMode::Merge)), "PAYLOAD_TOO_LARGE");
        let secret = json!({"token": "y".repeat(MAX_CONFIG_BYTES)});
        assert_eq!(code(push(None, secret, ConfigMode::Merge)), "PAYLOAD_TOO_LARGE");
        for wrong in [json!([]), json!("x"), json!(null)] {
            assert_eq!(code(push(None, wrong, ConfigMode::Merge)), "BAD_USER_INPUT");
        }
        let nested = |levels| (0..levels).fold(json!(1), |inner, _| json!({"x": inner}));
        assert!(push(None, nested(MAX_DEPTH), ConfigMode::Merge).is_ok());
        assert_eq!(code(push(None, nested(MAX_DEPTH + 1), ConfigMode::Merge)), "BAD_USER_INPUT");
    }
}
