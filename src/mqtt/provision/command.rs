//! The plugin's commands and answers in JSON.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::roles::{
    RoleTopic, account_roles, cleanup_role, cleanup_role_topics, home_role, home_role_topics, role_topics,
};
use crate::devices::MqttUser;
use crate::settings::Secret;

#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Command(Value);

/// What the plugin lists.
#[derive(Debug, Clone, Copy)]
pub(super) enum List {
    Clients,
    Roles,
}

impl List {
    fn command(self) -> &'static str {
        match self {
            Self::Clients => "listClients",
            Self::Roles => "listRoles",
        }
    }

    fn field(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::Roles => "roles",
        }
    }
}

impl Command {
    /// Asks for an account with its roles.
    pub(super) fn get(username: &str) -> Self {
        Self(json!({"command": "getClient", "username": username}))
    }

    /// Creates the role of cleanups and gives it to an account, whose connections the plugin then closes.
    pub(super) fn give_cleanup_role(prefix: &str, username: &str) -> Vec<Self> {
        let name = cleanup_role(prefix);
        let role = json!({"command": "createRole", "rolename": name, "acls": cleanup_role_topics(prefix)});
        let gift = json!({"command": "addClientRole", "username": username, "rolename": name});
        vec![Self(role), Self(gift)]
    }

    /// Creates the account with its roles, as far as they are missing.
    pub(super) fn create(prefix: &str, user: MqttUser<'_>, client_id: &str, password: &Secret) -> Vec<Self> {
        let role =
            |name: String, acls: Vec<RoleTopic>| Self(json!({"command": "createRole", "rolename": name, "acls": acls}));
        let mut commands = vec![role(home_role(user.home), home_role_topics(prefix, user.home))];
        if user.slot > 0 {
            commands.push(role(user.to_string(), role_topics(prefix, user)));
        }
        commands.push(Self::account("createClient", user, client_id, password));
        commands
    }

    /// Changes the account's password, its roles, and the client id to which it is bound.
    pub(super) fn set_password(user: MqttUser<'_>, client_id: &str, password: &Secret) -> Self {
        Self::account("modifyClient", user, client_id, password)
    }

    fn account(command: &str, user: MqttUser<'_>, client_id: &str, password: &Secret) -> Self {
        Self(json!({
            "command": command, "username": user.to_string(), "clientid": client_id,
            "password": password.reveal(), "roles": account_roles(user),
        }))
    }

    /// Deletes the role of a home without devices.
    pub(super) fn remove_role(name: &str) -> Self {
        Self(json!({"command": "deleteRole", "rolename": name}))
    }

    /// Deletes the account, which closes its connections, and its role.
    pub(super) fn remove(username: &str) -> Vec<Self> {
        let client = Self(json!({"command": "deleteClient", "username": username}));
        match MqttUser::parse(username) {
            Some(user) if user.slot > 0 => {
                vec![client, Self::remove_role(username)]
            }
            _ => vec![client],
        }
    }

    /// Lists a page of names.
    pub(super) fn list(list: List, offset: usize, count: usize) -> Self {
        Self(json!({"command": list.command(), "verbose": false, "offset": offset, "count": count}))
    }
}

/// A request of several commands. Their answers carry its number.
pub(super) fn request(commands: &[Command], number: u64) -> Vec<u8> {
    let commands: Vec<_> = commands
        .iter()
        .map(|Command(command)| {
            let mut command = command.clone();
            command["correlationData"] = number.to_string().into();
            command
        })
        .collect();
    json!({ "commands": commands }).to_string().into_bytes()
}

#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    #[serde(default)]
    error: Option<String>,
    #[serde(rename = "correlationData", default)]
    number: Option<String>,
    #[serde(default)]
    pub(super) data: Option<Value>,
}

impl Answer {
    /// The answers to the request with this number; none where the payload answers another administrator.
    pub(super) fn read(payload: &[u8], number: u64) -> Vec<Self> {
        #[derive(Deserialize)]
        struct Answers {
            responses: Vec<Answer>,
        }
        let answers = serde_json::from_slice(payload).map_or_else(|_| Vec::new(), |answers: Answers| answers.responses);
        let number = number.to_string();
        answers.into_iter().filter(|answer| answer.number.as_ref() == Some(&number)).collect()
    }

    /// Whether the plugin refused with this text. It has no error codes.
    pub(super) fn is(&self, error: &str) -> bool {
        self.error.as_deref() == Some(error)
    }

    /// Whether the command has succeeded, or its result was there before.
    pub(super) fn is_done(&self) -> bool {
        const DONE_BEFORE: [&str; 3] = ["Client not found", "Role not found", "Role already exists"];
        self.error.as_deref().is_none_or(|error| DONE_BEFORE.contains(&error))
    }

    pub(super) fn error(&self) -> &str {
        self.error.as_deref().unwrap_or_default()
    }

    /// Whether the account of the answer has a role.
    pub(super) fn has_role(&self, name: &str) -> bool {
        let roles = self.data.as_ref().and_then(|data| data["client"]["roles"].as_array());
        roles.is_some_and(|roles| roles.iter().any(|role| role["rolename"] == name))
    }

    /// The names of a page.
    pub(super) fn names(&self, list: List) -> Vec<String> {
        let names = self.data.as_ref().and_then(|data| data[list.field()].as_array());
        names.into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_the_role_of_its_home_and_a_second_user_name_one_with_the_devices_topics() {
        let create = |name| {
            let user = MqttUser::parse(name).unwrap();
            let commands = Command::create("smarthome", user, "lamp@main~x", &Secret::new("secret"));
            let request: Value = serde_json::from_slice(&request(&commands, 7)).unwrap();
            request["commands"].as_array().unwrap().clone()
        };
        let commands = create("main/lamp~1");
        let home = json!([
            {"acltype": "subscribePattern", "topic": "smarthome/main/+/commands", "allow": true, "priority": 1},
            {"acltype": "subscribePattern", "topic": "smarthome/main/+/config", "allow": true, "priority": 1},
            {"acltype": "subscribePattern", "topic": "#", "allow": false, "priority": 0},
            {"acltype": "subscribePattern", "topic": "$share/#", "allow": false, "priority": 0},
        ]);
        assert_eq!((&commands[0]["rolename"], &commands[0]["acls"]), (&json!("main/+"), &home));
        let acls = commands[1]["acls"].as_array().unwrap();
        assert_eq!(acls.len(), 6);
        assert_eq!(acls[5]["topic"], "smarthome/main/lamp/config");
        assert_eq!(commands[2]["clientid"], "lamp@main~x");
        assert_eq!(commands[2]["correlationData"], "7");
        assert_eq!(commands[2]["roles"], json!([{"rolename": "main/+"}, {"rolename": "main/lamp~1"}]));
        let commands = create("main/lamp");
        assert_eq!((commands.len(), &commands[1]["roles"]), (2, &json!([{"rolename": "main/+"}])));
        assert_eq!(Command::remove("main/lamp~1").len(), 2);
    }

    #[test]
    fn answers_to_others_and_unreadable_payloads_are_ignored() {
        let ours = br#"{"responses":[{"command":"deleteClient","error":"Client not found","correlationData":"3"}]}"#;
        assert!(Answer::read(ours, 3)[0].is_done());
        assert!(Answer::read(ours, 4).is_empty());
        assert!(Answer::read(b"{}", 3).is_empty() && Answer::read(b"\xff", 3).is_empty());
        let refused = br#"{"responses":[{"command":"createClient","error":"Internal error","correlationData":"3"}]}"#;
        assert!(!Answer::read(refused, 3)[0].is_done());
    }
}
