//! The newest reading of a device and the pages of its history.

use serde_json::{Value, json};

use super::{Graph, Person, number, text};

const PAGE: &str = "query($d: ID!, $n: Int, $a: String, $f: DateTime, $t: DateTime) { device(id: $d) { latestTelemetry { sensors { temperature } } \
                    telemetry(first: $n, after: $a, from: $f, to: $t) { nodes { recordedAt timeSource sensors { temperature humidity } device { id } } \
                    pageInfo { hasNextPage endCursor } } } }";

fn temperatures(data: &Value) -> Vec<f64> {
    let nodes = data["device"]["telemetry"]["nodes"].as_array().unwrap();
    nodes.iter().map(|node| node["sensors"]["temperature"].as_f64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn readings_are_listed_newest_first_without_gaps_between_pages() {
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let home = graph.home(&ann).await;
    let devices = graph.devices(&ann, &home, 2).await;
    for minute in [3, 1, 0, 2, 4, 6, 5] {
        graph.reading(&home, &devices[0], minute).await;
        graph.reading(&home, &devices[1], minute + 100).await;
    }
    let (mut seen, mut after) = (Vec::new(), Value::Null);
    loop {
        let data = graph.ask(&ann, PAGE, json!({"d": devices[0], "n": 3, "a": after})).await;
        seen.extend(temperatures(&data));
        let device = &data["device"];
        assert_eq!(device["latestTelemetry"]["sensors"]["temperature"], 6.0);
        assert_eq!(device["telemetry"]["nodes"][0]["device"]["id"], json!(devices[0]));
        assert!(device["telemetry"]["nodes"][0]["sensors"]["humidity"].is_null());
        after = device["telemetry"]["pageInfo"]["endCursor"].clone();
        if device["telemetry"]["pageInfo"]["hasNextPage"] == false {
            break;
        }
    }
    assert_eq!(seen, [6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0]);
    let window = json!({"d": devices[0], "f": "2026-01-01T01:02:00+01:00", "t": "2026-01-01T00:04:00Z"});
    let data = graph.ask(&ann, PAGE, window).await;
    assert_eq!(temperatures(&data), [3.0, 2.0]);
    assert_eq!(text(&data["device"]["telemetry"]["nodes"][0]["recordedAt"]), "2026-01-01T00:03:00.000000Z");
    let far = json!({"d": devices[0], "f": "0001-01-01T00:00:00Z", "t": "9999-12-31T23:59:59Z", "n": 500});
    assert_eq!(temperatures(&graph.ask(&ann, PAGE, far).await).len(), 7);
    for (name, wrong, field) in
        [("a", "x", "after"), ("f", "yesterday", "from"), ("t", "2026-13-01T00:00:00Z", "to"), ("n", "", "first")]
    {
        let mut variables = json!({"d": devices[0]});
        variables[name] = if name == "n" { json!(501) } else { json!(wrong) };
        let answer = graph.answer(&ann, PAGE, variables).await;
        assert_eq!(answer["errors"][0]["extensions"]["code"], "BAD_USER_INPUT", "{answer}");
        assert_eq!(answer["errors"][0]["extensions"]["field"], field, "{answer}");
    }
}

/// A device whose clock stands still sends many readings of one time: the last one stored is the newest.
#[tokio::test(flavor = "multi_thread")]
async fn of_readings_with_the_same_time_the_last_one_stored_is_the_newest() {
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let home = graph.home(&ann).await;
    let devices = graph.devices(&ann, &home, 4).await;
    for (device, n_same) in devices.iter().zip([0, 1, 5, 30]) {
        let insert = format!(
            "insert into telemetry (home_id, device_id, recorded_at, received_at, dedup, device_clock) \
             select {home}, {device}, '2026-01-01Z', now(), (n * 7919) % 31 - 15, true from generate_series(1, {n_same}) n"
        );
        graph.sql.batch_execute(&insert).await.unwrap();
    }
    for state in ["", "online"] {
        let page = format!(
            "query($h: ID!) {{ devices(homeId: $h) {{ nodes {{ id {state} latestTelemetry {{ id }} \
             telemetry(first: 1) {{ nodes {{ id }} }} }} }} }}"
        );
        let data = graph.ask(&ann, &page, json!({"h": home})).await;
        let nodes = data["devices"]["nodes"].as_array().unwrap();
        assert_eq!(nodes.iter().map(|node| text(&node["id"])).collect::<Vec<_>>(), devices);
        for (node, device) in nodes.iter().zip(&devices) {
            let one =
                graph.ask(&ann, "query($d: ID!) { device(id: $d) { latestTelemetry { id } } }", json!({"d": device}));
            let one = one.await["device"]["latestTelemetry"].take();
            assert_eq!((&node["latestTelemetry"], &node["telemetry"]["nodes"][0]), (&one, &one), "{node}");
        }
    }
}

/// The server remembers since when all devices of a page have readings, and first looks for those only.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_read_again_shows_the_newest_readings_whatever_has_changed() {
    const LIST: &str =
        "query($h: ID!) { devices(homeId: $h) { nodes { id latestTelemetry { sensors { temperature } } } } }";
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let home = graph.home(&ann).await;
    let devices = graph.devices(&ann, &home, 2).await;
    let latest = async || -> Vec<Option<f64>> {
        let data = graph.ask(&ann, LIST, json!({"h": home})).await;
        let nodes = data["devices"]["nodes"].as_array().unwrap();
        nodes.iter().map(|node| node["latestTelemetry"]["sensors"]["temperature"].as_f64()).collect()
    };
    for (device, minutes) in devices.iter().zip([[1, 5], [2, 6]]) {
        for minute in minutes {
            graph.reading(&home, device, minute).await;
        }
    }
    for _ in 0..2 {
        assert_eq!(latest().await, [Some(5.0), Some(6.0)]);
    }
    graph.reading(&home, &devices[1], 7).await;
    assert_eq!(latest().await, [Some(5.0), Some(7.0)]);

    let removed = "delete from telemetry where recorded_at = '2026-01-01 00:05Z'";
    graph.sql.batch_execute(removed).await.unwrap();
    for _ in 0..2 {
        assert_eq!(latest().await, [Some(1.0), Some(7.0)]);
    }
    let register = "insert into devices (home_id, key, name, type) select $1, 'late', 'Late', 'OTHER' returning id";
    let silent: i64 = graph.sql.query_one(register, &[&number(&home)]).await.unwrap().get(0);
    for _ in 0..2 {
        assert_eq!(latest().await, [Some(1.0), Some(7.0), None]);
    }
    graph.reading(&home, &silent.to_string(), 0).await;
    for _ in 0..2 {
        assert_eq!(latest().await, [Some(1.0), Some(7.0), Some(0.0)]);
    }
}

/// A fragment is not known to the resolver of `device`, which then reads the readings by a statement of their own.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_read_with_its_readings_is_the_same_for_every_viewer() {
    let graph = Graph::start().await;
    let (ann, stranger) = (graph.person().await, graph.person().await);
    let home = graph.home(&ann).await;
    let devices = graph.devices(&ann, &home, 2).await;
    for minute in 0..5 {
        graph.reading(&home, &devices[0], minute).await;
    }
    let extra = "update telemetry set extra = '{\"lux\": 1}', firmware_version = '1.2' where dedup = 3";
    graph.sql.batch_execute(extra).await.unwrap();
    let mut viewers = vec![ann.clone(), stranger];
    // Each with one of the scopes, and one that sees the other device only.
    for (scopes, device) in [(1, &devices[0]), (2, &devices[0]), (3, &devices[0]), (3, &devices[1])] {
        let integration = graph.person().await;
        let insert =
            "insert into memberships (home_id, user_id, role, scopes, device_ids) values ($1, $2, 'GUEST', $3, $4)";
        let (user, seen) = (integration.0.as_ref().unwrap().user.get(), vec![number(device)]);
        let scopes = i16::try_from(scopes).unwrap();
        graph.sql.execute(insert, &[&number(&home), &user, &scopes, &seen]).await.unwrap();
        viewers.push(integration);
    }
    let second = format!("{{ device(id: {}) {{ telemetry(first: 2) {{ pageInfo {{ endCursor }} }} }} }}", devices[0]);
    let second = graph.ask(&ann, &second, json!({})).await;
    let cursor = &second["device"]["telemetry"]["pageInfo"]["endCursor"];
    let pages = [
        String::new(),
        "(first: 2)".to_owned(),
        "(first: 0)".to_owned(),
        "(first: null, after: null, from: null)".to_owned(),
        format!("(first: 2, after: {cursor})"),
        "(from: \"2026-01-01T01:01:00+01:00\", to: \"2026-01-01T00:03:00Z\")".to_owned(),
        "(first: 501)".to_owned(),
        "(after: \"x\")".to_owned(),
        "(from: \"yesterday\")".to_owned(),
    ];
    let answer = async |viewer: &Person, selection: String| {
        let query = format!("{{ device(id: {}) {{ {selection} }} }}", devices[0]);
        let before = graph.services.metrics.db_statements.get();
        let mut answer = graph.answer(viewer, &query, json!({})).await;
        let errors = answer["errors"].as_array_mut();
        errors.into_iter().flatten().for_each(|error| _ = error.as_object_mut().unwrap().remove("locations"));
        (answer, graph.services.metrics.db_statements.get() - before)
    };
    for page in pages {
        let node = "id recordedAt receivedAt timeSource sensors { temperature humidity } extra firmwareVersion";
        let fields = format!(
            "key name type createdAt telemetry{page} {{ nodes {{ {node} }} edges {{ cursor }} pageInfo {{ hasNextPage hasPreviousPage }} }}"
        );
        for viewer in &viewers {
            let (at_once, n_statements) = answer(viewer, fields.clone()).await;
            let (apart, _) = answer(viewer, format!("... on Device {{ {fields} }}")).await;
            assert_eq!(at_once, apart, "{page}");
            assert_eq!(n_statements, 1, "{page}: {at_once}");
        }
    }
}

/// The server remembers since when the first page of a device is full, and first looks for later readings only.
#[tokio::test(flavor = "multi_thread")]
async fn a_history_that_is_read_again_shows_the_newest_readings_whatever_has_changed() {
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let home = graph.home(&ann).await;
    let device = &graph.devices(&ann, &home, 1).await[0];
    let page = format!(
        "{{ device(id: {device}) {{ telemetry(first: 2) {{ nodes {{ sensors {{ temperature }} }} pageInfo {{ hasNextPage }} }} }} }}"
    );
    let expect = async |expected: &[f64], has_next: bool| {
        for _ in 0..2 {
            let data = graph.ask(&ann, &page, json!({})).await;
            assert_eq!(temperatures(&data), expected);
            assert_eq!(data["device"]["telemetry"]["pageInfo"]["hasNextPage"], has_next);
        }
    };
    expect(&[], false).await;
    for minute in [1, 5] {
        graph.reading(&home, device, minute).await;
    }
    expect(&[5.0, 1.0], false).await;
    graph.reading(&home, device, 0).await;
    expect(&[5.0, 1.0], true).await;
    graph.reading(&home, device, 3).await;
    expect(&[5.0, 3.0], true).await;
    // Three readings were the page and the one that shows that more follow.
    for (removed, expected, has_next) in [(3, &[5.0, 1.0][..], true), (5, &[1.0, 0.0], false), (1, &[0.0], false)] {
        let remove = "delete from telemetry where dedup = $1::bigint";
        graph.sql.execute(remove, &[&i64::from(removed)]).await.unwrap();
        expect(expected, has_next).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_messages_are_listed_newest_first() {
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let home = graph.home(&ann).await;
    let insert = format!(
        "insert into rejected_messages (home_id, topic, reason, payload_preview, received_at) \
                          select {home}, 't/' || n, 'BAD_JSON', '', now() from generate_series(1, 5) n"
    );
    graph.sql.batch_execute(&insert).await.unwrap();
    let page = "query($h: ID!, $a: String) { rejectedMessages(homeId: $h, first: 3, after: $a) { nodes { topic reason } pageInfo { endCursor hasNextPage } } }";
    let first = graph.ask(&ann, page, json!({"h": home})).await;
    assert_eq!(first["rejectedMessages"]["nodes"][0]["topic"], "t/5");
    let after = &first["rejectedMessages"]["pageInfo"]["endCursor"];
    let second = graph.ask(&ann, page, json!({"h": home, "a": after})).await;
    assert_eq!(second["rejectedMessages"]["nodes"][1], json!({"topic": "t/1", "reason": "BAD_JSON"}));
    assert_eq!(second["rejectedMessages"]["pageInfo"]["hasNextPage"], false);
}
