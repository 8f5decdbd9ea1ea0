//! The policy for operations: one row for each root field, or several if its rule depends on the arguments.
//! `docs/roles.md` is generated from these rows.
//!
//! Each row has a valid operation. Its variables refer to objects of the home of the requests (see `world.rs`). Every
//! argument that refers to an object must use a variable.

use super::rights::Right::{self, *};

/// An operation and the right that it needs.
pub(super) struct Row {
    /// `Type.field`, followed by `: note` if the field has several rows.
    pub(super) name: &'static str,
    pub(super) right: Right,
    pub(super) operation: &'static str,
}

const fn row(name: &'static str, right: Right, operation: &'static str) -> Row {
    Row { name, right, operation }
}

impl Row {
    /// `Type.field`.
    pub(super) fn field(&self) -> &'static str {
        self.name.split(':').next().unwrap_or(self.name)
    }

    pub(super) fn is_mutation(&self) -> bool {
        self.operation.starts_with("mutation")
    }

    pub(super) fn is_subscription(&self) -> bool {
        self.operation.starts_with("subscription")
    }
}

pub(super) const ROWS: &[Row] = &[
    // Accounts.
    row(
        "Mutation.register",
        Anybody,
        r#"mutation { register(input: {email: $fresh_email, name: "N", password: $password}) { accessToken expiresAt refreshToken user { name } } }"#,
    ),
    row(
        "Mutation.login",
        Anybody,
        "mutation { login(input: {email: $email, password: $password}) { accessToken user { name } } }",
    ),
    row("Mutation.refreshToken", Anybody, "mutation { refreshToken(refreshToken: $refresh) { accessToken } }"),
    row("Mutation.logout", Anybody, "mutation { logout(refreshToken: $refresh) }"),
    row("Mutation.requestPasswordReset", Anybody, "mutation { requestPasswordReset(email: $fresh_email) }"),
    row(
        "Mutation.resetPassword",
        Anybody,
        "mutation { resetPassword(input: {token: $reset, newPassword: $password}) }",
    ),
    row("Mutation.requestEmailVerification", Account, "mutation { requestEmailVerification }"),
    row("Mutation.verifyEmail", Anybody, "mutation { verifyEmail(token: $verification) }"),
    row("Mutation.revokeSession", Account, "mutation { revokeSession(id: $session) }"),
    row(
        "Mutation.changePassword",
        Account,
        "mutation { changePassword(input: {currentPassword: $password, newPassword: $password}) }",
    ),
    row("Mutation.updateMe", Account, r#"mutation { updateMe(input: {name: "N"}) { id name } }"#),
    row("Mutation.deleteAccount", Account, "mutation { deleteAccount(input: {password: $password}) }"),
    row(
        "Mutation.deleteAccount: with a home",
        Own,
        "mutation { deleteAccount(input: {password: $password, deleteHomeIds: [$home]}) }",
    ),
    row(
        "Mutation.deleteAccount: handing a home over",
        Own,
        "mutation { deleteAccount(input: {password: $password, handOver: [{homeId: $home, userId: $fellow}]}) }",
    ),
    row("Query.me", Signed, "query { me { id } }"),
    row("Query.serverStatus", Account, "query { serverStatus { version } }"),
    // Homes and their members.
    row("Query.homes", Signed, "query { homes { id } }"),
    row("Query.home", Identity, "query { home(id: $home) { id } }"),
    row("Mutation.createHome", Account, r#"mutation { createHome(input: {name: "N", key: $fresh}) { id } }"#),
    row("Mutation.updateHome", Configure, r#"mutation { updateHome(input: {id: $home, name: "N"}) { id } }"#),
    row(
        "Mutation.updateHome: by deprecated arguments",
        Configure,
        r#"mutation { updateHome(id: $home, input: {name: "N"}) { id } }"#,
    ),
    row("Mutation.deleteHome", Own, "mutation { deleteHome(id: $home) }"),
    row(
        "Mutation.inviteMember",
        Configure,
        "mutation { inviteMember(input: {homeId: $home, email: $fresh_email}) { id email role expiresAt token } }",
    ),
    row(
        "Mutation.inviteMember: as an owner",
        Own,
        "mutation { inviteMember(input: {homeId: $home, email: $fresh_email, role: OWNER}) { id } }",
    ),
    row(
        "Mutation.inviteMember: in the place of an owner's",
        Own,
        "mutation { inviteMember(input: {homeId: $home, email: $owner_invited_email}) { id } }",
    ),
    row("Mutation.revokeInvitation", Configure, "mutation { revokeInvitation(id: $invitation) }"),
    row("Mutation.revokeInvitation: an owner's", Own, "mutation { revokeInvitation(id: $owner_invitation) }"),
    row("Mutation.acceptInvitation", Account, "mutation { acceptInvitation(token: $invitation_token) { id } }"),
    row(
        "Mutation.setMemberRole",
        Configure,
        "mutation { setMemberRole(input: {homeId: $home, userId: $fellow, role: GUEST}) { role } }",
    ),
    row(
        "Mutation.setMemberRole: to owner",
        Own,
        "mutation { setMemberRole(input: {homeId: $home, userId: $fellow, role: OWNER}) { role } }",
    ),
    row(
        "Mutation.setMemberRole: of an owner",
        Own,
        "mutation { setMemberRole(input: {homeId: $home, userId: $co_owner, role: GUEST}) { role } }",
    ),
    row("Mutation.removeMember", Configure, "mutation { removeMember(input: {homeId: $home, userId: $fellow}) }"),
    row("Mutation.removeMember: an owner", Own, "mutation { removeMember(input: {homeId: $home, userId: $co_owner}) }"),
    row("Mutation.removeMember: oneself", People, "mutation { removeMember(input: {homeId: $home, userId: $me}) }"),
    row(
        "Mutation.setMemberRole: by deprecated arguments",
        Configure,
        "mutation { setMemberRole(homeId: $home, userId: $fellow, role: GUEST) { role } }",
    ),
    row(
        "Mutation.removeMember: by deprecated arguments",
        Configure,
        "mutation { removeMember(homeId: $home, userId: $fellow) }",
    ),
    row(
        "Query.rejectedMessages",
        Configure,
        "query { rejectedMessages(homeId: $home, after: $rejected_cursor) { nodes { topic } } }",
    ),
    row("Query.auditLog", Configure, "query { auditLog(homeId: $home, after: $audit_cursor) { nodes { action } } }"),
    // Integrations.
    row(
        "Mutation.createIntegrationToken",
        Configure,
        r#"mutation { createIntegrationToken(input: {homeId: $home, name: "N", scopes: [DEVICES_READ], deviceIds: [$device]})
            { token integrationToken { id } } }"#,
    ),
    row("Mutation.revokeIntegrationToken", Configure, "mutation { revokeIntegrationToken(id: $integration) }"),
    // A user sees of another user only the homes that they share.
    row("User.homes", People, "query { home(id: $home) { members { user { homes { name } } } } }"),
    // Rooms.
    row("Mutation.createRoom", Configure, "mutation { createRoom(input: {homeId: $home, name: $fresh}) { id } }"),
    row("Mutation.renameRoom", Configure, "mutation { renameRoom(input: {id: $room, name: $fresh}) { id } }"),
    row(
        "Mutation.createRoom: by deprecated arguments",
        Configure,
        "mutation { createRoom(homeId: $home, name: $fresh) { id } }",
    ),
    row(
        "Mutation.renameRoom: by deprecated arguments",
        Configure,
        "mutation { renameRoom(id: $room, name: $fresh) { id } }",
    ),
    row("Mutation.deleteRoom", Configure, "mutation { deleteRoom(id: $room) }"),
    // Devices.
    row("Query.device", Identity, "query { device(id: $device) { id } }"),
    row("Query.deviceByKey", Identity, r#"query { deviceByKey(homeId: $home, key: "other") { id } }"#),
    row(
        "Query.deviceByMacAddress",
        Read,
        r#"query { deviceByMacAddress(homeId: $home, macAddress: "24:6F:28:00:00:02") { id } }"#,
    ),
    row(
        "Query.devices",
        Read,
        "query { devices(homeId: $home, after: $device_cursor, filter: {roomId: $room}) { nodes { name } } }",
    ),
    row("Query.devices: of all homes", Account, "query { devices { pageInfo { hasNextPage } } }"),
    row(
        "Home.devices",
        Read,
        "query { home(id: $home) { devices(after: $device_cursor, filter: {roomId: $room}) { nodes { name } } } }",
    ),
    row(
        "Mutation.registerDevice",
        Configure,
        r#"mutation { registerDevice(input: {homeId: $home, key: $fresh, name: "N", roomId: $room})
            { device { id } credentials { username password clientId brokerUrl } } }"#,
    ),
    row(
        "Mutation.registerDevices",
        Configure,
        r#"mutation { registerDevices(input: {homeId: $home, devices: [{key: $fresh, name: "N", roomId: $room}]}) { device { id } } }"#,
    ),
    row("Mutation.updateDevice", Configure, "mutation { updateDevice(input: {id: $device, roomId: $room}) { id } }"),
    row(
        "Mutation.rotateDeviceCredentials",
        Configure,
        "mutation { rotateDeviceCredentials(input: {deviceId: $device}) { username } }",
    ),
    row(
        "Mutation.updateDevice: by deprecated arguments",
        Configure,
        "mutation { updateDevice(id: $device, input: {roomId: $room}) { id } }",
    ),
    row(
        "Mutation.rotateDeviceCredentials: by deprecated arguments",
        Configure,
        "mutation { rotateDeviceCredentials(deviceId: $device) { username } }",
    ),
    row("Mutation.deleteDevice", Configure, "mutation { deleteDevice(id: $device) }"),
    row("Subscription.homeDeviceUpdates", Read, "subscription { homeDeviceUpdates(homeId: $home) { name } }"),
    row("Subscription.deviceUpdates", Read, "subscription { deviceUpdates(deviceId: $device) { name } }"),
    row("Subscription.deviceStatus: of a device", Read, "subscription { deviceStatus(deviceId: $device) { name } }"),
    row("Subscription.deviceStatus: of a home", Read, "subscription { deviceStatus(homeId: $home) { name } }"),
    // Readings.
    row(
        "Device.telemetry",
        Telemetry,
        "query { device(id: $device) { telemetry(after: $reading_cursor) { nodes { id } } } }",
    ),
    row(
        "Subscription.homeTelemetry",
        Telemetry,
        "subscription { homeTelemetry(homeId: $home, afterId: $reading) { id } }",
    ),
    row(
        "Subscription.deviceTelemetry",
        Telemetry,
        "subscription { deviceTelemetry(deviceId: $device, afterId: $reading) { id } }",
    ),
    row(
        "Subscription.telemetry: of a device",
        Telemetry,
        "subscription { telemetry(deviceId: $device, after: $reading) { id } }",
    ),
    row(
        "Subscription.telemetry: of a home",
        Telemetry,
        "subscription { telemetry(homeId: $home, after: $reading) { id } }",
    ),
    // Commands.
    row("Query.command", Commands, "query { command(id: $command) { id } }"),
    row(
        "Device.commands",
        Commands,
        "query { device(id: $device) { commands(after: $command_cursor) { nodes { id } } } }",
    ),
    row(
        "Mutation.sendCommand",
        Control,
        r#"mutation { sendCommand(input: {deviceId: $device, type: "SET_POWER", payload: {power: true}}) { id } }"#,
    ),
    row("Mutation.cancelCommand", Control, "mutation { cancelCommand(id: $command) { id } }"),
    row("Subscription.commandProgress", Commands, "subscription { commandProgress(commandId: $command) { id } }"),
    row("Subscription.homeCommandUpdates", Commands, "subscription { homeCommandUpdates(homeId: $home) { id } }"),
    row(
        "Subscription.deviceCommandUpdates",
        Commands,
        "subscription { deviceCommandUpdates(deviceId: $device) { id } }",
    ),
    row("Subscription.commandUpdates: one", Commands, "subscription { commandUpdates(commandId: $command) { id } }"),
    row(
        "Subscription.commandUpdates: of a device",
        Commands,
        "subscription { commandUpdates(deviceId: $device) { id } }",
    ),
    row("Subscription.commandUpdates: of a home", Commands, "subscription { commandUpdates(homeId: $home) { id } }"),
    // Configurations.
    row(
        "Device.configHistory",
        Config,
        "query { device(id: $device) { configHistory(after: $config_cursor) { nodes { version } } } }",
    ),
    row(
        "Mutation.pushConfig",
        PushConfig,
        "mutation { pushConfig(input: {deviceId: $device, config: {sampleRate: 7}}) { version } }",
    ),
    row(
        "Mutation.rollbackConfig",
        PushConfig,
        "mutation { rollbackConfig(input: {deviceId: $device, toVersion: 1}) { version } }",
    ),
    row(
        "Mutation.rollbackConfig: by deprecated arguments",
        PushConfig,
        "mutation { rollbackConfig(deviceId: $device, toVersion: 1) { version } }",
    ),
    row("Subscription.homeConfigUpdates", Config, "subscription { homeConfigUpdates(homeId: $home) { version } }"),
    row(
        "Subscription.deviceConfigUpdates",
        Config,
        "subscription { deviceConfigUpdates(deviceId: $device) { version } }",
    ),
    row(
        "Subscription.configUpdates: of a device",
        Config,
        "subscription { configUpdates(deviceId: $device) { version } }",
    ),
    row("Subscription.configUpdates: of a home", Config, "subscription { configUpdates(homeId: $home) { version } }"),
];

/// Operations that are invalid for another reason too. NOT_FOUND must come before that error.
pub(super) const ALSO_INVALID: &[&str] = &[
    r#"mutation { updateHome(input: {id: $home, name: "", timezone: "Nowhere"}) { id } }"#,
    r#"mutation { createRoom(input: {homeId: $home, name: ""}) { id } }"#,
    r#"mutation { inviteMember(input: {homeId: $home, email: "no address"}) { id } }"#,
    r#"mutation { createIntegrationToken(input: {homeId: $home, name: "", scopes: []}) { token } }"#,
    r#"mutation { renameRoom(input: {id: $room, name: ""}) { id } }"#,
    r#"mutation { registerDevice(input: {homeId: $home, key: "", name: "N"}) { device { id } } }"#,
    "mutation { registerDevices(input: {homeId: $home, devices: []}) { device { id } } }",
    r#"mutation { updateDevice(input: {id: $device, name: ""}) { id } }"#,
    "mutation { rotateDeviceCredentials(input: {deviceId: $device, graceSeconds: -1}) { username } }",
    r#"mutation { sendCommand(input: {deviceId: $device, type: ""}) { id } }"#,
    "mutation { pushConfig(input: {deviceId: $device, config: 5}) { version } }",
    "mutation { rollbackConfig(input: {deviceId: $device, toVersion: -1}) { version } }",
];
