//! The GraphQL schema over the features. Resolvers translate and delegate. Every field that leads into a
//! home checks `homes::Access` or reads a statement that joins the viewer's membership.
//!
//! Objects are `serial`: the library resolves their fields one after the other. So the keys of a response
//! have the order of the selection, and no future is scheduled per field. The items of a list still
//! resolve concurrently, and the loaders batch what they load.
//!
//! An operation passes `engine` (prepare, then execute or stream). `limits` lists all bounds in the order in
//! which it meets them.

mod accounts;
mod audit;
mod client_errors;
mod command_enums;
mod command_input;
mod commands;
mod context;
mod daily_storage;
mod device_config;
mod device_filter;
mod device_list;
mod device_state;
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
mod mutation_input;
mod null_propagation;
mod operation;
mod paging;
mod registry;
mod rejected_messages;
pub mod request;
pub mod request_error;
pub mod response;
mod response_order;
mod response_writer;
mod rooms;
pub mod rows;
mod scalars;
mod selected_fields;
mod sessions;
mod sorted_device_list;
mod status;
mod syntax;
mod telemetry;
mod validation;
mod weighted_cache;

use std::net::IpAddr;

use async_graphql::{MergedObject, SDLExportOptions, ValidationMode};
use paging::Page;
use tokio::time::Instant;

pub use live::Subscription;
pub use operation::OperationKind;

use crate::auth::Principal;
use crate::clock::Clock;
use crate::commands::Commands;
use crate::db::Pool;
use crate::device_config::DeviceConfigs;
use crate::devices::{Devices, StateHub};
use crate::homes::{Homes, Integrations};
use crate::metrics::Metrics;
use crate::revocation::Revocations;
use crate::standby::Standby;
use crate::telemetry::LiveReadings;
use crate::telemetry::history::Readings;
use crate::turns::Turns;
use crate::users::Users;

/// The whole schema.
pub type Schema = async_graphql::Schema<Query, Mutation, Subscription>;

/// The authenticated principal, if any: request data of every operation.
#[derive(Clone)]
pub struct Viewer(pub Option<Principal>);

/// The client's network address, if known: request data of every operation.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub Option<IpAddr>);

/// The services that resolvers delegate to. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    pub users: Users,
    pub homes: Homes,
    pub integrations: Integrations,
    pub devices: Devices,
    pub readings: Readings,
    pub live_readings: LiveReadings,
    pub commands: Commands,
    pub states: StateHub,
    pub configs: DeviceConfigs,
    /// Whether another server ingests: then no subscription runs here.
    pub standby: Standby,
    pub revocations: Revocations,
    /// The turns of subscriptions that read from the database.
    pub subscription_turns: Turns,
    pub metrics: Metrics,
    pub clock: Clock,
    /// For `serverStatus`, which checks that the database answers.
    pub pool: Pool,
    /// When the server started.
    pub started: Instant,
}

/// The queries of the API. Each error has a code in `extensions.code`: BAD_USER_INPUT, UNAUTHENTICATED, FORBIDDEN, NOT_FOUND,
/// CONFLICT, PAYLOAD_TOO_LARGE, RATE_LIMITED, LAGGED, UNAVAILABLE, OUTCOME_UNKNOWN, INTERNAL or PERSISTED_QUERY_NOT_FOUND.
/// UNAUTHENTICATED has a reason in `extensions.reason`: TOKEN_MISSING, TOKEN_EXPIRED, TOKEN_INVALID,
/// INVALID_CREDENTIALS or REFRESH_REUSED.
#[derive(MergedObject, Default)]
pub struct Query(
    members::MemberQuery,
    homes::HomeQuery,
    device_list::DeviceQuery,
    commands::CommandQuery,
    rejected_messages::RejectedQuery,
    audit::AuditQuery,
    status::StatusQuery,
);

/// The mutations of the API. Each takes at most one argument: the ID of what it is about (or its secret, or an e-mail
/// address), or `input` with everything it needs. It returns what it created or changed, and `true` where nothing is left
/// to return.
#[derive(MergedObject, Default)]
pub struct Mutation(
    sessions::SessionMutation,
    accounts::AccountMutation,
    homes::HomeMutation,
    invitations::MembershipMutation,
    integrations::IntegrationMutation,
    rooms::RoomMutation,
    registry::DeviceMutation,
    commands::CommandMutation,
    device_config::ConfigMutation,
);

fn builder() -> async_graphql::SchemaBuilder<Query, Mutation, Subscription> {
    async_graphql::Schema::build(Query::default(), Mutation::default(), Subscription::default())
        .override_output_type_description::<Page<devices::Device>>("A page of devices.")
        .override_output_type_description::<Page<telemetry::Telemetry>>("A page of readings, newest first.")
        .override_output_type_description::<Page<commands::Command>>("A page of commands, newest first.")
        .override_output_type_description::<Page<device_config::DeviceConfig>>(
            "A page of configuration versions, newest first.",
        )
        .override_output_type_description::<Page<audit::AuditEntry>>("A page of an audit log, newest first.")
        .override_output_type_description::<Page<rejected_messages::RejectedMessage>>(
            "A page of rejected messages, newest first.",
        )
}

/// The schema over its services.
pub fn schema(services: Services) -> Schema {
    builder()
        .data(loaders::Loaders::new(&services))
        .data(services)
        // Documents are valid before the library receives them.
        .validation_mode(ValidationMode::Fast)
        .disable_suggestions()
        .finish()
}

/// The schema in the schema definition language, the same on every call.
pub fn sdl() -> String {
    let options = SDLExportOptions::new()
        .sorted_fields()
        .sorted_arguments()
        .sorted_enum_items()
        .include_specified_by()
        .prefer_single_line_descriptions()
        .use_space_ident();
    builder().finish().sdl_with_options(options)
}

#[cfg(test)]
mod tests {
    /// Every server does this at its start.
    #[test]
    fn validation_reads_the_types_of_the_schema() {
        super::validation::Types::read(&super::sdl(), true);
    }

    #[test]
    fn the_schema_file_matches_the_code() {
        let file = include_str!("../../schema.graphql");
        assert!(file == super::sdl(), "schema.graphql is out of date: run `cargo run -- schema > schema.graphql`");
    }
}
