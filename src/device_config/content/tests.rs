//! Merging, secrets and limits, without a database.

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

/// A push to a server with the key, or without one.
fn push_with(
    has_key: bool,
    newest: Option<&Content>,
    pushed: Value,
    mode: ConfigMode,
) -> Result<(Content, BTreeSet<String>), Error> {
    let key_ring = key_ring();
    let keys = DeviceKeys { device: DEVICE(), key_ring: has_key.then_some(&key_ring) };
    super::push(newest.cloned(), pushed, mode, keys)
}

fn push(newest: Option<&Content>, pushed: Value, mode: ConfigMode) -> Result<Content, Error> {
    push_with(true, newest, pushed, mode).map(|(content, _)| content)
}

fn sent(content: &Content) -> Value {
    let keys = DeviceKeys { device: DEVICE(), key_ring: Some(&key_ring()) };
    with_secrets(content.public.clone(), content.secrets.as_deref(), keys).unwrap()
}

/// The table of the RFC's appendix.
#[test]
fn merge_follows_rfc_7396() {
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
fn a_configuration_that_was_read_can_be_pushed_back_with_its_secrets() {
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
    let removed = push(Some(&merged), json!({"wifiConfig": null, "apiToken": null}), ConfigMode::Merge).unwrap();
    assert_eq!((sent(&removed), removed.secrets.is_none()), (json!({"sampleRate": 5}), true));
    let nothing = push(Some(&first), json!({"token": PLACEHOLDER}), ConfigMode::Merge);
    assert!(nothing.err().unwrap().to_string().contains("config.token"));
}

#[test]
fn a_push_names_the_keys_it_changes_including_secrets() {
    let push = |newest: Option<&Content>, pushed, mode| push_with(true, newest, pushed, mode).unwrap();
    let pushed =
        json!({"sampleRate": 5, "wifiConfig": {"ssid": "home", "password": "canary-1"}, "a/b~token": "canary-2"});
    let (first, keys) = push(None, pushed, ConfigMode::Merge);
    assert_eq!(keys.iter().map(String::as_str).collect::<Vec<_>>(), ["a/b~token", "sampleRate", "wifiConfig"]);
    for (pushed, mode, expected) in [
        (json!({"sampleRate": 5}), ConfigMode::Merge, &[][..]),
        (first.public.clone(), ConfigMode::Replace, &[]),
        (json!({"wifiConfig": {"password": "canary-3"}}), ConfigMode::Merge, &["wifiConfig"]),
        (json!({"sampleRate": 6}), ConfigMode::Replace, &["a/b~token", "sampleRate", "wifiConfig"]),
        (json!({"sampleRate": null}), ConfigMode::Merge, &["sampleRate"]),
    ] {
        let (_, keys) = push(Some(&first), pushed.clone(), mode);
        assert_eq!(keys.iter().map(String::as_str).collect::<Vec<_>>(), expected, "{pushed}");
    }
}

#[test]
fn without_a_key_a_secret_is_refused_by_name_and_other_values_are_accepted() {
    let without = |newest, pushed| push_with(false, newest, pushed, ConfigMode::Merge);
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
