//! The plugin's commands and answers in JSON.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::devices::MqttUser;
use crate::mqtt::topic::{self, DOWNLINK_KINDS, MessageKind};
use crate::settings::Secret;

#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Command(Value);

/// One rule of a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RoleTopic {
    pub acltype: AclType,
    pub topic: String,
    pub allow: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum AclType {
    PublishClientSend,
    PublishClientReceive,
}

/// The rules for a device's second user name: the broker's pattern rules take the user name for the topic.
pub fn role_topics(prefix: &str, user: MqttUser<'_>) -> Vec<RoleTopic> {
    let rule = |acltype, segment| {
        let topic = topic::device_topic(prefix, user.home, user.device, segment);
        RoleTopic { acltype, topic, allow: true }
    };
    let up = MessageKind::ALL.iter().map(|kind| rule(AclType::PublishClientSend, kind.as_str()));
    let down = DOWNLINK_KINDS.map(|kind| rule(AclType::PublishClientReceive, topic::downlink_segment(kind)));
    up.chain(down).collect()
}

/// The role with which the administrator deletes what deleted devices retained.
pub fn cleanup_role(prefix: &str) -> String {
    format!("{prefix}-cleanup")
}

/// The rules of [`cleanup_role`].
pub fn cleanup_role_topics(prefix: &str) -> Vec<RoleTopic> {
    let up = MessageKind::ALL.iter().map(|kind| kind.as_str());
    let segments = up.chain(DOWNLINK_KINDS.map(topic::downlink_segment));
    let topics = segments.map(|segment| topic::device_topic(prefix, "+", "+", segment));
    topics.map(|topic| RoleTopic { acltype: AclType::PublishClientSend, topic, allow: true }).collect()
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

    /// Creates the account and, for a second user name, its role.
    pub(super) fn create(prefix: &str, username: &str, client_id: &str, password: &Secret) -> Vec<Self> {
        let mut client = json!({"command": "createClient", "username": username, "password": password.reveal()});
        let Some(user) = MqttUser::parse(username) else { return vec![Self(client)] };
        client["clientid"] = client_id.into();
        if user.slot == 0 {
            return vec![Self(client)];
        }
        client["roles"] = json!([{"rolename": username}]);
        let role = json!({"command": "createRole", "rolename": username, "acls": role_topics(prefix, user)});
        vec![Self(role), Self(client)]
    }

    /// Changes the account's password, and the client id to which it is bound.
    pub(super) fn set_password(username: &str, client_id: &str, password: &Secret) -> Self {
        let password = password.reveal();
        Self(json!({"command": "modifyClient", "username": username, "clientid": client_id, "password": password}))
    }

    /// Deletes the account, which closes its connections, and its role.
    pub(super) fn remove(username: &str) -> Vec<Self> {
        let client = Self(json!({"command": "deleteClient", "username": username}));
        match MqttUser::parse(username) {
            Some(user) if user.slot > 0 => {
                vec![client, Self(json!({"command": "deleteRole", "rolename": username}))]
            }
            _ => vec![client],
        }
    }

    /// Lists a page of user names.
    pub(super) fn list(offset: usize, count: usize) -> Self {
        Self(json!({"command": "listClients", "verbose": false, "offset": offset, "count": count}))
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

    /// The user names of a page.
    pub(super) fn clients(&self) -> Vec<String> {
        let clients = self.data.as_ref().and_then(|data| data["clients"].as_array());
        clients.into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_user_name_has_a_role_with_the_devices_topics() {
        let commands = Command::create("smarthome", "main/lamp~1", "lamp@main~x", &Secret::new("secret"));
        let request: Value = serde_json::from_slice(&request(&commands, 7)).unwrap();
        let acls = request["commands"][0]["acls"].as_array().unwrap();
        assert_eq!(acls.len(), 6);
        assert_eq!(acls[5]["topic"], "smarthome/main/lamp/config");
        assert_eq!(request["commands"][1]["clientid"], "lamp@main~x");
        assert_eq!(request["commands"][1]["correlationData"], "7");
        assert_eq!(Command::create("smarthome", "main/lamp", "lamp@main~x", &Secret::new("secret")).len(), 1);
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
