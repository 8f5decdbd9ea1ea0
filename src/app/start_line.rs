//! The first line of the log: which version starts, with what, and what is on.

use crate::settings::{Provisioning, Settings};

pub(super) fn log(settings: &Settings) {
    let Settings { database, mqtt, http, .. } = settings;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        http = %http.addr,
        database = database.place(),
        broker = %mqtt.broker,
        client_id = mqtt.client_id,
        prefix = mqtt.prefix,
        on = features(settings).join(", "),
        "smarthome starts"
    );
}

/// The features that are on, by the variables that turn them on.
fn features(settings: &Settings) -> Vec<&'static str> {
    let Settings { mqtt, http, auth, encryption, .. } = settings;
    let mut features = Vec::new();
    let mut add = |is_on: bool, feature: &'static str| features.extend(is_on.then_some(feature));
    add(http.tls.is_some(), "TLS");
    add(mqtt.provisioning == Provisioning::Embedded, "embedded broker");
    add(matches!(mqtt.provisioning, Provisioning::Dynsec(_)), "provisioning by dynsec");
    add(mqtt.auth_endpoint.is_some(), "broker authentication");
    add(mqtt.shared_group.is_some(), "shared subscription");
    add(encryption.key.is_some(), "secrets in configurations");
    add(auth.registration_open, "open registration");
    add(!auth.trusted_issuers.is_empty(), "external issuers");
    add(settings.mail.is_some(), "mail");
    add(settings.traces.is_some(), "traces");
    add(settings.rate_limits, "rate limits");
    add(http.introspection, "introspection");
    add(http.graphiql, "GraphiQL");
    features
}
