//! What an entry says: names of deeds, and details of a bounded size.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::db::JsonText;

/// Bytes the details of one entry may have, in JSON.
pub const MAX_DETAILS_BYTES: usize = 2048;
/// Characters a target may have.
const MAX_TARGET_CHARS: usize = 400;
/// Says in the details that some are missing.
const CUT: &str = "cut";

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident = $text:literal)*) => {
        /// What was done.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Action { $($(#[$doc])* $name,)* }

        impl Action {
            /// All there are.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// As it is kept and shown.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

actions! {
    /// A home was made.
    HomeCreate = "home.create"
    /// A home's settings were changed.
    HomeUpdate = "home.update"
    /// A home was deleted, this log of it too.
    HomeDelete = "home.delete"
    /// A room was added.
    RoomCreate = "room.create"
    /// A room has another name.
    RoomRename = "room.rename"
    /// A room was deleted.
    RoomDelete = "room.delete"
    /// Somebody was invited.
    InvitationCreate = "invitation.create"
    /// An invitation was taken back.
    InvitationRevoke = "invitation.revoke"
    /// Somebody became a member.
    InvitationAccept = "invitation.accept"
    /// A member has another role.
    MemberRole = "member.role"
    /// A member was removed, or has left.
    MemberRemove = "member.remove"
    /// A device was registered.
    DeviceRegister = "device.register"
    /// What was entered of a device was changed.
    DeviceUpdate = "device.update"
    /// A device was deleted.
    DeviceDelete = "device.delete"
    /// A device has a new password.
    DeviceRotateCredentials = "device.rotate_credentials"
    /// A command was given.
    CommandSend = "command.send"
    /// A command was taken back.
    CommandCancel = "command.cancel"
    /// A device was given another configuration.
    ConfigPush = "config.push"
    /// A device was given a former configuration.
    ConfigRollback = "config.rollback"
    /// An integration's token was made.
    TokenCreate = "token.create"
    /// An integration's token was revoked.
    TokenRevoke = "token.revoke"
}

/// One entry to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub(super) action: Action,
    pub(super) target: String,
    pub(super) details: JsonText,
}

impl Entry {
    /// `target` is for people, `device 7 (ESP32_001)`.
    pub fn new(action: Action, target: impl Into<String>, details: Details) -> Self {
        let target: String = target.into();
        let target = match target.char_indices().nth(MAX_TARGET_CHARS) {
            Some((end, _)) => target[..end].to_owned(),
            None => target,
        };
        Self { action, target, details: details.text() }
    }
}

/// What an entry tells beside its target: ids, old values and new ones. No secret belongs here.
#[derive(Debug, Clone, PartialEq)]
pub struct Details {
    fields: Map<String, Value>,
    n_changes: usize,
}

impl Details {
    /// Of a thing with this id.
    pub fn of(id: &impl ToString) -> Self {
        let fields = Map::from_iter([("id".to_owned(), Value::from(id.to_string()))]);
        Self { fields, n_changes: 0 }
    }

    /// With another field, unless there is nothing in it.
    #[must_use]
    pub fn with(mut self, field: &str, value: impl Serialize) -> Self {
        match json!(value) {
            Value::Null => {}
            Value::Array(items) if items.is_empty() => {}
            value => drop(self.fields.insert(field.to_owned(), value)),
        }
        self
    }

    /// With what a field was and is, if these differ.
    #[must_use]
    pub fn change<T: Serialize + PartialEq + ?Sized>(mut self, field: &str, old: &T, new: &T) -> Self {
        if old != new {
            self.fields.insert(field.to_owned(), json!({"old": old, "new": new}));
            self.n_changes += 1;
        }
        self
    }

    /// Whether any field differs: if none does there is nothing to write.
    pub fn is_change(&self) -> bool {
        self.n_changes > 0
    }

    /// In bounds: where it is too much the longest lists and values are cut, and it says so.
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
    fn only_what_differs_is_a_change() {
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
    fn what_is_too_long_is_cut_and_says_so() {
        let keys: Vec<_> = (0..1000).map(|n| format!("key{n}")).collect();
        let cut = text(Details::of(&7).with("keys", keys).with("version", 3));
        assert_eq!((&cut["id"], &cut["version"], &cut["cut"]), (&json!("7"), &json!(3), &json!(true)));
        assert!(cut.to_string().len() <= MAX_DETAILS_BYTES && cut["keys"].as_array().unwrap().len() > 50);
        assert_eq!(text(Details::of(&7).with("keys", ["k".repeat(5000)])), json!({"id": "7", "cut": true}));
        assert_eq!(Entry::new(Action::HomeUpdate, "ü".repeat(500), Details::of(&1)).target, "ü".repeat(400));
    }

    #[test]
    fn every_action_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = Action::ALL.iter().map(|action| action.as_str()).collect();
        assert_eq!(names.len(), Action::ALL.len());
        let is_word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        for name in names {
            let (thing, deed) = name.split_once('.').unwrap();
            assert!(is_word(thing) && is_word(deed), "{name}");
        }
    }
}
