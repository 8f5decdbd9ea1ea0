//! The devices' accounts as Mosquitto's files: for a new broker, and for a broker that has lost its accounts.

use std::collections::BTreeSet;
use std::fmt::{self, Write};

use serde_json::{Value, json};

use super::provision::{
    AclType, account_roles, cleanup_role, cleanup_role_topics, home_of_role, home_role, home_role_topics, role_topics,
};
use super::topic::{self, MessageKind};
use crate::devices::{MqttUser, StoredAccount, broker_hash};
use crate::settings::{DynsecAccount, Secret};

/// The rules of this repository, with the prefix and the server's user name in them.
const RULES: &str = include_str!("../../docker/mosquitto/acl");
const RULES_PREFIX: &str = " smarthome/";
const RULES_SERVER: &str = "user smarthome_backend\n";
const ADMIN_ROLE: &str = "admin";

pub struct Export<'a> {
    pub prefix: &'a str,
    /// User name and password of the server, where it has them.
    pub server: Option<(&'a str, &'a Secret)>,
    /// The administrator of the plugin, where it is used.
    pub admin: Option<&'a DynsecAccount>,
    pub devices: &'a [StoredAccount],
    /// Home and device of topics under which deleted devices may have left retained messages.
    pub to_clean_up: &'a [(String, String)],
}

/// How many accounts the files have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    devices: usize,
    server: bool,
    admin: bool,
    /// Those in `dynamic-security.json` that belong to no device and are not ours.
    others: usize,
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { devices, server, admin, others } = *self;
        let mut parts = Vec::new();
        if devices > 0 {
            parts.push(format!("{devices} of devices"));
        }
        parts.extend(server.then(|| "the server's".to_owned()));
        parts.extend(admin.then(|| "the administrator's".to_owned()));
        match others {
            0 => {}
            1 => parts.push("1 other in dynamic-security.json".to_owned()),
            n => parts.push(format!("{n} others in dynamic-security.json")),
        }
        parts.join(", ").fmt(f)
    }
}

impl Written {
    /// All of them.
    pub fn total(&self) -> usize {
        self.devices + usize::from(self.server) + usize::from(self.admin) + self.others
    }
}

/// The existing file does not have the plugin's form.
#[derive(Debug, thiserror::Error)]
#[error("the existing dynamic-security.json can't be read ({0}): move it away")]
pub struct UnreadableFile(#[from] serde_json::Error);

impl Export<'_> {
    /// `dynamic-security.json`. Accounts in `existing` that belong to no device are kept; the server's and the
    /// administrator's are replaced where they are given. Also returns how many accounts the files have.
    pub fn dynamic_security(&self, existing: Option<&str>) -> Result<(String, Written), UnreadableFile> {
        let mut file: Value = existing.map_or_else(|| Ok(json!({})), serde_json::from_str)?;
        let ours: Vec<_> =
            self.server.iter().map(|(name, _)| *name).chain(self.admin.map(|a| a.username.as_str())).collect();
        let mut clients = entries(&mut file, "clients");
        clients.retain(|client| {
            let name = client["username"].as_str().unwrap_or_default();
            MqttUser::parse(name).is_none() && !ours.contains(&name)
        });
        let others = clients.len();
        let mut roles = entries(&mut file, "roles");
        roles.retain(|role| {
            let name = role["rolename"].as_str().unwrap_or_default();
            MqttUser::parse(name).is_none() && home_of_role(name).is_none()
        });
        if let Some(admin) = self.admin {
            let mut client = client(&admin.username, &broker_hash(admin.password.reveal()));
            let cleanup = cleanup_role(self.prefix);
            client["roles"] = json!([{"rolename": ADMIN_ROLE}, {"rolename": cleanup}]);
            clients.push(client);
            roles.retain(|role| role["rolename"] != ADMIN_ROLE && role["rolename"] != *cleanup);
            roles.push(admin_role());
            roles.push(json!({"rolename": cleanup, "acls": cleanup_role_topics(self.prefix)}));
        }
        if let Some((name, password)) = self.server {
            clients.push(client(name, &broker_hash(password.reveal())));
        }
        let homes: BTreeSet<_> = self.users().map(|(user, ..)| user.home).collect();
        roles.extend(homes.into_iter().map(|home| {
            let acls = home_role_topics(self.prefix, home);
            json!({"rolename": home_role(home), "acls": acls})
        }));
        for (user, name, hash, client_id) in self.users() {
            let mut client = client(name, hash);
            client["clientid"] = client_id.into();
            client["roles"] = account_roles(user);
            if user.slot > 0 {
                roles.push(json!({"rolename": name, "acls": role_topics(self.prefix, user)}));
            }
            clients.push(client);
        }
        file["clients"] = clients.into();
        file["roles"] = roles.into();
        // `false` passes the decision on to the ACL file; `true` would allow the action without it.
        file["defaultACLAccess"] = json!({
            "publishClientSend": false, "publishClientReceive": false, "subscribe": true, "unsubscribe": true
        });
        let mut text = serde_json::to_string_pretty(&file)?;
        text.push('\n');
        let devices = self.users().count();
        Ok((text, Written { devices, server: self.server.is_some(), admin: self.admin.is_some(), others }))
    }

    /// `passwd`, for brokers that read passwords from a file.
    pub fn passwords(&self) -> String {
        let mut text = String::new();
        if let Some((name, password)) = self.server {
            let _ = writeln!(text, "{name}:{}", broker_hash(password.reveal()));
        }
        for (_, name, hash, _) in self.users() {
            let _ = writeln!(text, "{name}:{hash}");
        }
        text
    }

    /// `acl`: the rules of docker/mosquitto/acl, those of devices that use their second user name, and those that let the
    /// server delete what deleted devices retained.
    pub fn rules(&self) -> String {
        let mut text = RULES.replace(RULES_PREFIX, &format!(" {}/", self.prefix));
        if let Some((name, _)) = self.server {
            text = text.replace(RULES_SERVER, &format!("user {name}\n"));
        }
        for (user, name, ..) in self.users().filter(|(user, ..)| user.slot > 0) {
            let _ = writeln!(text, "\nuser {name}");
            for rule in role_topics(self.prefix, user) {
                let access = match rule.acltype {
                    AclType::PublishClientSend => "write",
                    AclType::PublishClientReceive | AclType::SubscribePattern => "read",
                };
                let _ = writeln!(text, "topic {access} {}", rule.topic);
            }
        }
        if let (Some((name, _)), false) = (self.server, self.to_clean_up.is_empty()) {
            let _ = writeln!(text, "\n# To delete what deleted devices retained.\nuser {name}");
            for (home, device) in self.to_clean_up {
                for kind in MessageKind::ALL {
                    let topic = topic::device_topic(self.prefix, home, device, kind.as_str());
                    let _ = writeln!(text, "topic write {topic}");
                }
            }
        }
        text
    }

    /// User names of accounts without a stored hash.
    pub fn without_hash(&self) -> impl Iterator<Item = &str> {
        self.devices.iter().filter(|account| account.hash.is_none()).map(|account| account.username.as_str())
    }

    fn users(&self) -> impl Iterator<Item = (MqttUser<'_>, &str, &str, &str)> {
        self.devices.iter().filter_map(|account| {
            let name = account.username.as_str();
            Some((MqttUser::parse(name)?, name, account.hash.as_deref()?, account.client_id.as_str()))
        })
    }
}

/// Takes a list of the file.
fn entries(file: &mut Value, name: &str) -> Vec<Value> {
    match file.get_mut(name).map(Value::take) {
        Some(Value::Array(entries)) => entries,
        _ => Vec::new(),
    }
}

fn client(name: &str, hash: &str) -> Value {
    let mut parts = hash.split('$').skip(2);
    let rounds = parts.next().and_then(|rounds| rounds.parse::<u32>().ok());
    let (salt, hash) = (parts.next(), parts.next());
    json!({"username": name, "password": hash, "salt": salt, "iterations": rounds})
}

/// The role that `mosquitto_ctrl dynsec init` creates, without access to the devices' messages.
fn admin_role() -> Value {
    let acl = |kind: &str, topic: &str| json!({"acltype": kind, "topic": topic, "allow": true});
    let control = "$CONTROL/dynamic-security/#";
    let acls = [
        acl("publishClientSend", control),
        acl("publishClientReceive", control),
        acl("subscribePattern", control),
        acl("publishClientReceive", "$SYS/#"),
        acl("subscribePattern", "$SYS/#"),
    ];
    json!({"rolename": ADMIN_ROLE, "acls": acls})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_accounts_are_kept() {
        let account = |name: &str, hash: Option<&str>| StoredAccount {
            username: name.to_owned(),
            hash: hash.map(str::to_owned),
            client_id: "lamp@main~x".to_owned(),
        };
        let devices = [account("main/lamp", Some("$7$101$c2FsdA==$aGFzaA==")), account("main/fan", None)];
        let secret = Secret::new("of the server");
        let export = Export {
            prefix: "home",
            server: Some(("server", &secret)),
            admin: None,
            devices: &devices,
            to_clean_up: &[],
        };
        let existing = json!({
            "clients": [{"username": "monitor", "roles": []}, {"username": "main/gone"}, {"username": "server"}],
            "roles": [{"rolename": "main/gone"}, {"rolename": "gone/+"}, {"rolename": "monitors"}], "groups": [{"groupname": "g"}],
        });
        let (text, written) = export.dynamic_security(Some(&existing.to_string())).unwrap();
        assert_eq!(written, Written { devices: 1, server: true, admin: false, others: 1 });
        let file: Value = serde_json::from_str(&text).unwrap();
        let names: Vec<_> =
            file["clients"].as_array().unwrap().iter().map(|c| c["username"].as_str().unwrap()).collect();
        assert_eq!(names, ["monitor", "server", "main/lamp"]);
        assert_eq!(file["clients"][2]["salt"], "c2FsdA==");
        assert_eq!(file["clients"][2]["iterations"], 101);
        assert_eq!(file["clients"][2]["clientid"], "lamp@main~x");
        assert_eq!(file["clients"][2]["roles"], json!([{"rolename": "main/+"}]));
        let roles: Vec<_> = file["roles"].as_array().unwrap().iter().map(|role| &role["rolename"]).collect();
        assert_eq!(roles, ["monitors", "main/+"]);
        assert_eq!(file["groups"][0]["groupname"], "g");
        assert_eq!(export.without_hash().collect::<Vec<_>>(), ["main/fan"]);
        assert!(export.rules().contains("user server\n") && export.rules().contains("pattern write home/%u/ack\n"));
        assert!(!export.rules().contains("smarthome/+"));
        assert!(export.dynamic_security(Some("nonsense")).is_err());
    }
}
