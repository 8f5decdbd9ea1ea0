//! Test data: homes with objects of every kind, and actors with every relation to one of them.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use smarthome::ids::{CommandId, SessionId};
use smarthome::opaque_token;
use tokio_postgres::types::ToSql;

use super::rights::{Relation, Role, Scope};
use crate::support::app::TestApp;
use crate::support::unique;
use crate::support::user::User;

/// Part of every name in the home of the requests. No non-member may read it.
pub(super) const OWN: &str = "Hearth";
/// Part of every name in the home to which no actor belongs.
pub(super) const FOREIGN: &str = "Foreign";
/// Part of every name in the homes to which only the landlord belongs.
pub(super) const INVITING: &str = "Inviting";
const PASSWORD: &str = "a long enough password for a test";

/// Values of the variables of operations.
pub(super) type Things = HashMap<&'static str, String>;

pub(super) struct Actor {
    pub(super) name: &'static str,
    pub(super) relation: Relation,
    pub(super) user: User,
    /// Objects of the actor, in whatever home.
    pub(super) things: Things,
}

pub(super) struct World {
    pub(super) app: TestApp,
    pub(super) sql: tokio_postgres::Client,
    pub(super) actors: Vec<Actor>,
    /// The home of the requests.
    pub(super) own: Things,
    /// A home to which no actor belongs.
    pub(super) foreign: Things,
    /// Owner of every home but the foreign one.
    pub(super) landlord: User,
    fellow: User,
}

/// Opens a session like a sign-in, but without hashing a password.
async fn session(app: &TestApp, sql: &tokio_postgres::Client, user: &str) -> (String, String) {
    let (family, token) = (SessionId::generate(app.clock().now()).to_string(), opaque_token::generate("rt_"));
    let digest = opaque_token::digest(&token).expect("a token of ours").to_vec();
    let insert = "insert into refresh_tokens (user_id, family, token_hash, expires_at) \
                  values ($1, $2::text::uuid, $3, now() + interval '1 day')";
    let values: [&(dyn ToSql + Sync); 3] = [&number(user), &family, &digest];
    sql.execute(insert, &values).await.expect("a session");
    (family, token)
}

fn number(id: &str) -> i64 {
    id.parse().expect("an id")
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Guest => "GUEST",
        Role::Member => "MEMBER",
        Role::Admin => "ADMIN",
        Role::Owner => "OWNER",
    }
}

fn cursor(of: &str, id: impl std::fmt::Display) -> String {
    URL_SAFE_NO_PAD.encode(format!("{of}:{id}"))
}

impl World {
    pub(super) async fn build() -> Self {
        // Nothing listens there: a mail is not needed.
        let mail = TestApp::builder().set("SMTP_URL", "smtp://127.0.0.1:9?tls=off").set("SMTP_FROM", "a@test.example");
        let app = mail.set("EMAIL_VERIFICATION", "off").set("HOMES_PER_USER", "1000").start().await;
        let sql = app.database().client().await;
        sql.batch_execute("create table telemetry_rest partition of telemetry default").await.expect("a partition");
        let names = ["stranger", "guest", "member", "admin", "owner", "removed"];
        let users = futures_util::future::join_all((0..names.len() + 3).map(|_| app.user())).await;
        let [landlord, fellow, other] = &users[names.len()..] else { panic!("three more") };
        let mut world = Self {
            sql,
            actors: Vec::new(),
            own: Things::new(),
            foreign: Things::new(),
            landlord: landlord.clone(),
            fellow: fellow.clone(),
            app,
        };
        world.actors.push(world.actor("signed out", Relation::SignedOut, world.app.stranger()).await);
        for (name, user) in names.into_iter().zip(&users) {
            let relation = match name {
                "guest" => Relation::Member(Role::Guest),
                "member" => Relation::Member(Role::Member),
                "admin" => Relation::Member(Role::Admin),
                "owner" => Relation::Member(Role::Owner),
                _ => Relation::NonMember,
            };
            world.actors.push(world.actor(name, relation, user.clone()).await);
        }
        // The foreign home first: its readings are older, so a cursor among them lies before all readings of the other.
        world.foreign = world.home_of(FOREIGN, &[(other, "OWNER")]).await;
        world.foreign.insert("session", session(&world.app, &world.sql, &other.id).await.0);
        world.foreign.insert("fellow", other.id.clone());
        let token = world.invitation_for(&world.fellow.email).await;
        world.foreign.insert("invitation_token", token);
        world.own = world.home(OWN).await;
        world.remove("removed").await;
        for scope in Scope::ALL {
            let token = world.token(&[scope], false).await;
            world.actors.push(world.actor(scope.as_str(), Relation::Token(scope), token.1).await);
        }
        let restricted = world.token(&Scope::ALL, true).await;
        world.actors.push(world.actor("restricted", Relation::RestrictedToken, restricted.1).await);
        let (id, revoked) = world.token(&Scope::ALL, false).await;
        world.actors.push(world.actor("revoked", Relation::RevokedToken, revoked).await);
        world.landlord.query("mutation($t: ID!) { revokeIntegrationToken(id: $t) }", json!({ "t": id })).await;
        let audit = "select max(id) from audit_log where home_id = $1";
        for at in [OWN, FOREIGN] {
            let home = if at == OWN { &world.own["home"] } else { &world.foreign["home"] };
            let newest: i64 = world.sql.query_one(audit, &[&number(home)]).await.expect("an entry").get(0);
            let things = if at == OWN { &mut world.own } else { &mut world.foreign };
            things.insert("audit_cursor", cursor("audit", newest));
        }
        world
    }

    /// Creates an integration of the home, for all devices or only for the other one. Returns the id of its token and a
    /// client with the token.
    async fn token(&self, scopes: &[Scope], is_restricted: bool) -> (String, User) {
        let create = "mutation($i: CreateIntegrationTokenInput!) { createIntegrationToken(input: $i) \
                      { token integrationToken { id } } }";
        let scopes: Vec<_> = scopes.iter().map(|scope| scope.as_str()).collect();
        let devices = is_restricted.then(|| [self.own["other_device"].clone()]);
        let input = json!({"homeId": self.own["home"], "name": OWN, "scopes": scopes, "deviceIds": devices});
        let made = self.landlord.query(create, json!({ "i": input })).await["createIntegrationToken"].take();
        let mut holder = User::with_token(self.app.addr(), made["token"].as_str().expect("a token"));
        // Records the use of the token, which is not recorded again within a minute.
        let me = holder.query("{ me { id } }", json!({})).await;
        holder.id = me["me"]["id"].as_str().expect("an id").to_owned();
        (made["integrationToken"]["id"].as_str().expect("an id").to_owned(), holder)
    }

    /// An actor with a session and an invitation. Non-members have a home of their own.
    async fn actor(&self, name: &'static str, relation: Relation, user: User) -> Actor {
        if relation == Relation::NonMember {
            user.home().await;
        }
        let mut things = Things::from([("me", user.id.clone())]);
        // A signed-out actor has no session and uses one of another user.
        let owner = if user.id.is_empty() { &self.fellow } else { &user };
        things.insert("session", session(&self.app, &self.sql, &owner.id).await.0);
        let email = if user.email.is_empty() { &self.fellow.email } else { &user.email };
        things.insert("invitation_token", self.invitation_for(email).await);
        Actor { name, relation, user, things }
    }

    /// Makes an actor a member and removes them by the API.
    async fn remove(&self, name: &str) {
        let user = &self.actors.iter().find(|actor| actor.name == name).expect("an actor").user;
        let insert = "insert into memberships (home_id, user_id, role) values ($1, $2, 'ADMIN')";
        self.sql.execute(insert, &[&number(&self.own["home"]), &number(&user.id)]).await.expect("a membership");
        let remove = "mutation($h: ID!, $u: ID!) { removeMember(input: {homeId: $h, userId: $u}) }";
        self.landlord.query(remove, json!({"h": self.own["home"], "u": user.id})).await;
    }

    /// A token for a new password of an account that nobody else uses.
    async fn reset_token(&self) -> String {
        let email = format!("{}@test.example", unique("forgetful"));
        let insert = "insert into users (email, name, password_hash) values ($1, 'Forgetful', '-')";
        self.sql.execute(insert, &[&email]).await.expect("a user");
        let made = self.app.app().services().users.create_password_reset(&email).await.expect("a token");
        made.expect("the user's token").0
    }

    /// Another user with the relation of this actor to a home.
    pub(super) async fn stand_in(&self, at: usize, things: &Things) -> User {
        let user = self.app.user().await;
        if let Relation::Member(role) = self.actors[at].relation {
            let insert = "insert into memberships (home_id, user_id, role) values ($1, $2, $3)";
            let values: [&(dyn ToSql + Sync); 3] = [&number(&things["home"]), &number(&user.id), &role_name(role)];
            self.sql.execute(insert, &values).await.expect("a membership");
        }
        user
    }

    /// A home with all actors that are members.
    pub(super) async fn home(&self, word: &str) -> Things {
        let mut members = vec![(&self.landlord, "OWNER"), (&self.fellow, "MEMBER")];
        members.extend(self.actors.iter().filter_map(|actor| match actor.relation {
            Relation::Member(role) => Some((&actor.user, role_name(role))),
            _ => None,
        }));
        let mut things = self.home_of(word, &members).await;
        things.insert("fellow", self.fellow.id.clone());
        things.insert("co_owner", self.landlord.id.clone());
        things
    }

    async fn home_of(&self, word: &str, members: &[(&User, &str)]) -> Things {
        let key = unique(word).replace('_', "-");
        let users: Vec<i64> = members.iter().map(|(user, _)| number(&user.id)).collect();
        let roles: Vec<&str> = members.iter().map(|(_, role)| *role).collect();
        let commands = [CommandId::generate(), CommandId::generate()];
        let [first, second] = commands.map(|id| id.as_uuid().to_string());
        let values: [&(dyn ToSql + Sync); 6] = [&key, &users, &roles, &first, &second, &key];
        let row = self.sql.query_one(include_str!("home.sql"), &values).await.expect("a home");
        let id = |at: usize| row.get::<_, i64>(at).to_string();
        let seq = "select min(seq) from commands where home_id = $1";
        let seq: i64 = self.sql.query_one(seq, &[&number(&id(0))]).await.expect("a command").get(0);
        let rejected = "select max(id) from rejected_messages where home_id = $1";
        let rejected: i64 = self.sql.query_one(rejected, &[&number(&id(0))]).await.expect("a message").get(0);
        Things::from([
            ("home", id(0)),
            ("room", id(1)),
            ("device", id(2)),
            ("other_device", id(3)),
            ("integration", row.get(7)),
            ("reading", id(4)),
            ("invitation", id(5)),
            ("owner_invitation", id(6)),
            ("owner_invited_email", format!("{}owner@test.example", key.to_lowercase())),
            ("command", commands[1].to_string()),
            ("device_cursor", cursor("device", id(2).min(id(3)))),
            ("command_cursor", cursor("command", seq + 1)),
            ("config_cursor", cursor("config", 2)),
            ("rejected_cursor", cursor("rejected", rejected)),
        ])
    }

    /// A cursor in the readings of a device.
    pub(super) async fn reading_cursor(&self, who: &User, things: &Things) -> String {
        let query = "query($d: ID!) { device(id: $d) { telemetry(first: 1) { edges { cursor } } } }";
        let data = who.query(query, json!({"d": things["device"]})).await;
        data["device"]["telemetry"]["edges"][0]["cursor"].as_str().expect("a cursor").to_owned()
    }

    /// The token of an open invitation.
    async fn invitation_for(&self, email: &str) -> String {
        let inviting = self.home_of(INVITING, &[(&self.landlord, "OWNER")]).await;
        let token = opaque_token::generate("inv_");
        let digest = opaque_token::digest(&token).expect("a token of ours").to_vec();
        let insert = "insert into invitations (home_id, email, role, token_hash, invited_by, expires_at) \
                      values ($1, $2, 'GUEST', $3, $4, now() + interval '1 day')";
        let values: [&(dyn ToSql + Sync); 4] =
            [&number(&inviting["home"]), &email, &digest, &number(&self.landlord.id)];
        self.sql.execute(insert, &values).await.expect("an invitation");
        token
    }

    /// A token that verifies the fellow's address.
    async fn verification_token(&self) -> String {
        let token = opaque_token::generate("ev_");
        let digest = opaque_token::digest(&token).expect("a token of ours").to_vec();
        let insert = "insert into account_tokens (token_hash, user_id, purpose, email, expires_at) \
                      select $1, id, 'EMAIL', email, now() + interval '1 day' from users where id = $2";
        let values: [&(dyn ToSql + Sync); 2] = [&digest, &number(&self.fellow.id)];
        self.sql.execute(insert, &values).await.expect("a token");
        token
    }

    /// The variables of an operation for an actor: from the home, the actor, or generated.
    pub(super) async fn variables(&self, names: &[String], actor: &Actor, things: &Things) -> Value {
        let mut variables = serde_json::Map::new();
        for name in names {
            let value = match name.as_str() {
                "fresh" => unique("fresh"),
                "fresh_email" => format!("{}@test.example", unique("fresh")),
                "email" => self.fellow.email.clone(),
                "password" => PASSWORD.to_owned(),
                "refresh" if !things.contains_key("refresh") => session(&self.app, &self.sql, &self.fellow.id).await.1,
                "reset" => self.reset_token().await,
                "verification" => self.verification_token().await,
                name => match things.get(name).or_else(|| actor.things.get(name)) {
                    Some(value) => value.clone(),
                    None => panic!("${name} has no value: see tests/it/access/world.rs"),
                },
            };
            variables.insert(name.clone(), Value::String(value));
        }
        Value::Object(variables)
    }
}

/// An operation with its variables declared, and their names.
pub(super) fn declared(operation: &str) -> (String, Vec<String>) {
    let mut names: Vec<String> = Vec::new();
    for part in operation.split('$').skip(1) {
        let name: String = part.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if names.is_empty() {
        return (operation.to_owned(), names);
    }
    const TEXTS: [&str; 9] = [
        "fresh",
        "fresh_email",
        "email",
        "owner_invited_email",
        "password",
        "refresh",
        "reset",
        "verification",
        "invitation_token",
    ];
    let types = names.iter().map(|name| {
        let is_text = TEXTS.contains(&name.as_str()) || name.ends_with("_cursor");
        format!("${name}: {}!", if is_text { "String" } else { "ID" })
    });
    let types = types.collect::<Vec<_>>().join(", ");
    (operation.replacen(" {", &format!("({types}) {{"), 1), names)
}

/// The id of an absent object, in the format of the variable.
pub(super) fn absent(variable: &str) -> String {
    match variable {
        "command" => "cmd_7ZZZZZZZZZZZZZZZZZZZZZZZZZ".to_owned(),
        "session" | "integration" => "01234567-89ab-4def-8123-456789abcdef".to_owned(),
        "invitation_token" | "refresh" | "reset" | "verification" => {
            "inv_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned()
        }
        _ => "987654321".to_owned(),
    }
}

/// Malformed ids.
pub(super) const MALFORMED: [&str; 6] = ["007", "", "\u{0}", "24:6F:28:AA:BB:CC", "99999999999999999999", "cmd_"];
