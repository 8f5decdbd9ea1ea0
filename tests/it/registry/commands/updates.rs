//! The subscription to changes of commands.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::poll_immediate;
use serde_json::json;

use super::super::live::{next, subscribe};
use super::super::text;
use super::{CANCEL, blink, power, send, start};
use crate::support::eventually;

const UPDATES: &str = "subscription($d: ID, $h: ID, $c: ID) { \
     commandUpdates(deviceId: $d, homeId: $h, commandId: $c) { id status device { id } } }";

#[tokio::test(flavor = "multi_thread")]
async fn each_change_is_published_once_and_a_slow_subscriber_catches_up() {
    let (graph, ann, home, devices) = start(2).await;
    let first = send(&graph, &ann, &power(&devices[0], true)).await;
    let mut one = subscribe(&graph, &ann, UPDATES, json!({"c": first["id"]}));
    let present = next(&mut one).await.unwrap()["data"]["commandUpdates"].take();
    assert_eq!(present, json!({"id": first["id"], "status": "PENDING", "device": {"id": devices[0]}}));
    let mut all = subscribe(&graph, &ann, UPDATES, json!({"h": home}));
    let mut other = subscribe(&graph, &ann, UPDATES, json!({"d": devices[1]}));
    let is_listening = async || (graph.services.metrics.subscriptions.get() == 3).then_some(());
    let (mut all, mut other) = {
        let pending = tokio::join!(poll_immediate(next(&mut all)), poll_immediate(next(&mut other)));
        assert_eq!(pending, (None, None));
        let all = tokio::spawn(async move { (next(&mut all).await, all) });
        let other = tokio::spawn(async move { (next(&mut other).await, other) });
        eventually("all listen", is_listening).await;
        let second = send(&graph, &ann, &power(&devices[0], false)).await;
        let third = send(&graph, &ann, &power(&devices[1], false)).await;
        let (ended, mut all) = all.await.unwrap();
        assert_eq!(
            ended.unwrap()["data"]["commandUpdates"],
            json!({"id": first["id"], "status": "CANCELLED", "device": {"id": devices[0]}})
        );
        for expected in [&second, &third] {
            assert_eq!(next(&mut all).await.unwrap()["data"]["commandUpdates"]["id"], expected["id"]);
        }
        let (sent, other) = other.await.unwrap();
        assert_eq!(sent.unwrap()["data"]["commandUpdates"]["id"], third["id"]);
        (all, other)
    };
    assert_eq!(next(&mut one).await.unwrap()["data"]["commandUpdates"]["status"], "CANCELLED");

    // More changes than the hub holds, while the subscriber reads nothing: each still arrives once.
    let mut sent = BTreeSet::new();
    for _ in 0..3 {
        for _ in 0..90 {
            sent.insert(text(&send(&graph, &ann, &blink(&devices[1])).await["id"]));
        }
        let over = "update commands set status = 'FAILED', deadline = null where status = 'PENDING'";
        graph.sql.execute(over, &[]).await.unwrap();
    }
    let mut seen = Vec::new();
    while seen.len() < sent.len() {
        seen.push(text(&next(&mut all).await.unwrap()["data"]["commandUpdates"]["id"]));
    }
    assert!(graph.services.metrics.subscription_catch_ups.get() > 0);
    seen.sort();
    assert_eq!(seen, sent.into_iter().collect::<Vec<_>>());

    graph.ask(&ann, "mutation($d: ID!) { deleteDevice(id: $d) }", json!({"d": devices[1]})).await;
    while next(&mut other).await.is_some() {}
    graph.ask(&ann, "mutation($h: ID!) { deleteHome(id: $h) }", json!({"h": home})).await;
    while next(&mut all).await.is_some() {}
    while next(&mut one).await.is_some() {}
    assert_eq!(graph.services.commands.hub().n_homes(), 0);
    assert_eq!(graph.count("commands").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_state_is_not_published_after_a_newer_one() {
    let (graph, ann, home, devices) = start(1).await;
    let id = send(&graph, &ann, &blink(&devices[0])).await["id"].clone();
    let viewer = ann.0.as_ref().unwrap().user;
    let mut found = graph.services.commands.by_ids(viewer, &[text(&id).parse().unwrap()]).await.unwrap();
    let old = found.pop().unwrap();
    let mut updates = subscribe(&graph, &ann, UPDATES, json!({"c": id}));
    assert_eq!(next(&mut updates).await.unwrap()["data"]["commandUpdates"]["status"], "PENDING");
    let hub = graph.services.commands.hub();
    graph.ask(&ann, CANCEL, json!({ "id": id })).await;
    hub.publish(old.home, old.device, &Arc::new(old));
    assert_eq!(next(&mut updates).await.unwrap()["data"]["commandUpdates"]["status"], "CANCELLED");
    graph.ask(&ann, "mutation($h: ID!) { deleteHome(id: $h) }", json!({"h": home})).await;
    let end = next(&mut updates).await.unwrap();
    assert_eq!(end["errors"][0]["extensions"]["code"], "NOT_FOUND", "{end}");
    assert_eq!(next(&mut updates).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_one_of_the_three_ids_is_given() {
    let (graph, ann, home, devices) = start(1).await;
    for wrong in [json!({}), json!({"h": home, "d": devices[0]}), json!({"h": home, "c": "cmd_x"})] {
        let answer = next(&mut subscribe(&graph, &ann, UPDATES, wrong)).await.unwrap();
        assert_eq!(
            answer["errors"][0]["extensions"],
            json!({"code": "BAD_USER_INPUT", "field": "deviceId"}),
            "{answer}"
        );
    }
}
