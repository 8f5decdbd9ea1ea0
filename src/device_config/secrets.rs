//! Secrets in a configuration: taken out of it, put back into it. What is shown in their place is a
//! fixed text, which, pushed back, keeps what stands there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::validation::is_secret_key;

/// Shown where a secret belongs.
pub(super) const HIDDEN: &str = "[secret]";

/// Secrets by their place, a JSON pointer. Has no `Debug`.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Secrets(pub(super) BTreeMap<String, Value>);

/// Takes the secrets out, wherever they stand: the value of a key that names one, unless it is null.
pub(super) fn take(config: &mut Value) -> Secrets {
    let mut secrets = Secrets::default();
    walk(config, &mut String::new(), &mut secrets);
    secrets
}

fn walk(value: &mut Value, place: &mut String, secrets: &mut Secrets) {
    let here = place.len();
    let mut step = |key: &str, value: &mut Value, is_secret: bool| {
        place.push('/');
        place.push_str(&key.replace('~', "~0").replace('/', "~1"));
        if is_secret {
            secrets.0.insert(place.clone(), std::mem::replace(value, Value::from(HIDDEN)));
        } else {
            walk(value, place, secrets);
        }
        place.truncate(here);
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

/// Puts them back. False if a place is no more.
pub(super) fn put(config: &mut Value, secrets: &Secrets) -> bool {
    secrets.0.iter().all(|(place, secret)| match config.pointer_mut(place) {
        Some(value) => {
            *value = secret.clone();
            true
        }
        None => false,
    })
}

/// Whether the same secret may go on standing at this place: one stands there, and where a list leads
/// to it, the list is the same, or who is who in it would be a guess.
pub(super) fn stands_at(place: &str, before: &Value, now: &Value) -> bool {
    let stands = before.pointer(place).is_some_and(|value| value == HIDDEN);
    let mut list = None;
    for (at, _) in place.match_indices('/') {
        if before.pointer(&place[..at]).is_some_and(Value::is_array) {
            list = Some(&place[..at]);
            break;
        }
    }
    stands && list.is_none_or(|list| before.pointer(list) == now.pointer(list))
}

/// The topmost key on the way to a place.
pub(super) fn topmost(place: &str) -> String {
    let key = place.split('/').nth(1).unwrap_or_default();
    key.replace("~1", "/").replace("~0", "~")
}

/// The place as people write it: `config.wifiConfig.password`.
pub(super) fn name(place: &str) -> String {
    format!("config{}", place.replace('/', ".").replace("~1", "/").replace("~0", "~"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_found_at_any_depth_and_come_back() {
        let whole = json!({
            "a": {"b": [{"c": {"wifiPassword": "s1", "ssid": "x"}}, [{"TOKEN": {"deep": ["s2"]}}]]},
            "client_secret": 7, "a/b~": {"secret": false}, "token": null, "tokens": "public", "password": "",
        });
        let mut config = whole.clone();
        let secrets = take(&mut config);
        assert_eq!(
            config,
            json!({
                "a": {"b": [{"c": {"wifiPassword": HIDDEN, "ssid": "x"}}, [{"TOKEN": HIDDEN}]]},
                "client_secret": HIDDEN, "a/b~": {"secret": HIDDEN}, "token": null, "tokens": "public",
                "password": HIDDEN,
            })
        );
        assert_eq!(secrets.0.len(), 5);
        assert_eq!(secrets.0["/a/b/0/c/wifiPassword"], "s1");
        let names: Vec<_> = secrets.0.keys().map(|place| name(place)).collect();
        assert!(names.contains(&"config.a/b~.secret".to_owned()), "{names:?}");
        assert!(put(&mut config, &secrets));
        assert_eq!(config, whole);
        assert!(!put(&mut json!({}), &secrets));
    }

    #[test]
    fn a_secret_stays_where_it_is_and_in_a_list_only_while_that_is_the_same() {
        let before = json!({"w": {"password": HIDDEN}, "l": [{"n": 1, "token": HIDDEN}, {"n": 2, "token": HIDDEN}]});
        assert!(stands_at("/w/password", &before, &json!({"w": {"password": HIDDEN, "ssid": "new"}})));
        assert!(!stands_at("/v/password", &before, &json!({"v": {"password": HIDDEN}})));
        assert!(stands_at("/l/1/token", &before, &before));
        assert!(!stands_at("/l/0/token", &before, &json!({"l": [{"n": 2, "token": HIDDEN}]})));
    }
}
