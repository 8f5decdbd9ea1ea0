//! Secrets in a configuration: extracted from it, inserted into it. A placeholder is shown instead of a secret;
//! pushed back, it keeps the secret.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::validation::is_secret_key;

/// Shown instead of a secret.
pub(super) const PLACEHOLDER: &str = "[secret]";

/// Secrets by JSON pointer (RFC 6901). Has no `Debug`.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Secrets(pub(super) BTreeMap<String, Value>);

/// Replaces every secret with the placeholder, at any depth. A secret is the value of a key that names one, unless
/// it is null.
pub(super) fn extract(config: &mut Value) -> Secrets {
    let mut secrets = Secrets::default();
    walk(config, &mut String::new(), &mut secrets);
    secrets
}

fn walk(value: &mut Value, pointer: &mut String, secrets: &mut Secrets) {
    let n_bytes = pointer.len();
    let mut step = |key: &str, value: &mut Value, is_secret: bool| {
        pointer.push('/');
        pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
        if is_secret {
            secrets.0.insert(pointer.clone(), std::mem::replace(value, Value::from(PLACEHOLDER)));
        } else {
            walk(value, pointer, secrets);
        }
        pointer.truncate(n_bytes);
    };
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                let is_secret = is_secret_key(key) && !value.is_null();
                step(key, value, is_secret);
            }
        }
        Value::Array(items) => {
            for (n, value) in items.iter_mut().enumerate() {
                step(&n.to_string(), value, false);
            }
        }
        _ => {}
    }
}

/// Puts the secrets where their placeholders are. False if the configuration lacks one of the pointers.
pub(super) fn insert(config: &mut Value, secrets: &Secrets) -> bool {
    secrets.0.iter().all(|(pointer, secret)| match config.pointer_mut(pointer) {
        Some(value) => {
            *value = secret.clone();
            true
        }
        None => false,
    })
}

/// Whether a pushed placeholder can keep the secret of the version before: that version has a secret at this
/// pointer, and a list on the way to it has not changed. In a changed list the items can't be told apart.
pub(super) fn can_keep(pointer: &str, before: &Value, after: &Value) -> bool {
    let is_secret = before.pointer(pointer).is_some_and(|value| value == PLACEHOLDER);
    let parents = pointer.match_indices('/').map(|(at, _)| &pointer[..at]);
    let outermost_list = parents.into_iter().find(|parent| before.pointer(parent).is_some_and(Value::is_array));
    is_secret && outermost_list.is_none_or(|list| before.pointer(list) == after.pointer(list))
}

/// The top-level key of a pointer.
pub(super) fn top_level_key(pointer: &str) -> String {
    let key = pointer.split('/').nth(1).unwrap_or_default();
    key.replace("~1", "/").replace("~0", "~")
}

/// The pointer as people write it: `config.wifiConfig.password`.
pub(super) fn display_path(pointer: &str) -> String {
    format!("config{}", pointer.replace('/', ".").replace("~1", "/").replace("~0", "~"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_extracted_at_any_depth_and_inserted_again() {
        let whole = json!({
            "a": {"b": [{"c": {"wifiPassword": "s1", "ssid": "x"}}, [{"TOKEN": {"deep": ["s2"]}}]]},
            "client_secret": 7, "a/b~": {"secret": false}, "token": null, "tokens": "public", "password": "",
        });
        let mut config = whole.clone();
        let secrets = extract(&mut config);
        assert_eq!(
            config,
            json!({
                "a": {"b": [{"c": {"wifiPassword": PLACEHOLDER, "ssid": "x"}}, [{"TOKEN": PLACEHOLDER}]]},
                "client_secret": PLACEHOLDER, "a/b~": {"secret": PLACEHOLDER}, "token": null, "tokens": "public",
                "password": PLACEHOLDER,
            })
        );
        assert_eq!(secrets.0.len(), 5);
        assert_eq!(secrets.0["/a/b/0/c/wifiPassword"], "s1");
        let names: Vec<_> = secrets.0.keys().map(|pointer| display_path(pointer)).collect();
        assert!(names.contains(&"config.a/b~.secret".to_owned()), "{names:?}");
        assert!(insert(&mut config, &secrets));
        assert_eq!(config, whole);
        assert!(!insert(&mut json!({}), &secrets));
    }

    #[test]
    fn a_placeholder_keeps_its_secret_and_in_a_list_only_if_the_list_is_unchanged() {
        let before = json!({"w": {"password": PLACEHOLDER}, "l": [{"n": 1, "token": PLACEHOLDER}, {"n": 2, "token": PLACEHOLDER}]});
        assert!(can_keep("/w/password", &before, &json!({"w": {"password": PLACEHOLDER, "ssid": "new"}})));
        assert!(!can_keep("/v/password", &before, &json!({"v": {"password": PLACEHOLDER}})));
        assert!(can_keep("/l/1/token", &before, &before));
        assert!(!can_keep("/l/0/token", &before, &json!({"l": [{"n": 2, "token": PLACEHOLDER}]})));
    }
}
