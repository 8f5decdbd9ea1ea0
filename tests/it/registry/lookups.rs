//! How devices are found: by key or MAC address, over all homes, by filters and in an order; and how they are counted.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{Graph, Person};

/// A home with six devices, of which three have states.
async fn home_with_states(graph: &Graph, owner: &Person) -> (String, Vec<String>) {
    let home = graph.home(owner).await;
    let devices = graph.devices(owner, &home, 6).await;
    let first = &devices[0];
    let fill = format!(
        "update devices set type = 'LIGHT' where id = {first};
        update devices set type = 'PLUG' where id = {first} + 1;
        update devices set mac_address = '24:6F:28:AA:BB:CC', key = 'lamp' where id = {first};
        update devices set name = chr(96 + {first}::integer + 6 - id::integer) where home_id = {home};
        update devices set name = 'B' where id = {first} + 4;
        insert into device_states (device_id, online, battery_level, last_seen_at) values
            ({first}, true, 5, '2026-01-03Z'), ({first} + 1, true, 20, '2026-01-02Z'),
            ({first} + 2, false, null, '2026-01-01Z')"
    );
    graph.sql.batch_execute(&fill).await.unwrap();
    (home, devices)
}

fn ids(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|device| device["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn members_and_configurations_have_stable_ids() {
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let home = graph.home(&ann).await;
    let device = graph.devices(&ann, &home, 1).await.remove(0);
    let user = ann.0.as_ref().unwrap().user.to_string();
    let members = "query($h: ID!) { home(id: $h) { members { id user { id } } } }";
    let members = graph.ask(&ann, members, json!({"h": home})).await["home"]["members"].take();
    assert_eq!(members, json!([{"id": format!("{home}:{user}"), "user": {"id": user}}]));
    let push = "mutation($d: ID!, $c: JSON!) { pushConfig(input: {deviceId: $d, config: $c}) { id version } }";
    for version in [1, 2] {
        let pushed = graph.ask(&ann, push, json!({"d": device, "c": {"n": version}})).await["pushConfig"].take();
        assert_eq!(pushed, json!({"id": format!("{device}:{version}"), "version": version}));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn homes_and_rooms_count_their_devices() {
    let graph = Graph::start().await;
    let (ann, ben) = (graph.person().await, graph.person().await);
    let (home, devices) = home_with_states(&graph, &ann).await;
    let empty = graph.home(&ann).await;
    let room =
        "mutation($h: ID!, $n: String!) { createRoom(input: {homeId: $h, name: $n}) { id deviceCount onlineCount } }";
    for name in ["Hall", "Kitchen"] {
        let room = graph.ask(&ann, room, json!({"h": home, "n": name})).await["createRoom"].take();
        assert_eq!((&room["deviceCount"], &room["onlineCount"]), (&json!(0), &json!(0)));
    }
    let put = "update devices set room_id = (select min(id) from rooms) where id <> $1 and home_id = $2";
    let number = |id: &String| id.parse::<i64>().unwrap();
    graph.sql.execute(put, &[&number(&devices[0]), &number(&home)]).await.unwrap();
    let counts = "{ homes { id deviceCount onlineCount rooms { name deviceCount onlineCount } } }";
    let statements = graph.services.metrics.db_statements.get();
    let homes = graph.ask(&ann, counts, json!({})).await["homes"].take();
    assert_eq!(
        homes,
        json!([
            {"id": home, "deviceCount": 6, "onlineCount": 2, "rooms": [
                {"name": "Hall", "deviceCount": 5, "onlineCount": 1},
                {"name": "Kitchen", "deviceCount": 0, "onlineCount": 0},
            ]},
            {"id": empty, "deviceCount": 0, "onlineCount": 0, "rooms": []},
        ])
    );
    // The homes, their rooms, and one for each kind of count.
    assert_eq!(graph.services.metrics.db_statements.get() - statements, 6);

    // A member with a scope of some devices counts these.
    let scoped = "insert into memberships (home_id, user_id, role, scopes, device_ids) values ($1, $2, 'GUEST', 1, $3)";
    let user = ben.0.as_ref().unwrap().user.get();
    graph.sql.execute(scoped, &[&number(&home), &user, &vec![number(&devices[0])]]).await.unwrap();
    let homes = graph.ask(&ben, counts, json!({})).await["homes"].take();
    assert_eq!((&homes[0]["deviceCount"], &homes[0]["onlineCount"]), (&json!(1), &json!(1)));
    assert_eq!(homes[0]["rooms"][0]["deviceCount"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_found_by_its_key_or_its_mac_address() {
    let graph = Graph::start().await;
    let (ann, ben) = (graph.person().await, graph.person().await);
    let (home, devices) = home_with_states(&graph, &ann).await;
    let other = graph.home(&ann).await;
    let by_key = "query($h: ID!, $k: String!) { deviceByKey(homeId: $h, key: $k) { id online } }";
    let by_mac = "query($h: ID!, $m: MacAddress!) { deviceByMacAddress(homeId: $h, macAddress: $m) { id online } }";
    let found = json!({"id": devices[0], "online": true});
    assert_eq!(graph.ask(&ann, by_key, json!({"h": home, "k": "lamp"})).await["deviceByKey"], found);
    for spelling in ["24:6F:28:AA:BB:CC", "246f28aabbcc"] {
        let answer = graph.ask(&ann, by_mac, json!({"h": home, "m": spelling})).await;
        assert_eq!(answer["deviceByMacAddress"], found);
    }
    for (who, home, key) in
        [(&ann, &home, "Lamp"), (&ann, &home, "\0"), (&ann, &home, ""), (&ann, &other, "lamp"), (&ben, &home, "lamp")]
    {
        assert_eq!(graph.code(who, by_key, json!({"h": home, "k": key})).await, "NOT_FOUND");
    }
    for (who, home, mac) in
        [(&ann, &home, "24:6F:28:AA:BB:CD"), (&ann, &other, "24:6F:28:AA:BB:CC"), (&ben, &home, "24:6F:28:AA:BB:CC")]
    {
        assert_eq!(graph.code(who, by_mac, json!({"h": home, "m": mac})).await, "NOT_FOUND");
    }
    let statements = graph.services.metrics.db_statements.get();
    graph.ask(&ann, by_mac, json!({"h": home, "m": "24:6F:28:AA:BB:CC"})).await;
    assert_eq!(graph.services.metrics.db_statements.get() - statements, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_of_all_homes_are_paged_home_by_home() {
    let graph = Graph::start().await;
    let (ann, ben) = (graph.person().await, graph.person().await);
    let first = graph.home(&ann).await;
    let second = graph.home(&ann).await;
    let foreign = graph.home(&ben).await;
    // Interleaved: the order is by home, then by registration.
    let mut of_homes = [Vec::new(), Vec::new()];
    for n in 0..3 {
        for (home, devices) in [&first, &second].into_iter().zip(&mut of_homes) {
            let register = "mutation($h: ID!, $k: String!) { registerDevice(input: {homeId: $h, key: $k, name: $k}) { device { id } } }";
            let made = graph.ask(&ann, register, json!({"h": home, "k": format!("d{n}")})).await;
            devices.push(made["registerDevice"]["device"]["id"].as_str().unwrap().to_owned());
        }
    }
    graph.devices(&ben, &foreign, 2).await;
    let page = "query($n: Int, $a: String, $f: DeviceFilter) { devices(first: $n, after: $a, filter: $f) { nodes { id } \
                edges { cursor } pageInfo { hasNextPage endCursor } } }";
    let all = graph.ask(&ann, page, json!({})).await["devices"].take();
    assert_eq!(ids(&all["nodes"]), of_homes.concat());
    for size in [1, 2, 4] {
        let (mut found, mut after) = (Vec::new(), Value::Null);
        loop {
            let page = graph.ask(&ann, page, json!({"n": size, "a": after})).await["devices"].take();
            found.extend(ids(&page["nodes"]));
            after = page["pageInfo"]["endCursor"].clone();
            if page["pageInfo"]["hasNextPage"] == false {
                break;
            }
        }
        assert_eq!(found, of_homes.concat(), "pages of {size}");
    }
    let filtered = graph.ask(&ann, page, json!({"f": {"search": "d1"}})).await["devices"].take();
    assert_eq!(ids(&filtered["nodes"]), [of_homes[0][1].clone(), of_homes[1][1].clone()]);
    let none = graph.person().await;
    assert_eq!(graph.ask(&none, page, json!({})).await["devices"]["nodes"], json!([]));
    // The cursor of another list.
    let of_home = "query($h: ID!) { devices(homeId: $h) { pageInfo { endCursor } } }";
    let cursor = graph.ask(&ann, of_home, json!({"h": first})).await["devices"]["pageInfo"]["endCursor"].take();
    assert_eq!(graph.code(&ann, page, json!({"a": cursor})).await, "BAD_USER_INPUT");
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_are_filtered_by_what_a_screen_asks_for() {
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let (home, devices) = home_with_states(&graph, &ann).await;
    let page = "query($h: ID!, $f: DeviceFilter) { devices(homeId: $h, filter: $f) { nodes { id } } }";
    for (filter, expected) in [
        (json!({"types": ["LIGHT", "PLUG"]}), vec![0, 1]),
        (json!({"types": ["LIGHT"], "type": "PLUG"}), vec![]),
        (json!({"types": []}), vec![0, 1, 2, 3, 4, 5]),
        (json!({"batteryBelow": 20}), vec![0]),
        (json!({"batteryBelow": 21}), vec![0, 1]),
        // Also those that were never seen.
        (json!({"lastSeenBefore": "2026-01-02T00:00:00Z"}), vec![2, 3, 4, 5]),
        (json!({"lastSeenBefore": "2026-01-02T00:00:01Z", "online": true}), vec![1]),
        (json!({"types": null, "batteryBelow": null, "lastSeenBefore": null}), vec![0, 1, 2, 3, 4, 5]),
    ] {
        let found = graph.ask(&ann, page, json!({"h": home, "f": filter})).await["devices"]["nodes"].take();
        let expected: Vec<_> = expected.into_iter().map(|n: usize| devices[n].clone()).collect();
        assert_eq!(ids(&found), expected, "{filter}");
        let latest = page.replace("nodes { id }", "nodes { id latestTelemetry { id } }");
        let found = graph.ask(&ann, &latest, json!({"h": home, "f": filter})).await["devices"]["nodes"].take();
        assert_eq!(ids(&found), expected, "{filter}, with readings");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_are_sorted_and_paged_in_their_order() {
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let (home, devices) = home_with_states(&graph, &ann).await;
    let page = "query($h: ID!, $o: DeviceOrder, $n: Int, $a: String, $f: DeviceFilter) { devices(homeId: $h, orderBy: $o, first: $n,
                after: $a, filter: $f) { nodes { id name latestTelemetry { id } } pageInfo { hasNextPage endCursor } } }";
    for (field, ascending) in [
        // Names are f, e, d, c, B and a.
        ("NAME", vec![5, 4, 3, 2, 1, 0]),
        ("CREATED_AT", vec![0, 1, 2, 3, 4, 5]),
        // Devices that were never seen come first.
        ("LAST_SEEN_AT", vec![3, 4, 5, 2, 1, 0]),
    ] {
        for direction in ["ASC", "DESC"] {
            let order = json!({"field": field, "direction": direction});
            let mut expected: Vec<_> = ascending.iter().map(|n: &usize| devices[*n].clone()).collect();
            if direction == "DESC" {
                expected.reverse();
            }
            for size in [1, 2, 6] {
                let (mut found, mut after) = (Vec::new(), Value::Null);
                loop {
                    let variables = json!({"h": home, "o": order, "n": size, "a": after});
                    let page = graph.ask(&ann, page, variables).await["devices"].take();
                    found.extend(ids(&page["nodes"]));
                    after = page["pageInfo"]["endCursor"].clone();
                    if page["pageInfo"]["hasNextPage"] == false {
                        break;
                    }
                }
                assert_eq!(found, expected, "{order}, pages of {size}");
            }
            let filtered = json!({"h": home, "o": order, "f": {"online": true}});
            let found = ids(&graph.ask(&ann, page, filtered).await["devices"]["nodes"]);
            expected.retain(|id| devices[..2].contains(id));
            assert_eq!(found, expected, "{order}, filtered");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_no_device_can_have_is_no_cursor() {
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let (home, devices) = home_with_states(&graph, &ann).await;
    let page = "query($h: ID!, $a: String) { devices(homeId: $h, orderBy: {field: LAST_SEEN_AT}, after: $a) { nodes { id } } }";
    let cursor = |seen: i64| URL_SAFE_NO_PAD.encode(format!("seen:{}:{seen}:", devices[0]));
    // Years before 4713 BC, and after those of the library.
    for seen in [-1, -300_000_000_000_000_000, -8_000_000_000_000_000_000, i64::MIN, i64::MAX] {
        assert_eq!(graph.code(&ann, page, json!({"h": home, "a": cursor(seen)})).await, "BAD_USER_INPUT", "{seen}");
    }
    for (seen, expected) in [(0, vec![2, 1, 0]), (8_000_000_000_000_000_000, vec![])] {
        let found = graph.ask(&ann, page, json!({"h": home, "a": cursor(seen)})).await["devices"]["nodes"].take();
        let expected: Vec<_> = expected.into_iter().map(|n: usize| devices[n].clone()).collect();
        assert_eq!(ids(&found), expected, "{seen}");
    }
}
