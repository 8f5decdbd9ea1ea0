//! The policy for fields: for each object, by the path that leads to it, the right that each field needs. Every field of
//! the schema has an entry here or in `operations.rs`.

use super::rights::Right::{self, *};
use super::sdl::Sdl;

/// The fields of one object that is reached by one path.
pub(super) struct Fields {
    pub(super) object: &'static str,
    /// An operation with `@` in place of the fields.
    pub(super) path: &'static str,
    /// A right and the fields that need it, separated by spaces.
    pub(super) rights: &'static [(Right, &'static str)],
}

impl Fields {
    /// Each field with its right.
    pub(super) fn fields(&self, sdl: &Sdl) -> Vec<(Right, String)> {
        let names = |names: &'static str| match names {
            ALL => sdl.fields_of(self.object),
            names => names.split_whitespace().map(str::to_owned).collect(),
        };
        self.rights.iter().flat_map(|(right, list)| names(list).into_iter().map(|name| (*right, name))).collect()
    }
}

const fn fields(object: &'static str, path: &'static str, rights: &'static [(Right, &'static str)]) -> Fields {
    Fields { object, path, rights }
}

/// Objects that only a mutation returns, once, to its caller. The rows of `operations.rs` select their fields.
pub(super) const RETURNED_ONCE: [&str; 5] =
    ["AuthPayload", "CreatedIntegrationToken", "Invitation", "MqttCredentials", "RegisteredDevice"];

/// All fields of an object. The schema names them, so a new one needs no row: for objects whose fields all need the same
/// right.
const ALL: &str = "*";
const CONNECTION: &str = "edges nodes pageInfo";
const ROOM: &str = "id name home devices deviceCount onlineCount";
const EDGE: &str = "cursor node";

pub(super) const FIELDS: &[Fields] = &[
    fields(
        "Home",
        "query { home(id: $home) { @ } }",
        &[
            (Identity, "id key myRole"),
            (Read, "name timezone createdAt rooms devices deviceCount onlineCount"),
            (People, "members"),
            (Configure, "invitations integrationTokens"),
        ],
    ),
    fields("HomeMember", "query { home(id: $home) { members { @ } } }", &[(People, "id user role joinedAt")]),
    fields(
        "User",
        "query { home(id: $home) { members { user { @ } } } }",
        &[(People, "id email emailVerified name createdAt homes"), (Never, "sessions homesOwned homesLimit")],
    ),
    fields(
        "User",
        "query { me { @ } }",
        &[(Signed, "id email emailVerified name createdAt homes"), (Account, "sessions homesOwned homesLimit")],
    ),
    fields(
        "OpenSession",
        "query { me { sessions { @ } } }",
        &[(Account, "id createdAt lastUsedAt expiresAt address current")],
    ),
    fields(
        "OpenInvitation",
        "query { home(id: $home) { invitations { @ } } }",
        &[(Configure, "id email role createdAt expiresAt")],
    ),
    fields(
        "IntegrationToken",
        "query { home(id: $home) { integrationTokens { @ } } }",
        &[(Configure, "id name scopes deviceIds createdBy createdAt expiresAt lastUsedAt")],
    ),
    fields("Room", "query { device(id: $device) { room { @ } } }", &[(Read, ROOM)]),
    fields("Room", "query { home(id: $home) { rooms { @ } } }", &[(Read, ROOM)]),
    fields(
        "Device",
        "query { device(id: $device) { @ } }",
        &[
            (Identity, "id key home"),
            (
                Read,
                "name macAddress type room online onlineChangedAt lastSeenAt firmwareVersion signalStrength batteryLevel \
                 metadata state topics createdAt shedMessages lastShedAt storageToday",
            ),
            (Telemetry, "latestTelemetry telemetry"),
            (Commands, "commands"),
            (Config, "config configHistory"),
        ],
    ),
    fields(
        "DeviceTopics",
        "query { device(id: $device) { topics { @ } } }",
        &[(Read, "ack commands config heartbeat status telemetry")],
    ),
    fields("DeviceState", "query { device(id: $device) { state { @ } } }", &[(Read, ALL)]),
    fields("DailyStorage", "query { device(id: $device) { storageToday { @ } } }", &[(Read, ALL)]),
    fields("DeviceConnection", "query { devices(homeId: $home) { @ } }", &[(Read, CONNECTION)]),
    fields("DeviceConnection", "query { home(id: $home) { devices { @ } } }", &[(Read, CONNECTION)]),
    fields("DeviceEdge", "query { devices(homeId: $home) { edges { @ } } }", &[(Read, EDGE)]),
    fields(
        "PageInfo",
        "query { devices(homeId: $home) { pageInfo { @ } } }",
        &[(Read, "endCursor hasNextPage hasPreviousPage startCursor")],
    ),
    fields(
        "Telemetry",
        "query { device(id: $device) { latestTelemetry { @ } } }",
        &[(
            Telemetry,
            "batteryLevel device extra firmwareVersion id receivedAt recordedAt sensors signalStrength timeSource",
        )],
    ),
    fields("Sensors", "query { device(id: $device) { latestTelemetry { sensors { @ } } } }", &[(Telemetry, ALL)]),
    fields("TelemetryConnection", "query { device(id: $device) { telemetry { @ } } }", &[(Telemetry, CONNECTION)]),
    fields("TelemetryEdge", "query { device(id: $device) { telemetry { edges { @ } } } }", &[(Telemetry, EDGE)]),
    fields(
        "Command",
        "query { command(id: $command) { @ } }",
        &[
            (
                Commands,
                "ackedAt confirmedBy correlationId createdAt device error expect expiresAt finishedAt id onStale payload \
                 result sentAt source status supersededBy timeoutSeconds type",
            ),
            (People, "requestedBy"),
        ],
    ),
    fields("CommandConnection", "query { device(id: $device) { commands { @ } } }", &[(Commands, CONNECTION)]),
    fields("CommandEdge", "query { device(id: $device) { commands { edges { @ } } } }", &[(Commands, EDGE)]),
    fields(
        "DeviceConfig",
        "query { device(id: $device) { config { @ } } }",
        &[(Config, "appliedAt config createdAt device errors id sentAt status version"), (People, "createdBy")],
    ),
    fields("DeviceConfigConnection", "query { device(id: $device) { configHistory { @ } } }", &[(Config, CONNECTION)]),
    fields("DeviceConfigEdge", "query { device(id: $device) { configHistory { edges { @ } } } }", &[(Config, EDGE)]),
    fields("RejectedMessageConnection", "query { rejectedMessages(homeId: $home) { @ } }", &[(Configure, CONNECTION)]),
    fields("RejectedMessageEdge", "query { rejectedMessages(homeId: $home) { edges { @ } } }", &[(Configure, EDGE)]),
    fields(
        "RejectedMessage",
        "query { rejectedMessages(homeId: $home) { nodes { @ } } }",
        &[(Configure, "detail id payloadPreview reason receivedAt topic")],
    ),
    fields("AuditEntryConnection", "query { auditLog(homeId: $home) { @ } }", &[(Configure, CONNECTION)]),
    fields("AuditEntryEdge", "query { auditLog(homeId: $home) { edges { @ } } }", &[(Configure, EDGE)]),
    fields(
        "AuditEntry",
        "query { auditLog(homeId: $home) { nodes { @ } } }",
        &[(Configure, "id at actor actorKind actorUser address action target details")],
    ),
    fields("ServerStatus", "query { serverStatus { @ } }", &[(Account, "database mqtt uptimeSeconds version")]),
    fields(
        "MqttStatus",
        "query { serverStatus { mqtt { @ } } }",
        &[(
            Account,
            "brokerClientsConnected brokerMessagesDropped brokerMessagesReceived brokerMessagesSent connected \
             connectionErrors messagesDuplicate messagesReceived messagesRejected messagesSent messagesStored",
        )],
    ),
    fields("DatabaseStatus", "query { serverStatus { database { @ } } }", &[(Account, "connected")]),
];
