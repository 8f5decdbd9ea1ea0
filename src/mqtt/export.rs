//! The devices' accounts as Mosquitto's own files: for a first fill, and for a broker that lost them.

use std::fmt::Write;

use serde_json::{Value, json};

use super::provision::role_topics;
use crate::devices::{MqttUser, StoredAccount, broker_hash, mqtt_client_id};
use crate::settings::{DynsecAccount, Secret};

/// The rules that stand beside this code, for the prefix and the server's name they are written in.
const RULES: &str = include_str!("../../docker/mosquitto/acl");
const RULES_PREFIX: &str = " smarthome/";
const RULES_SERVER: &str = "user smarthome_backend\n";
/// The administrator's role.
const ADMIN_ROLE: &str = "admin";

/// What the files are made of.
pub struct Export<'a> {
    /// First segment of every topic.
    pub prefix: &'a str,
    /// The server's own account, where it has one.
    pub server: Option<(&'a str, &'a Secret)>,
    /// The plugin's administrator, where the plugin is used.
    pub admin: Option<&'a DynsecAccount>,
    /// The devices' accounts.
    pub devices: &'a [StoredAccount],
}

/// The file's text is not what the plugin writes.
#[derive(Debug, thiserror::Error)]
#[error("the dynamic-security.json that is there already can't be read ({0}): move it away")]
pub struct UnreadableFile(#[from] serde_json::Error);

impl Export<'_> {
    /// `dynamic-security.json`. What `existing` says of accounts that are no devices' is kept, but for the
    /// server's and the administrator's where they are given here.
    pub fn dynamic_security(&self, existing: Option<&str>) -> Result<String, UnreadableFile> {
        let mut file: Value = existing.map_or_else(|| Ok(json!({})), serde_json::from_str)?;
        let ours: Vec<_> =
            self.server.iter().map(|(name, _)| *name).chain(self.admin.map(|a| a.username.as_str())).collect();
        let mut clients = entries(&mut file, "clients");
        clients.retain(|client| {
            let name = client["username"].as_str().unwrap_or_default();
            MqttUser::parse(name).is_none() && !ours.contains(&name)
        });
        let mut roles = entries(&mut file, "roles");
        roles.retain(|role| MqttUser::parse(role["rolename"].as_str().unwrap_or_default()).is_none());
        if let Some(admin) = self.admin {
            let mut client = client(&admin.username, &broker_hash(admin.password.reveal()));
            client["roles"] = json!([{"rolename": ADMIN_ROLE}]);
            clients.push(client);
            roles.retain(|role| role["rolename"] != ADMIN_ROLE);
            roles.push(admin_role());
        }
        if let Some((name, password)) = self.server {
            clients.push(client(name, &broker_hash(password.reveal())));
        }
        for (user, name, hash) in self.users() {
            let mut client = client(name, hash);
            client["clientid"] = mqtt_client_id(user.home, user.device).into();
            if user.slot > 0 {
                client["roles"] = json!([{"rolename": name}]);
                roles.push(json!({"rolename": name, "acls": role_topics(self.prefix, user)}));
            }
            clients.push(client);
        }
        file["clients"] = clients.into();
        file["roles"] = roles.into();
        // "No" means here: go on to the rules in the file. A "yes" would end the matter before them.
        file["defaultACLAccess"] = json!({
            "publishClientSend": false, "publishClientReceive": false, "subscribe": true, "unsubscribe": true
        });
        let mut text = serde_json::to_string_pretty(&file)?;
        text.push('\n');
        Ok(text)
    }

    /// `passwd`, for brokers that read passwords from a file.
    pub fn passwords(&self) -> String {
        let mut text = String::new();
        if let Some((name, password)) = self.server {
            let _ = writeln!(text, "{name}:{}", broker_hash(password.reveal()));
        }
        for (_, name, hash) in self.users() {
            let _ = writeln!(text, "{name}:{hash}");
        }
        text
    }

    /// `acl`: the rules of docker/mosquitto/acl, and those of devices that use their second name.
    pub fn rules(&self) -> String {
        let mut text = RULES.replace(RULES_PREFIX, &format!(" {}/", self.prefix));
        if let Some((name, _)) = self.server {
            text = text.replace(RULES_SERVER, &format!("user {name}\n"));
        }
        for (user, name, _) in self.users().filter(|(user, ..)| user.slot > 0) {
            let _ = writeln!(text, "\nuser {name}");
            for rule in role_topics(self.prefix, user) {
                let deed = if rule.acltype == "publishClientSend" { "write" } else { "read" };
                let _ = writeln!(text, "topic {deed} {}", rule.topic);
            }
        }
        text
    }

    /// Names of accounts whose hash is not known.
    pub fn unknown(&self) -> impl Iterator<Item = &str> {
        self.devices.iter().filter(|account| account.hash.is_none()).map(|account| account.username.as_str())
    }

    fn users(&self) -> impl Iterator<Item = (MqttUser<'_>, &str, &str)> {
        self.devices.iter().filter_map(|account| {
            let name = account.username.as_str();
            Some((MqttUser::parse(name)?, name, account.hash.as_deref()?))
        })
    }
}

/// The objects of a list of the file, taken out of it.
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

/// As `mosquitto_ctrl dynsec init` makes it, without a look at the devices' messages.
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
    fn what_is_not_ours_stays() {
        let account =
            |name: &str, hash: Option<&str>| StoredAccount { username: name.to_owned(), hash: hash.map(str::to_owned) };
        let devices = [account("main/lamp", Some("$7$101$c2FsdA==$aGFzaA==")), account("main/fan", None)];
        let secret = Secret::new("of the server");
        let export = Export { prefix: "home", server: Some(("server", &secret)), admin: None, devices: &devices };
        let existing = json!({
            "clients": [{"username": "monitor", "roles": []}, {"username": "main/gone"}, {"username": "server"}],
            "roles": [{"rolename": "main/gone"}, {"rolename": "monitors"}], "groups": [{"groupname": "g"}],
        });
        let text = export.dynamic_security(Some(&existing.to_string())).unwrap();
        let file: Value = serde_json::from_str(&text).unwrap();
        let names: Vec<_> =
            file["clients"].as_array().unwrap().iter().map(|c| c["username"].as_str().unwrap()).collect();
        assert_eq!(names, ["monitor", "server", "main/lamp"]);
        assert_eq!(file["clients"][2]["salt"], "c2FsdA==");
        assert_eq!(file["clients"][2]["iterations"], 101);
        assert_eq!(file["roles"], json!([{"rolename": "monitors"}]));
        assert_eq!(file["groups"][0]["groupname"], "g");
        assert_eq!(export.unknown().collect::<Vec<_>>(), ["main/fan"]);
        assert!(export.rules().contains("user server\n") && export.rules().contains("pattern write home/%u/ack\n"));
        assert!(!export.rules().contains("smarthome/+"));
        assert!(export.dynamic_security(Some("nonsense")).is_err());
    }
}
