//! The roles of accounts in the plugin. Most of the rules are in `acl_file` (docker/mosquitto/acl), which can't restrict
//! subscriptions and can't tell a device's second user name.

use serde::Serialize;
use serde_json::{Value, json};

use crate::devices::MqttUser;
use crate::mqtt::topic::{self, DOWNLINK_KINDS, MessageKind};

/// No user name of a device ends like this.
const HOME_ROLE: &str = "/+";

/// One rule of a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RoleTopic {
    pub acltype: AclType,
    pub topic: String,
    pub allow: bool,
    /// The plugin applies the first rule that matches, from the highest priority down.
    pub priority: i8,
}

impl RoleTopic {
    fn allow(acltype: AclType, topic: String) -> Self {
        Self { acltype, topic, allow: true, priority: 1 }
    }

    fn deny(acltype: AclType, topic: &str) -> Self {
        Self { acltype, topic: topic.to_owned(), allow: false, priority: 0 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum AclType {
    PublishClientSend,
    PublishClientReceive,
    SubscribePattern,
}

/// The rules for a device's second user name: the broker's pattern rules take the user name for the topic.
pub fn role_topics(prefix: &str, user: MqttUser<'_>) -> Vec<RoleTopic> {
    let rule =
        |acltype, segment| RoleTopic::allow(acltype, topic::device_topic(prefix, user.home, user.device, segment));
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
    topics.map(|topic| RoleTopic::allow(AclType::PublishClientSend, topic)).collect()
}

/// The role that every device of a home has: it may subscribe to topics of this home only. Another subscription would
/// receive nothing, but the broker would count it as a subscriber of another home's commands. One role for a home and
/// not for a device, because the broker writes its whole file for each.
pub fn home_role(home: &str) -> String {
    format!("{home}{HOME_ROLE}")
}

/// The home of a [`home_role`].
pub fn home_of_role(name: &str) -> Option<&str> {
    name.strip_suffix(HOME_ROLE)
}

/// The rules of [`home_role`].
pub fn home_role_topics(prefix: &str, home: &str) -> Vec<RoleTopic> {
    let own = DOWNLINK_KINDS.map(|kind| topic::device_topic(prefix, home, "+", topic::downlink_segment(kind)));
    let own = own.into_iter().map(|topic| RoleTopic::allow(AclType::SubscribePattern, topic));
    // "#" does not cover topics that begin with "$", among them shared subscriptions.
    let others = ["#", "$share/#"].map(|topic| RoleTopic::deny(AclType::SubscribePattern, topic));
    own.chain(others).collect()
}

/// The roles of a device's account, as the plugin lists them.
pub fn account_roles(user: MqttUser<'_>) -> Value {
    let home = json!({"rolename": home_role(user.home)});
    let second = (user.slot > 0).then(|| json!({"rolename": user.to_string()}));
    std::iter::once(home).chain(second).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_role_of_a_home_is_no_devices_role() {
        assert_eq!(home_of_role(&home_role("main")), Some("main"));
        assert_eq!(home_of_role("main/lamp~1"), None);
        assert!(MqttUser::parse(&home_role("main")).is_none());
    }
}
