//! Limits on what users and devices store, which the operator sets and users see before they are reached.

use serde_json::json;

use super::support::app::TestApp;

const QUOTA: &str = "{ me { homesOwned homesLimit } }";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_sets_how_many_homes_a_user_owns_and_users_see_it() {
    let app = TestApp::builder().set("HOMES_PER_USER", "2").start().await;
    let user = app.user().await;
    let expected = |n: usize| json!({"homesOwned": n, "homesLimit": 2});
    for n in 0..2 {
        assert_eq!(user.query(QUOTA, json!({})).await["me"], expected(n));
        user.home().await;
    }
    let answer = user.post("mutation { createHome(input: {name: \"Third\"}) { id } }", json!({})).await.json();
    assert_eq!(answer["errors"][0]["extensions"]["code"], "CONFLICT");
    let message = answer["errors"][0]["message"].as_str().expect("a message");
    assert!(message.starts_with("you own 2 homes already") && message.contains("delete one"), "{message}");
    assert_eq!(user.query(QUOTA, json!({})).await["me"], expected(2));
}
