//! The caller's own account: changing it, and deleting it.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what is missing fails the test")]

use serde_json::{Value, json};

use super::support::app::TestApp;
use super::support::user::{Home, User};
use super::support::ws::Frame;
use super::support::{unique, until};

const LOGIN: &str = "mutation($e: String!, $p: String!) { login(input: {email: $e, password: $p}) { user { id } } }";
const UPDATE: &str = "mutation($i: UpdateMeInput!) { updateMe(input: $i) { id name email } }";
const STATUS: &str = "subscription($h: ID!) { deviceStatus(homeId: $h) { id } }";

/// Code and field of an operation that is refused.
async fn refusal(user: &User, query: &str, variables: Value) -> (String, Value) {
    let answer = user.post(query, variables).await.json();
    let extensions = &answer["errors"][0]["extensions"];
    (extensions["code"].as_str().unwrap_or_else(|| panic!("{query}: {answer}")).to_owned(), extensions["field"].clone())
}

fn bad(field: &str) -> (String, Value) {
    ("BAD_USER_INPUT".to_owned(), json!(field))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_name_ends_nothing_and_a_new_address_ends_all_other_sessions() {
    let app = TestApp::start().await;
    let (home, ann) = app.home().await;
    let tablet = ann.signed_in_again().await;
    let mut stream = tablet.subscribe(STATUS, json!({"h": home.id})).await;
    let renamed = ann.query(UPDATE, json!({"i": {"name": "  Ann Lee "}})).await["updateMe"].take();
    assert_eq!(renamed, json!({"id": ann.id, "name": "Ann Lee", "email": ann.email}));
    // The same address in another spelling is no change.
    ann.query(UPDATE, json!({"i": {"email": ann.email.to_uppercase()}})).await;
    assert_eq!(tablet.query("{ me { name } }", json!({})).await["me"]["name"], "Ann Lee");

    let email = format!("{}@test.example", unique("new"));
    let change = json!({"i": {"email": email.to_uppercase(), "currentPassword": ann.password}});
    assert_eq!(ann.query(UPDATE, change).await["updateMe"]["email"], json!(email));
    loop {
        match stream.frame().await {
            Frame::Closed(4403, _) => break,
            Frame::Json(message) if message["type"] == "next" => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(tablet.error_code("{ me { id } }", json!({})).await, "UNAUTHENTICATED");
    assert_eq!(ann.query("{ me { email } }", json!({})).await["me"]["email"], json!(email));
    let login = async |email: &str| app.stranger().post(LOGIN, json!({"e": email, "p": ann.password})).await.json();
    assert_eq!(login(&email).await["data"]["login"]["user"]["id"], json!(ann.id));
    assert_eq!(login(&ann.email).await["errors"][0]["extensions"]["reason"], "INVALID_CREDENTIALS");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_account_that_is_refused_changes_nothing() {
    let app = TestApp::start().await;
    let (ann, bob) = (app.user().await, app.user().await);
    let email = format!("{}@test.example", unique("new"));
    let refused = async |input: Value| refusal(&ann, UPDATE, json!({"i": input})).await;
    assert_eq!(refused(json!({"name": "Eve", "email": email})).await, bad("currentPassword"));
    let wrong = json!({"name": "Eve", "email": email, "currentPassword": "wrong"});
    assert_eq!(refused(wrong).await, bad("currentPassword"));
    let taken = json!({"name": "Eve", "email": bob.email, "currentPassword": ann.password});
    assert_eq!(refused(taken).await.0, "CONFLICT");
    let malformed = json!({"name": "Eve", "email": "no address", "currentPassword": ann.password});
    assert_eq!(refused(malformed).await, bad("email"));
    for (name, field) in [(json!(""), "name"), (json!(null), "name"), (json!("x".repeat(101)), "name")] {
        assert_eq!(refused(json!({"name": name})).await, bad(field));
    }
    assert_eq!(refused(json!({"email": null})).await, bad("email"));
    assert_eq!(app.stranger().error_code(UPDATE, json!({"i": {"name": "x"}})).await, "UNAUTHENTICATED");
    let me = ann.query("{ me { name email } }", json!({})).await["me"].take();
    assert_eq!(me, json!({"name": "Test", "email": ann.email}));
    app.stop().await;
}

/// Otherwise a user could try the passwords of an open session faster than at `login`, or search for accounts.
#[tokio::test(flavor = "multi_thread")]
async fn changes_of_an_account_are_limited_as_changes_of_a_password_are() {
    let app = TestApp::builder().set("RATE_LIMITS", "on").start().await;
    let ann = app.user().await;
    let mut codes = Vec::new();
    for n in 0..6 {
        let email = format!("{}{n}@test.example", unique("new"));
        codes.push(refusal(&ann, UPDATE, json!({"i": {"email": email, "currentPassword": "wrong"}})).await.0);
    }
    assert_eq!(codes[..5], ["BAD_USER_INPUT"; 5]);
    assert_eq!(codes[5], "RATE_LIMITED");
    let bob = app.user().await;
    let mut n_renamed = 0;
    while bob.post(UPDATE, json!({"i": {"name": "Bob"}})).await.json()["errors"].is_null() {
        n_renamed += 1;
        assert!(n_renamed < 20, "no limit");
    }
    assert!(n_renamed >= 10);
    app.stop().await;
}

const DELETE: &str = "mutation($i: DeleteAccountInput!) { deleteAccount(input: $i) }";

async fn join(app: &TestApp, home: &Home, user: &User, role: &str) {
    let insert = "insert into memberships (home_id, user_id, role) values ($1, $2, $3)";
    let (home, user): (i64, i64) = (home.id.parse().unwrap(), user.id.parse().unwrap());
    app.database().client().await.execute(insert, &[&home, &user, &role]).await.unwrap();
}

/// Tables with a row that refers to a user, except the audit log and the numbers in commands and configurations.
async fn tables_with(app: &TestApp, user: &User) -> Vec<String> {
    let sql = app.database().client().await;
    let columns = "select c.conrelid::regclass::text, a.attname::text from pg_constraint c
        join pg_attribute a on a.attrelid = c.conrelid and a.attnum = c.conkey[1]
        where c.contype = 'f' and c.confrelid = 'users'::regclass";
    let mut found = Vec::new();
    for row in sql.query(columns, &[]).await.unwrap() {
        let (table, column): (String, String) = (row.get(0), row.get(1));
        let id: i64 = user.id.parse().unwrap();
        let count = format!("select count(*) from {table} where {column} = $1");
        if sql.query_one(&count, &[&id]).await.unwrap().get::<_, i64>(0) > 0 {
            found.push(format!("{table}.{column}"));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_account_that_is_deleted_leaves_nothing_and_its_sockets_end() {
    let app = TestApp::start().await;
    let (kept, ann) = app.home().await;
    let (of_bob, bob) = app.home().await;
    let doomed = ann.home().await;
    join(&app, &kept, &bob, "MEMBER").await;
    join(&app, &of_bob, &ann, "ADMIN").await;
    let device = app.device(&ann, &doomed, "lamp").await;
    app.publish(&device, "telemetry", json!({"sensors": {"temperature": 20}}).to_string()).await;
    until("the reading is stored", || app.metric("mqtt_messages_stored_total") == 1.0).await;
    let invite = "mutation($h: ID!) { inviteMember(input: {homeId: $h, email: \"eve@test.example\"}) { token } }";
    ann.query(invite, json!({"h": of_bob.id})).await;
    let integrate = "mutation($h: ID!) { createIntegrationToken(input: {homeId: $h, name: \"n\", scopes: [DEVICES_READ]}) { token } }";
    let integration = ann.query(integrate, json!({"h": of_bob.id})).await["createIntegrationToken"]["token"].take();
    let integration = User::with_token(app.addr(), integration.as_str().unwrap());
    integration.query("{ homes { id } }", json!({})).await;
    let tablet = ann.signed_in_again().await;
    let mut streams =
        [tablet.subscribe(STATUS, json!({"h": of_bob.id})).await, ann.subscribe(STATUS, json!({"h": doomed.id})).await];
    let mut of_bobs = bob.subscribe(STATUS, json!({"h": kept.id})).await;

    // Nothing is changed while a home would have no owner.
    let mut input = json!({"password": ann.password});
    let answer = ann.post(DELETE, json!({"i": input})).await.json();
    let extensions = &answer["errors"][0]["extensions"];
    let mut ids = vec![kept.id.clone(), doomed.id.clone()];
    ids.sort_by_key(|id| id.parse::<i64>().unwrap());
    assert_eq!((&extensions["code"], &extensions["homeIds"]), (&json!("CONFLICT"), &json!(ids)), "{answer}");
    input["deleteHomeIds"] = json!([doomed.id]);
    let answer = ann.post(DELETE, json!({"i": input})).await.json();
    assert_eq!(answer["errors"][0]["extensions"]["homeIds"], json!([kept.id]), "{answer}");
    input["handOver"] = json!([{"homeId": kept.id, "userId": bob.id}]);
    let wrong = json!({"password": "wrong", "deleteHomeIds": [doomed.id], "handOver": input["handOver"]});
    assert_eq!(refusal(&ann, DELETE, json!({"i": wrong})).await, bad("password"));
    assert_eq!(ann.query("{ homes { id } }", json!({})).await["homes"].as_array().unwrap().len(), 3);

    assert_eq!(ann.query(DELETE, json!({"i": input})).await["deleteAccount"], true);
    for stream in &mut streams {
        let ended = async { while !matches!(stream.frame().await, Frame::Closed(..)) {} };
        tokio::time::timeout(std::time::Duration::from_secs(1), ended)
            .await
            .expect("the socket is closed within a second");
    }
    for session in [&ann, &tablet, &integration] {
        assert_eq!(session.error_code("{ me { id } }", json!({})).await, "UNAUTHENTICATED");
    }
    let login = app.stranger().post(LOGIN, json!({"e": ann.email, "p": ann.password})).await.json();
    assert_eq!(login["errors"][0]["extensions"]["reason"], "INVALID_CREDENTIALS");
    assert_eq!(tables_with(&app, &ann).await, Vec::<String>::new());
    let homes = bob
        .query(
            "{ homes { id myRole members { user { id } } invitations { email } integrationTokens { id } } }",
            json!({}),
        )
        .await;
    let mut homes = homes["homes"].as_array().unwrap().clone();
    homes.retain(|home| home["id"] != json!(of_bob.id));
    let of_bob_alone = json!([{"user": {"id": bob.id}}]);
    assert_eq!(
        homes,
        [
            json!({"id": kept.id, "myRole": "OWNER", "members": of_bob_alone, "invitations": [], "integrationTokens": []})
        ]
    );
    let left = bob.query("query($h: ID!) { home(id: $h) { members { user { id } } invitations { email } integrationTokens { id } } }", json!({"h": of_bob.id})).await;
    assert_eq!(left["home"], json!({"members": of_bob_alone, "invitations": [], "integrationTokens": []}));
    // The streams of others go on.
    let lamp = app.device(&bob, &kept, "lamp").await;
    app.publish(&lamp, "heartbeat", "{}").await;
    of_bobs.next().await;
    // The readings of the deleted home are purged after the answer.
    smarthome::homes::resume_deletions(&app.app().services().pool).await.unwrap();
    let rows = app.database().rows().await;
    for table in ["telemetry", "parked_readings"] {
        assert_eq!(rows[table], Vec::<String>::new(), "{table}");
    }
    // The address is free again.
    let register = "mutation($e: String!, $p: String!) { register(input: {email: $e, password: $p, name: \"A\"}) { user { id } } }";
    let again = app.stranger().query(register, json!({"e": ann.email, "p": ann.password})).await;
    assert_ne!(again["register"]["user"]["id"], json!(ann.id));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_not_deleted_with_homes_of_others_or_into_the_hands_of_strangers() {
    let app = TestApp::start().await;
    let (home, ann) = app.home().await;
    let (of_bob, bob) = app.home().await;
    join(&app, &of_bob, &ann, "ADMIN").await;
    let refused = async |more: Value| {
        let mut input = json!({"password": ann.password, "handOver": [{"homeId": home.id, "userId": bob.id}]});
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        refusal(&ann, DELETE, json!({"i": input})).await
    };
    let none = Value::Null;
    assert_eq!(refused(json!({})).await, ("NOT_FOUND".to_owned(), none.clone()), "bob is no member");
    assert_eq!(refused(json!({"deleteHomeIds": [of_bob.id]})).await, ("FORBIDDEN".to_owned(), none.clone()));
    assert_eq!(refused(json!({"deleteHomeIds": ["987654321"]})).await, ("NOT_FOUND".to_owned(), none));
    assert_eq!(refused(json!({"deleteHomeIds": [home.id]})).await, bad("deleteHomeIds"));
    assert_eq!(refused(json!({"handOver": [{"homeId": home.id, "userId": ann.id}]})).await, bad("handOver"));
    let homes = ann.query("{ homes { id } }", json!({})).await;
    assert_eq!(homes["homes"].as_array().unwrap().len(), 2);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_home_is_handed_over_if_a_later_one_can_not_be() {
    let app = TestApp::builder().set("HOMES_PER_USER", "2").start().await;
    let (first, ann) = app.home().await;
    let second = ann.home().await;
    let (_, bob) = app.home().await;
    let stranger = app.user().await;
    join(&app, &first, &bob, "MEMBER").await;
    join(&app, &second, &bob, "MEMBER").await;
    let refused = async |of_second: &User| {
        let hand_over = json!([{"homeId": first.id, "userId": bob.id}, {"homeId": second.id, "userId": of_second.id}]);
        refusal(&ann, DELETE, json!({"i": {"password": ann.password, "handOver": hand_over}})).await.0
    };
    assert_eq!(refused(&stranger).await, "NOT_FOUND");
    assert_eq!(refused(&bob).await, "CONFLICT", "bob would own three homes");
    let roles = bob.query("query($h: ID!) { home(id: $h) { myRole } }", json!({"h": first.id})).await;
    assert_eq!(roles["home"]["myRole"], "MEMBER");
    assert_eq!(
        ann.query("{ homes { myRole } }", json!({})).await["homes"],
        json!([{"myRole": "OWNER"}, {"myRole": "OWNER"}])
    );
    app.stop().await;
}

/// Otherwise a member could take an address with an open invitation, or learn which addresses have accounts.
#[tokio::test(flavor = "multi_thread")]
async fn while_registration_is_closed_only_the_operator_changes_addresses() {
    let app = TestApp::builder().set("REGISTRATION", "closed").start().await;
    let email = format!("{}@test.example", unique("ann"));
    let password = "a long enough passphrase";
    app.app().services().users.create(&email, password, "Ann").await.unwrap();
    let login = "mutation($e: String!, $p: String!) { login(input: {email: $e, password: $p}) { accessToken } }";
    let signed_in = app.stranger().query(login, json!({"e": email, "p": password})).await;
    let ann = User::with_token(app.addr(), signed_in["login"]["accessToken"].as_str().unwrap());
    let other = format!("{}@test.example", unique("other"));
    app.app().services().users.create(&other, password, "Other").await.unwrap();
    for address in [&other, &format!("{}@test.example", unique("free"))] {
        let change = json!({"i": {"email": address, "currentPassword": password}});
        assert_eq!(refusal(&ann, UPDATE, change).await.0, "FORBIDDEN");
    }
    // The address that they have, and another name, are no such change.
    let renamed = ann.query(UPDATE, json!({"i": {"email": email, "name": "Ann Lee"}})).await["updateMe"].take();
    assert_eq!((&renamed["name"], &renamed["email"]), (&json!("Ann Lee"), &json!(email)));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_deletes_an_account() {
    let app = TestApp::start().await;
    let (home, ann) = app.home().await;
    let bob = app.user().await;
    join(&app, &home, &bob, "GUEST").await;
    let url = app.database().url();
    let delete = |more: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_smarthome"));
        command.args(["user", "delete", "--email", &ann.email]).args(more).env_clear().env("DATABASE_URL", &url);
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let (is_deleted, text) = delete(&[]);
    assert!(!is_deleted && text.contains(&format!("no owner: {}", home.id)), "{text}");
    let (is_deleted, text) = delete(&["--hand-over", &format!("{}={}", home.id, bob.email)]);
    assert!(is_deleted, "{text}");
    let mine = bob.query("{ homes { id myRole } }", json!({})).await;
    assert_eq!(mine["homes"], json!([{"id": home.id, "myRole": "OWNER"}]));
    super::support::eventually("the session ends on the running server", || async {
        let answer = ann.post("{ me { id } }", json!({})).await.json();
        (answer["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED").then_some(())
    })
    .await;
    let (is_deleted, text) = delete(&[]);
    assert!(!is_deleted && text.contains("user not found"), "{text}");
    app.stop().await;
}
