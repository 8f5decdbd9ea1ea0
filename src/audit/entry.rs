//! The content of an entry: the action, its target, and details of a bounded size.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::db::JsonText;
use crate::text_enum::text_enum;

/// Bytes the details of one entry may have, in JSON.
pub const MAX_DETAILS_BYTES: usize = 2048;
/// Characters a target may have.
const MAX_TARGET_CHARS: usize = 400;
/// The key in the details that marks them as truncated.
const CUT: &str = "cut";

text_enum! {
    /// A recorded action.
    pub enum Action {
        /// A home was created.
        HomeCreate = "home.create",
        /// A home's settings were changed.
        HomeUpdate = "home.update",
        /// A home was deleted, and its log with it.
        HomeDelete = "home.delete",
        /// A room was added.
        RoomCreate = "room.create",
        /// A room was renamed.
        RoomRename = "room.rename",
        /// A room was deleted.
        RoomDelete = "room.delete",
        /// A person was invited.
        InvitationCreate = "invitation.create",
        /// An invitation was revoked.
        InvitationRevoke = "invitation.revoke",
        /// A person became a member.
        InvitationAccept = "invitation.accept",
        /// A member got another role.
        MemberRole = "member.role",
        /// A member was removed, or left.
        MemberRemove = "member.remove",
        /// A device was registered.
        DeviceRegister = "device.register",
        /// The entered data of a device were changed.
        DeviceUpdate = "device.update",
        /// A device was deleted.
        DeviceDelete = "device.delete",
        /// A device got a new password.
        DeviceRotateCredentials = "device.rotate_credentials",
        /// A command was sent.
        CommandSend = "command.send",
        /// A command was cancelled.
        CommandCancel = "command.cancel",
        /// A configuration was pushed to a device.
        ConfigPush = "config.push",
        /// A device was rolled back to an old configuration.
        ConfigRollback = "config.rollback",
        /// An integration's token was created.
        TokenCreate = "token.create",
        /// An integration's token was revoked.
        TokenRevoke = "token.revoke",
    }
}

/// One entry to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub(super) action: Action,
    pub(super) target: String,
    pub(super) details: JsonText,
}

impl Entry {
    /// `target` is for people: `device 7 (ESP32_001)`.
    pub fn new(action: Action, target: impl Into<String>, details: Details) -> Self {
        let target: String = target.into();
        let target = match target.char_indices().nth(MAX_TARGET_CHARS) {
            Some((end, _)) => target[..end].to_owned(),
            None => target,
        };
        Self { action, target, details: details.text() }
    }
}

/// The details of an entry: ids, old values and new ones. Never a secret.
#[derive(Debug, Clone, PartialEq)]
pub struct Details {
    fields: Map<String, Value>,
    n_changes: usize,
}

impl Details {
    /// Details with the target's id.
    pub fn of(id: &impl ToString) -> Self {
        let fields = Map::from_iter([("id".to_owned(), Value::from(id.to_string()))]);
        Self { fields, n_changes: 0 }
    }

    /// Adds a field, unless its value is null or an empty list.
    #[must_use]
    pub fn with(mut self, field: &str, value: impl Serialize) -> Self {
        match json!(value) {
            Value::Null => {}
            Value::Array(items) if items.is_empty() => {}
            value => drop(self.fields.insert(field.to_owned(), value)),
        }
        self
    }

    /// Adds the old and the new value of a field, if they differ.
    #[must_use]
    pub fn change<T: Serialize + PartialEq + ?Sized>(mut self, field: &str, old: &T, new: &T) -> Self {
        if old != new {
            self.fields.insert(field.to_owned(), json!({"old": old, "new": new}));
            self.n_changes += 1;
        }
        self
    }

    /// Whether any field differs. If none does, no entry is written.
    pub fn is_change(&self) -> bool {
        self.n_changes > 0
    }

    /// The JSON. Beyond the limit, the longest lists and values are truncated and the details are marked so.
    fn text(mut self) -> JsonText {
        let length = |value: &Value| value.to_string().len();
        let mut text = JsonText::of(&self.fields);
        while text.as_str().len() > MAX_DETAILS_BYTES {
            let longest = self.fields.iter_mut().max_by_key(|(_, value)| length(value));
            let Some((field, value)) = longest else { break };
            match value {
                Value::Array(items) if items.len() > 1 => items.truncate(items.len() / 2),
                _ => {
                    let field = field.clone();
                    self.fields.remove(&field);
                }
            }
            self.fields.insert(CUT.to_owned(), Value::Bool(true));
            text = JsonText::of(&self.fields);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(details: Details) -> Value {
        Entry::new(Action::HomeUpdate, "home 7", details).details.parse()
    }

    #[test]
    fn only_different_values_are_a_change() {
        let same = Details::of(&7).change("name", "a", "a").with("room", None::<i64>);
        assert!(!same.is_change());
        assert_eq!(text(same), json!({"id": "7"}));
        let other = Details::of(&7).change("name", "a", "b").change("room", &None, &Some("3")).with("mode", "MERGE");
        assert!(other.is_change());
        let expected =
            json!({"id": "7", "mode": "MERGE", "name": {"old": "a", "new": "b"}, "room": {"old": null, "new": "3"}});
        assert_eq!(text(other), expected);
    }

    #[test]
    fn long_details_are_truncated_and_marked() {
        let keys: Vec<_> = (0..1000).map(|n| format!("key{n}")).collect();
        let cut = text(Details::of(&7).with("keys", keys).with("version", 3));
        assert_eq!((&cut["id"], &cut["version"], &cut["cut"]), (&json!("7"), &json!(3), &json!(true)));
        assert!(cut.to_string().len() <= MAX_DETAILS_BYTES && cut["keys"].as_array().unwrap().len() > 50);
        assert_eq!(text(Details::of(&7).with("keys", ["k".repeat(5000)])), json!({"id": "7", "cut": true}));
        assert_eq!(Entry::new(Action::HomeUpdate, "ü".repeat(500), Details::of(&1)).target, "ü".repeat(400));
    }

    #[test]
    fn every_action_has_its_own_name() {
        let names: std::collections::BTreeSet<_> = Action::ALL.iter().map(|action| action.as_str()).collect();
        assert_eq!(names.len(), Action::ALL.len());
        let is_word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        for name in names {
            let (object, verb) = name.split_once('.').unwrap();
            assert!(is_word(object) && is_word(verb), "{name}");
        }
    }
}
