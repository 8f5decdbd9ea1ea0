use serde_json::json;

use super::*;

fn new(kind: &str, payload: &Value) -> NewCommand {
    NewCommand {
        kind: kind.to_owned(),
        payload: JsonText::of(payload),
        source: CommandSource::User,
        correlation_id: None,
        idempotency_key: None,
        on_stale: None,
        expect: None,
        timeout_seconds: None,
        expires_in_seconds: None,
    }
}

fn check(new: NewCommand) -> Result<Checked, Error> {
    new.checked(DeviceId::from_database(1), DeviceType::Light)
}

fn field(new: NewCommand) -> &'static str {
    match check(new).unwrap_err() {
        Error::BadInput { field, .. } | Error::TooLarge { field, .. } => field,
        error => panic!("{error:?}"),
    }
}

#[test]
fn payloads_of_the_device_protocol_are_checked_and_others_pass() {
    for (kind, payload) in [
        ("SET_POWER", json!({"power": true})),
        ("SET_POWER", json!({"power": false, "brightness": 0, "color": "#ff8800", "more": [1]})),
        ("SET_BRIGHTNESS", json!({"brightness": 100})),
        ("SET_COLOR", json!({"color": "#FFFFFF"})),
        ("RESET", json!({})),
        ("UPDATE_CONFIG", json!({"sampleRate": 5, "tokens": 3, "a": [{"ssid": "x"}]})),
        ("set_power", json!({"power": "yes"})),
        ("vendor:blink.v2", json!([1, null])),
        ("BLINK", json!("x")),
        ("BLINK", json!(null)),
    ] {
        assert!(check(new(kind, &payload)).is_ok(), "{kind} {payload}");
    }
    for (kind, payload, invalid) in [
        ("SET_POWER", json!({}), "payload.power"),
        ("SET_POWER", json!({"power": 1}), "payload.power"),
        ("SET_POWER", json!({"power": true, "brightness": 101}), "payload.brightness"),
        ("SET_POWER", json!({"power": true, "color": "red"}), "payload.color"),
        ("SET_POWER", json!([]), "payload"),
        ("SET_BRIGHTNESS", json!({}), "payload.brightness"),
        ("SET_BRIGHTNESS", json!({"brightness": -1}), "payload.brightness"),
        ("SET_BRIGHTNESS", json!({"brightness": "50"}), "payload.brightness"),
        ("SET_COLOR", json!({"color": "#FFF"}), "payload.color"),
        ("SET_COLOR", json!({"color": "#GGGGGG"}), "payload.color"),
        ("SET_COLOR", json!({"brightness": 1}), "payload.color"),
        ("RESET", json!(null), "payload"),
        ("UPDATE_CONFIG", json!(7), "payload"),
        ("UPDATE_CONFIG", json!({"a": [{"wifiPassword": "x"}]}), "payload"),
        ("UPDATE_CONFIG", json!({"API_TOKEN": null}), "payload"),
        ("", json!({}), "type"),
        ("A B", json!({}), "type"),
        ("Ä", json!({}), "type"),
        (&"x".repeat(65), json!({}), "type"),
        ("BLINK", json!("x".repeat(8192)), "payload"),
    ] {
        assert_eq!(field(new(kind, &payload)), invalid, "{kind} {payload}");
    }
    assert_eq!(check(new("BLINK", &json!("x".repeat(8192)))).unwrap_err().code(), "PAYLOAD_TOO_LARGE");
    let deep = serde_json::value::RawValue::from_string(format!("{}{}", "[".repeat(127), "]".repeat(127))).unwrap();
    let deep = JsonText::of(&[&*deep; 2]);
    assert_eq!(field(NewCommand { payload: deep, ..new("BLINK", &json!(0)) }), "payload");
}

#[test]
fn defaults_depend_on_the_type_and_the_device() {
    let seconds = |new: NewCommand, kind| {
        new.checked(DeviceId::from_database(1), kind).map(|checked| checked.expires_in.as_secs()).unwrap()
    };
    let (power, reset) = (new("SET_POWER", &json!({"power": true})), new("RESET", &json!({})));
    assert_eq!(seconds(power.clone(), DeviceType::Light), 300);
    assert_eq!(seconds(power.clone(), DeviceType::Door), 30);
    assert_eq!(seconds(reset.clone(), DeviceType::Light), 30);
    assert_eq!(seconds(NewCommand { expires_in_seconds: Some(300), ..reset.clone() }, DeviceType::Door), 300);
    let checked = check(power.clone()).unwrap();
    assert_eq!((checked.on_stale, checked.timeout_seconds), (OnStale::Supersede, 30));
    assert!(checked.correlation_id.starts_with("corr_") && checked.correlation_id.len() == 31);
    assert_eq!(check(reset).unwrap().on_stale, OnStale::Expire);
    let expire = NewCommand { on_stale: Some(OnStale::Expire), ..power };
    assert_eq!(check(expire).unwrap().on_stale, OnStale::Expire);
}

#[test]
fn every_limit_is_enforced_and_names_its_field() {
    let base = || new("BLINK", &json!({}));
    let text = |n: usize| Some("x".repeat(n));
    for (valid, invalid, name) in [
        (
            NewCommand { timeout_seconds: Some(86_400), ..base() },
            NewCommand { timeout_seconds: Some(86_401), ..base() },
            "timeoutSeconds",
        ),
        (
            NewCommand { timeout_seconds: Some(1), ..base() },
            NewCommand { timeout_seconds: Some(0), ..base() },
            "timeoutSeconds",
        ),
        (
            NewCommand { expires_in_seconds: Some(604_800), ..base() },
            NewCommand { expires_in_seconds: Some(604_801), ..base() },
            "expiresInSeconds",
        ),
        (
            NewCommand { correlation_id: text(128), ..base() },
            NewCommand { correlation_id: text(129), ..base() },
            "correlationId",
        ),
        (
            NewCommand { idempotency_key: text(128), ..base() },
            NewCommand { idempotency_key: text(0), ..base() },
            "idempotencyKey",
        ),
        (
            NewCommand { expect: Some(JsonText::of(&json!({"online": true}))), ..base() },
            NewCommand { expect: Some(JsonText::of(&json!({"online": null}))), ..base() },
            "expect",
        ),
    ] {
        assert!(check(valid).is_ok(), "{name}");
        assert_eq!(field(invalid), name);
    }
    let control = NewCommand { idempotency_key: Some("a\nb".to_owned()), ..base() };
    assert_eq!(field(control), "idempotencyKey");
}

#[test]
fn every_given_field_is_part_of_the_digest() {
    let base = || NewCommand { idempotency_key: Some("k".to_owned()), ..new("BLINK", &json!({"a": 1, "b": 2})) };
    let digest = |new: NewCommand, device| {
        let checked = new.checked(DeviceId::from_database(device), DeviceType::Light).unwrap();
        checked.idempotency.unwrap().1
    };
    let first = digest(base(), 1);
    assert_eq!(digest(base(), 1), first);
    for (other, device) in [
        (base(), 2),
        (NewCommand { kind: "BLINK2".to_owned(), ..base() }, 1),
        (NewCommand { payload: JsonText::of(&json!({"a": 1})), ..base() }, 1),
        (NewCommand { correlation_id: Some("c".to_owned()), ..base() }, 1),
        (NewCommand { expires_in_seconds: Some(300), ..base() }, 1),
        (NewCommand { on_stale: Some(OnStale::Supersede), ..base() }, 1),
    ] {
        assert_ne!(digest(other, device), first);
    }
}
