use super::status::MAX_STATE_BYTES;
use super::*;
use serde_json::json;

fn now() -> DateTime<Utc> {
    "2026-02-13T12:00:01Z".parse().unwrap()
}

fn read(text: &str) -> (Option<DateTime<Utc>>, Measurement, usize) {
    match parse(MessageKind::Telemetry, text.as_bytes(), now()) {
        Ok(Content::Telemetry { timestamp, measurement, n_dropped }) => (timestamp, *measurement, n_dropped),
        other => panic!("{other:?}"),
    }
}

#[test]
fn telemetry_of_the_protocol_document_is_read_completely() {
    let (timestamp, m, n_dropped) = read(
        r#"{"timestamp":"2026-02-13T12:00:00.000Z","deviceId":"ESP32_001","sensors":{"current":0.75,"gasPpm":450,
        "flame":false,"binLevel":45.2,"powerW":120.5,"energyKwh":2.45,"voltageV":220.3,"currentA":0.55,
        "frequencyHz":50.1,"powerFactor":0.95,"distanceCm":15.2,"temperature":23.5,"humidity":65.2},
        "metadata":{"firmwareVersion":"v2.1.0","signalStrength":-45,"batteryLevel":85,"freeMemory":45000}}"#,
    );
    assert_eq!(timestamp, Some("2026-02-13T12:00:00Z".parse().unwrap()));
    assert_eq!((m.sensors.gas_ppm, m.sensors.flame, m.sensors.humidity), (Some(450.0), Some(false), Some(65.2)));
    assert_eq!(m.report.firmware_version.as_deref(), Some("v2.1.0"));
    assert_eq!((m.report.signal_strength, m.report.battery_level), (Some(-45.0), Some(85.0)));
    assert_eq!((m.extra, m.metadata, n_dropped), (None, Some(json!({"freeMemory": 45000})), 0));
}

#[test]
fn one_bad_reading_never_costs_the_others() {
    let (_, m, n_dropped) = read(
        r#"{"seq":7,"sensors":{"temperature":"NaN","humidity":61,"flame":1,"powerW":1e999,"current":null,"co2":612,
        "note":"a\u0000b"}}"#,
    );
    assert_eq!((m.sensors.temperature, m.sensors.humidity, m.sensors.flame), (None, Some(61.0), None));
    assert_eq!(m.extra, Some(json!({"temperature": "NaN", "flame": 1, "co2": 612})));
    assert_eq!(m.metadata, Some(json!({"seq": 7})));
    assert_eq!(n_dropped, 2);
}

#[test]
fn known_names_are_read_wherever_they_stand() {
    let many = (0..70).map(|i| format!(r#""k{i}":{i},"#)).collect::<String>();
    let (timestamp, m, n_dropped) = read(&format!(
        r#"{{{many}"metadata":{{{many}"firmwareVersion":"v2"}},"sensors":{{{many}"temperature":21.5}},
        "timestamp":"2026-02-13T12:00:00Z"}}"#
    ));
    assert!(timestamp.is_some());
    assert_eq!((m.sensors.temperature, m.report.firmware_version.as_deref()), (Some(21.5), Some("v2")));
    assert_eq!(n_dropped, 18, "6 of each object are counted");
    let status = format!(r#"{{{many}"online":false}}"#);
    let Ok(Content::Status(status)) = parse(MessageKind::Status, status.as_bytes(), now()) else { panic!() };
    assert!(!status.online);
}

#[test]
fn the_memory_of_any_message_is_bounded() {
    for (item, n) in [("[0],", 256), (r#"{"":0},"#, 256), (r#"{"a":{"b":{"c":0}}},"#, 128), ("[[[0]]],", 256)] {
        // As many such values as a message may have, in readings and in metadata.
        let value = format!("[{}0]", item.repeat(n));
        let n_values = 48 * 1024 / (value.len() + 8);
        let object = |n: usize| (0..n).map(|i| format!(r#""k{i}":{value}"#)).collect::<Vec<_>>().join(",");
        let (sensors, metadata) = (object((n_values / 2).min(60)), object((n_values / 2).min(60)));
        let telemetry = format!(
            r#"{{"sensors":{{"co2":612,{sensors},"temperature":20}},"metadata":{{{metadata}}},"timestamp":"1"}}"#
        );
        let status = format!(r#"{{"online":true,{}}}"#, object(n_values.min(60)));
        for (kind, text) in [(MessageKind::Telemetry, &telemetry), (MessageKind::Status, &status)] {
            assert!(text.len() <= MAX_PAYLOAD_BYTES);
            let content = parse(kind, text.as_bytes(), now()).unwrap();
            let memory = text.len() + content.memory_bytes();
            assert!(memory <= 5 * MAX_PAYLOAD_BYTES, "{kind:?} of {} bytes, {item}: {memory} bytes", text.len());
        }
        let (_, m, n_dropped) = read(&telemetry);
        assert_eq!((m.sensors.temperature, m.extra.unwrap()["co2"].as_i64()), (Some(20.0), Some(612)));
        assert!(n_dropped > 0, "values over the budget are counted");
    }
}

#[test]
fn each_fault_has_its_own_reason() {
    let huge = format!(r#"{{"sensors":{{"x":"{}"}}}}"#, "y".repeat(MAX_PAYLOAD_BYTES));
    for (payload, reason) in [
        (&b"\xff\xfe"[..], Rejection::NotUtf8),
        (b"", Rejection::BadJson),
        (b"{", Rejection::BadJson),
        (b"\xef\xbb\xbf{}", Rejection::BadJson),
        (b"NaN", Rejection::BadJson),
        (b"[1,2]", Rejection::BadShape),
        (b"{}", Rejection::BadShape),
        (br#"{"sensors":[]}"#, Rejection::BadShape),
        (br#"{"sensors":{},"metadata":7}"#, Rejection::BadShape),
        (br#"{"sensors":1e999}"#, Rejection::BadShape),
        (br#"{"sensors":null}"#, Rejection::BadShape),
        (br#"{"sensors":{},"metadata":["\ud800",[[]],{}]}"#, Rejection::BadShape),
        (br#"{"sensors":{"\ud800":1}}"#, Rejection::BadShape),
        (br#"{"sensors":{"a":1}"#, Rejection::BadJson),
        (br#"{"sensors":{"a":1},"sensors":7}"#, Rejection::DuplicateKey),
        (br#"{"sensors":{"a":1,"a":2}}"#, Rejection::DuplicateKey),
        (huge.as_bytes(), Rejection::TooLarge),
    ] {
        assert_eq!(parse(MessageKind::Telemetry, payload, now()), Err(reason));
    }
    for payload in [r#"{"online":"false"}"#, r#"{"online":1}"#, "{}"] {
        assert_eq!(parse(MessageKind::Status, payload.as_bytes(), now()), Err(Rejection::BadShape));
    }
}

#[test]
fn an_answer_names_a_command_or_a_version() {
    let ack = |text: &str| parse(MessageKind::Ack, text.as_bytes(), now());
    let id = CommandId::generate();
    let of = |rest: &str| format!(r#"{{"commandId":"{id}",{rest}}}"#);
    assert_eq!(ack(&of(r#""status":"ACKED""#)), Ok(Content::CommandAnswer(id, AnswerKind::Acked)));
    let done = AnswerKind::Succeeded { result: Some(json!({"power": true})) };
    assert_eq!(ack(&of(r#""status":"SUCCEEDED","result":{"power":true}"#)), Ok(Content::CommandAnswer(id, done)));
    let failed = AnswerKind::Failed { error: Some("no  power".to_owned()), result: None };
    assert_eq!(ack(&of(r#""status":"FAILED","error":"no\u0000 power""#)), Ok(Content::CommandAnswer(id, failed)));
    let applied = Content::ConfigAnswer(3, ConfigAnswerKind::Applied);
    assert_eq!(ack(r#"{"configVersion":3,"status":"APPLIED"}"#), Ok(applied.clone()));
    assert_eq!(ack(r#"{"version":3,"status":"APPLIED"}"#), Ok(applied));
    let errors = Some(json!({"sampleRate": "too fast"}));
    let rejected = Content::ConfigAnswer(3, ConfigAnswerKind::Rejected { errors });
    let text = r#"{"configVersion":3,"status":"REJECTED","errors":{"sampleRate":"too fast"}}"#;
    assert_eq!(ack(text), Ok(rejected));
    assert_eq!(ack(r#"{"commandId":"test_123","status":"ACKED"}"#), Err(Rejection::UnknownCommand));
    for wrong in [
        of(r#""status":"DONE""#),
        of(r#""configVersion":3,"status":"ACKED""#),
        of(r#""status":1"#),
        r#"{"configVersion":0,"status":"APPLIED"}"#.to_owned(),
        r#"{"configVersion":1.5,"status":"APPLIED"}"#.to_owned(),
        r#"{"configVersion":3000000000,"status":"APPLIED"}"#.to_owned(),
        r#"{"status":"ACKED"}"#.to_owned(),
    ] {
        assert_eq!(ack(&wrong), Err(Rejection::BadShape), "{wrong}");
    }
    assert_eq!(ack(&of(&format!(r#""x":"{}""#, "y".repeat(MAX_ANSWER_BYTES)))), Err(Rejection::TooLarge));
}

#[test]
fn a_status_keeps_the_whole_message() {
    let text = r#"{"online":true,"status":{"uptime":86400,"wifiSignal":-45,"batteryLevel":85,"firmwareVersion":"v2"},"errors":[]}"#;
    let Ok(Content::Status(status)) = parse(MessageKind::Status, text.as_bytes(), now()) else { panic!() };
    assert!(status.online);
    assert_eq!(status.report.signal_strength, Some(-45.0));
    assert_eq!(status.last_status["status"]["uptime"], 86400);
}

#[test]
fn the_state_of_a_status_is_what_no_other_field_of_a_device_tells() {
    let read = |text: &str| match parse(MessageKind::Status, text.as_bytes(), now()) {
        Ok(Content::Status(status)) => (status.state, status.n_dropped),
        other => panic!("{other:?}"),
    };
    for (text, state) in [
        (
            r#"{"online":true,"status":{"power":true,"wifiSignal":-45,"batteryLevel":null}}"#,
            Some(json!({"power": true})),
        ),
        (r#"{"online":true,"power":true,"deviceId":"x","timestamp":1,"errors":[]}"#, Some(json!({"power": true}))),
        (r#"{"online":true,"power":true,"status":{"power":false}}"#, Some(json!({"power": false}))),
        (r#"{"online":true,"status":"on","color":null}"#, Some(json!({"status": "on", "color": null}))),
        (r#"{"online":true,"status":null}"#, None),
        (r#"{"online":true,"status":{}}"#, None),
        (r#"{"online":true}"#, None),
        (r#"{"online":false,"status":{"power":true}}"#, None),
    ] {
        assert_eq!(read(text), (state, 0), "{text}");
    }
    let one_bad = r#"{"online":true,"status":{"power":true,"text":"a\u0000b"}}"#;
    assert_eq!(read(one_bad), (Some(json!({"power": true})), 1));
    let fields = |n: usize| format!(r#"{{"online":true,"status":{{"a":1,"b":"{}"}}}}"#, "x".repeat(n));
    // {"a":1,"b":""} has 14 bytes.
    assert!(read(&fields(MAX_STATE_BYTES - 14)).0.is_some());
    assert_eq!(read(&fields(MAX_STATE_BYTES - 13)), (None, 2));
}
