//! Members and invitations: who may invite, change roles and remove members.

use chrono::TimeDelta;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{Graph, Person, text};

const INVITE: &str = "mutation($h: ID!, $e: String!, $r: HomeRole!) { inviteMember(input: {homeId: $h, email: $e, role: $r}) \
                      { id token role email expiresAt } }";
const ACCEPT: &str = "mutation($t: String!) { acceptInvitation(token: $t) { id myRole } }";
const REVOKE: &str = "mutation($i: ID!) { revokeInvitation(id: $i) }";
const OPEN: &str = "query($h: ID!) { home(id: $h) { invitations { id email role } } }";
const SET: &str = "mutation($h: ID!, $u: ID!, $r: HomeRole!) { setMemberRole(input: {homeId: $h, userId: $u, role: $r}) { role user { id } } }";
const REMOVE: &str = "mutation($h: ID!, $u: ID!) { removeMember(input: {homeId: $h, userId: $u}) }";

fn id(person: &Person) -> String {
    person.0.as_ref().unwrap().user.to_string()
}

async fn email(graph: &Graph, person: &Person) -> String {
    text(&graph.ask(person, "{ me { email } }", json!({})).await["me"]["email"])
}

async fn invited(graph: &Graph, by: &Person, home: &str, person: &Person, role: &str) -> Value {
    let email = email(graph, person).await.to_uppercase();
    graph.ask(by, INVITE, json!({"h": home, "e": email, "r": role})).await["inviteMember"].take()
}

async fn role_of(graph: &Graph, home: &str, person: &Person) -> Option<String> {
    let answer = graph.answer(person, "query($h: ID!) { home(id: $h) { myRole } }", json!({"h": home})).await;
    answer["data"]["home"]["myRole"].as_str().map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_is_accepted_once_by_its_addressee() {
    let graph = Graph::start().await;
    let (ann, bob, eve) = (graph.person().await, graph.person().await, graph.person().await);
    let home = graph.home(&ann).await;
    let made = invited(&graph, &ann, &home, &bob, "ADMIN").await;
    assert_eq!((&made["role"], &made["email"]), (&json!("ADMIN"), &json!(email(&graph, &bob).await)));
    let open = graph.ask(&ann, OPEN, json!({"h": home})).await;
    assert_eq!(open["home"]["invitations"][0]["id"], made["id"]);

    // A token that is wrong, of another person, revoked, replaced, expired or used gets the same answer.
    let mut refusals = Vec::new();
    refusals.push(graph.answer(&bob, ACCEPT, json!({"t": "inv_wrong"})).await);
    refusals.push(graph.answer(&bob, ACCEPT, json!({"t": "x".repeat(1000)})).await);
    refusals.push(graph.answer(&eve, ACCEPT, json!({"t": made["token"]})).await);
    let again = invited(&graph, &ann, &home, &bob, "MEMBER").await;
    refusals.push(graph.answer(&bob, ACCEPT, json!({"t": made["token"]})).await);
    assert_eq!(graph.code(&eve, REVOKE, json!({"i": again["id"]})).await, "NOT_FOUND");
    graph.ask(&ann, REVOKE, json!({"i": again["id"]})).await;
    refusals.push(graph.answer(&bob, ACCEPT, json!({"t": again["token"]})).await);
    let expired = invited(&graph, &ann, &home, &bob, "MEMBER").await;
    graph.clock.advance(TimeDelta::days(7));
    refusals.push(graph.answer(&bob, ACCEPT, json!({"t": expired["token"]})).await);
    assert_eq!(graph.ask(&ann, OPEN, json!({"h": home})).await["home"]["invitations"], json!([]));
    let valid = invited(&graph, &ann, &home, &bob, "ADMIN").await;
    let joined = graph.ask(&bob, ACCEPT, json!({"t": valid["token"]})).await;
    assert_eq!(joined["acceptInvitation"], json!({"id": home, "myRole": "ADMIN"}));
    refusals.push(graph.answer(&bob, ACCEPT, json!({"t": valid["token"]})).await);
    assert_eq!(refusals[0]["errors"][0]["extensions"], json!({"code": "BAD_USER_INPUT", "field": "token"}));
    assert!(refusals.windows(2).all(|pair| pair[0] == pair[1]), "{refusals:#?}");
    let of_a_member = json!({"h": home, "e": email(&graph, &bob).await, "r": "GUEST"});
    assert_eq!(graph.code(&ann, INVITE, of_a_member).await, "CONFLICT");
    // An accepted invitation is deleted.
    assert_eq!(graph.count("invitations").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_twenty_concurrent_acceptances_succeeds() {
    let graph = Graph::start().await;
    let (ann, bob) = (graph.person().await, graph.person().await);
    let home = graph.home(&ann).await;
    let made = invited(&graph, &ann, &home, &bob, "GUEST").await;
    let answers = join_all((0..20).map(|_| graph.answer(&bob, ACCEPT, json!({"t": made["token"]})))).await;
    assert_eq!(answers.iter().filter(|answer| answer.get("errors").is_none()).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_grants_more_than_their_own_role() {
    let graph = Graph::start().await;
    let people: Vec<Person> = join_all((0..5).map(|_| graph.person())).await;
    let [owner, admin, other, member, guest] = &people[..] else { unreachable!() };
    let home = graph.home(owner).await;
    for (person, role) in [(admin, "ADMIN"), (other, "ADMIN"), (member, "MEMBER"), (guest, "GUEST")] {
        graph.join(&home, person, role).await;
    }
    let set = |person: &Person, role: &str| json!({"h": home, "u": id(person), "r": role});
    let remove = |person: &Person| json!({"h": home, "u": id(person)});
    let new = |role: &str| json!({"h": home, "e": "new@test.example", "r": role});
    for (person, query, variables) in [
        (admin, INVITE, new("OWNER")),
        (member, INVITE, new("GUEST")),
        (admin, SET, set(guest, "OWNER")),
        (admin, SET, set(admin, "OWNER")),
        (admin, SET, set(owner, "GUEST")),
        (member, SET, set(guest, "GUEST")),
        (guest, SET, set(guest, "OWNER")),
        (admin, REMOVE, remove(owner)),
        (member, REMOVE, remove(guest)),
        (guest, OPEN, json!({"h": home})),
    ] {
        assert_eq!(graph.code(person, query, variables.clone()).await, "FORBIDDEN", "{query} {variables}");
    }
    assert_eq!(graph.code(owner, SET, json!({"h": home, "u": "987654321", "r": "GUEST"})).await, "NOT_FOUND");
    assert_eq!(graph.code(owner, REMOVE, json!({"h": home, "u": "x"})).await, "NOT_FOUND");
    assert_eq!(graph.ask(admin, SET, set(other, "GUEST")).await["setMemberRole"]["role"], "GUEST");
    assert_eq!(graph.ask(admin, SET, set(guest, "MEMBER")).await["setMemberRole"]["user"]["id"], id(guest));
    // An admin who is demoted loses the invitations that only an admin may send.
    graph.ask(admin, INVITE, new("MEMBER")).await;
    graph.ask(owner, INVITE, json!({"h": home, "e": "kept@test.example", "r": "OWNER"})).await;
    graph.ask(owner, SET, set(admin, "MEMBER")).await;
    let open = graph.ask(owner, OPEN, json!({"h": home})).await;
    assert_eq!(open["home"]["invitations"].as_array().unwrap().len(), 1);
    assert_eq!(graph.ask(owner, REMOVE, remove(other)).await["removeMember"], true);
    assert_eq!(graph.ask(member, REMOVE, remove(member)).await["removeMember"], true);
    assert_eq!(role_of(&graph, &home, member).await, None);
    assert_eq!(graph.code(member, REMOVE, remove(member)).await, "NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_does_not_replace_an_invitation_of_an_owner() {
    let graph = Graph::start().await;
    let (owner, admin, heir) = (graph.person().await, graph.person().await, graph.person().await);
    let home = graph.home(&owner).await;
    graph.join(&home, &admin, "ADMIN").await;
    let made = invited(&graph, &owner, &home, &heir, "OWNER").await;
    let lesser = json!({"h": home, "e": email(&graph, &heir).await, "r": "GUEST"});
    assert_eq!(graph.code(&admin, INVITE, lesser.clone()).await, "FORBIDDEN");
    assert_eq!(graph.ask(&admin, OPEN, json!({"h": home})).await["home"]["invitations"][0]["id"], made["id"]);
    graph.ask(&heir, ACCEPT, json!({"t": made["token"]})).await;
    assert_eq!(role_of(&graph, &home, &heir).await.as_deref(), Some("OWNER"));
    // An owner may replace it, and anybody may once it has expired.
    let other = graph.person().await;
    let lesser = json!({"h": home, "e": email(&graph, &other).await, "r": "GUEST"});
    invited(&graph, &owner, &home, &other, "OWNER").await;
    graph.ask(&owner, INVITE, lesser.clone()).await;
    invited(&graph, &owner, &home, &other, "OWNER").await;
    graph.clock.advance(TimeDelta::days(7));
    graph.ask(&admin, INVITE, lesser).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_always_has_an_owner() {
    let graph = Graph::start().await;
    let (ann, bob) = (graph.person().await, graph.person().await);
    let home = graph.home(&ann).await;
    graph.join(&home, &bob, "MEMBER").await;
    let leave = |person: &Person| json!({"h": home, "u": id(person)});
    let set = |person: &Person, role: &str| json!({"h": home, "u": id(person), "r": role});
    assert_eq!(graph.code(&ann, REMOVE, leave(&ann)).await, "CONFLICT");
    assert_eq!(graph.code(&ann, SET, set(&ann, "ADMIN")).await, "CONFLICT");
    for _ in 0..20 {
        // Both are owners, and both step down at the same moment.
        graph.sql.execute("update memberships set role = 'OWNER'", &[]).await.unwrap();
        let (one, two) =
            tokio::join!(graph.answer(&ann, SET, set(&ann, "GUEST")), graph.answer(&bob, SET, set(&bob, "GUEST")));
        let codes = [one, two].map(|answer| answer["errors"][0]["extensions"]["code"].clone());
        assert!(codes.contains(&json!("CONFLICT")) && codes.contains(&Value::Null), "{codes:?}");
        assert_eq!(graph.count("memberships where role = 'OWNER'").await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_has_at_most_a_hundred_members_and_open_invitations() {
    let graph = Graph::start().await;
    let (ann, bob) = (graph.person().await, graph.person().await);
    let home = graph.home(&ann).await;
    let made = invited(&graph, &ann, &home, &bob, "GUEST").await;
    for n in 1..100 {
        graph.ask(&ann, INVITE, json!({"h": home, "e": format!("u{n}@test.example"), "r": "GUEST"})).await;
    }
    let more = json!({"h": home, "e": "more@test.example", "r": "GUEST"});
    assert_eq!(graph.code(&ann, INVITE, more).await, "CONFLICT");
    let ninety_nine_members = "with u as (insert into users (email, name, password_hash) select 'c' || n || '@x.example', 'C', '-' \
                 from generate_series(1, 99) n returning id) \
                 insert into memberships (home_id, user_id, role) select homes.id, u.id, 'GUEST' from u, homes";
    graph.sql.batch_execute(ninety_nine_members).await.unwrap();
    assert_eq!(graph.code(&bob, ACCEPT, json!({"t": made["token"]})).await, "CONFLICT");
    // The refusal did not consume the token.
    graph.sql.batch_execute("delete from users where email = 'c1@x.example'").await.unwrap();
    graph.ask(&bob, ACCEPT, json!({"t": made["token"]})).await;
}
