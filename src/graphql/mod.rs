//! The GraphQL schema over the features: it translates and delegates. Every field that leads into a
//! home goes through `homes::Access` or a statement that joins the viewer's membership.
//!
//! Objects are `serial`: their fields resolve one after the other, so an answer's keys stand in the
//! order of the selection, and the library schedules no future per field. The items of a list still
//! resolve at once, and that is what the loaders batch.

mod audit;
mod commands;
mod context;
mod device_config;
mod devices;
pub mod document;
pub mod engine;
mod error;
mod homes;
mod inputs;
mod integrations;
mod invitations;
pub mod limits;
mod live;
mod loader;
mod loaders;
mod members;
mod null_propagation;
mod paging;
mod registry;
mod rejected;
pub mod request;
pub mod request_error;
pub mod response;
mod rooms;
mod scalars;
mod sessions;
mod status;
mod telemetry;

use std::net::IpAddr;

use async_graphql::{MergedObject, SDLExportOptions};
use paging::Page;
use tokio::time::Instant;

pub use live::Subscription;

use crate::auth::Principal;
use crate::clock::Clock;
use crate::commands::Commands;
use crate::db::Pool;
use crate::device_config::DeviceConfigs;
use crate::devices::{Devices, StateHub};
use crate::homes::{Homes, Integrations};
use crate::metrics::Metrics;
use crate::revocation::Revocations;
use crate::telemetry::LiveReadings;
use crate::telemetry::history::Readings;
use crate::users::Users;

/// The whole schema.
pub type Schema = async_graphql::Schema<Query, Mutation, Subscription>;

/// Who asks: request data of every operation.
#[derive(Clone)]
pub struct Viewer(pub Option<Principal>);

/// The client's network address: request data of every operation.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub Option<IpAddr>);

/// Everything resolvers delegate to. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    /// Accounts and sessions.
    pub users: Users,
    /// Homes, memberships, rooms.
    pub homes: Homes,
    /// Integrations of homes.
    pub integrations: Integrations,
    /// The registry of devices.
    pub devices: Devices,
    /// Stored readings.
    pub readings: Readings,
    /// Live readings.
    pub live_readings: LiveReadings,
    /// Commands to devices.
    pub commands: Commands,
    /// Live device states.
    pub states: StateHub,
    /// Configurations of devices.
    pub configs: DeviceConfigs,
    /// What has ended before its time.
    pub revocations: Revocations,
    /// The server's counters.
    pub metrics: Metrics,
    /// The wall clock.
    pub clock: Clock,
    /// For the question whether the database answers.
    pub pool: Pool,
    /// When the server started.
    pub started: Instant,
}

/// What can be asked.
#[derive(MergedObject, Default)]
pub struct Query(
    members::MemberQuery,
    homes::HomeQuery,
    devices::DeviceQuery,
    commands::CommandQuery,
    rejected::RejectedQuery,
    audit::AuditQuery,
    status::StatusQuery,
);

/// What can be changed.
#[derive(MergedObject, Default)]
pub struct Mutation(
    sessions::SessionMutation,
    homes::HomeMutation,
    invitations::MembershipMutation,
    integrations::IntegrationMutation,
    rooms::RoomMutation,
    registry::DeviceMutation,
    commands::CommandMutation,
    device_config::ConfigMutation,
);

// The second fence: the gate in front of the library refuses what is large before it is parsed.
/// Deepest level of fields.
const MAX_DEPTH: usize = 15;
/// Highest sum of weights of one operation, one being one scalar field of one object.
const MAX_COMPLEXITY: usize = 50_000;
/// Deepest nesting the parser follows.
const MAX_RECURSION: usize = 32;
/// Most directives of one field.
const MAX_DIRECTIVES: usize = 10;

fn builder() -> async_graphql::SchemaBuilder<Query, Mutation, Subscription> {
    async_graphql::Schema::build(Query::default(), Mutation::default(), Subscription)
        .override_output_type_description::<Page<devices::Device>>("A page of devices.")
        .override_output_type_description::<Page<telemetry::Telemetry>>("A page of readings, newest first.")
        .override_output_type_description::<Page<commands::Command>>("A page of commands, newest first.")
        .override_output_type_description::<Page<device_config::DeviceConfig>>(
            "A page of versions of a configuration, newest first.",
        )
        .override_output_type_description::<Page<audit::AuditEntry>>("A page of an audit log, newest first.")
        .override_output_type_description::<Page<rejected::RejectedMessage>>("A page of rejected messages.")
}

/// The schema over its services.
pub fn schema(services: Services) -> Schema {
    builder()
        .data(loaders::Loaders::new(&services))
        .data(services)
        .limit_depth(MAX_DEPTH)
        .limit_complexity(MAX_COMPLEXITY)
        .limit_recursive_depth(MAX_RECURSION)
        .limit_directives(MAX_DIRECTIVES)
        .disable_suggestions()
        .finish()
}

/// The schema as text, the same on every call. Needs no service.
pub fn sdl() -> String {
    let options = SDLExportOptions::new()
        .sorted_fields()
        .sorted_arguments()
        .sorted_enum_items()
        .prefer_single_line_descriptions()
        .use_space_ident();
    builder().finish().sdl_with_options(options)
}

#[cfg(test)]
mod tests {
    /// Its types are read from its text at the start of every server.
    #[test]
    fn the_types_of_the_schema_are_read() {
        super::null_propagation::Types::read(&super::sdl());
    }

    /// `cargo run -- schema > schema.graphql` mends it.
    #[test]
    fn the_schema_file_is_the_schema() {
        let file = include_str!("../../schema.graphql");
        assert!(file == super::sdl(), "schema.graphql is out of date: run `cargo run -- schema > schema.graphql`");
    }
}
