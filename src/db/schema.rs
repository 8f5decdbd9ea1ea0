//! The tables that Diesel's query builder uses; statements in `.sql` files need no entry here. Written by hand, because
//! the Diesel CLI needs libpq; `tests/it/database_schema.rs` compares the columns with the migrated database. The
//! migrations' comments describe them.

diesel::table! {
    broker_cleanups (id) {
        id -> BigInt,
        home_id -> BigInt,
        device_id -> BigInt,
        home_key -> Text,
        device_key -> Text,
        home_segment -> Nullable<Text>,
        device_segment -> Nullable<Text>,
        client_id -> Text,
        cleared_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    used_home_keys (key) {
        key -> Text,
    }
}

diesel::table! {
    users (id) {
        id -> BigInt,
        email -> Text,
        name -> Text,
        password_hash -> Text,
        created_at -> Timestamptz,
        home_id -> Nullable<BigInt>,
        email_verified -> Bool,
    }
}

diesel::table! {
    refresh_tokens (id) {
        id -> BigInt,
        user_id -> BigInt,
        family -> Uuid,
        token_hash -> Binary,
        created_at -> Timestamptz,
        expires_at -> Timestamptz,
        used_at -> Nullable<Timestamptz>,
        address -> Nullable<Text>,
        generation -> Integer,
    }
}

diesel::table! {
    account_tokens (token_hash) {
        token_hash -> Binary,
        user_id -> BigInt,
        created_at -> Timestamptz,
        expires_at -> Timestamptz,
        purpose -> Text,
        email -> Nullable<Text>,
    }
}

diesel::table! {
    revocations (id) {
        id -> BigInt,
        at -> Timestamptz,
        user_id -> Nullable<BigInt>,
        session_id -> Nullable<Uuid>,
        home_id -> Nullable<BigInt>,
        issued_before -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    homes (id) {
        id -> BigInt,
        key -> Text,
        name -> Text,
        timezone -> Text,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    deletions (id) {
        id -> BigInt,
        home_id -> BigInt,
        device_id -> Nullable<BigInt>,
        requested_at -> Timestamptz,
    }
}

diesel::table! {
    memberships (home_id, user_id) {
        home_id -> BigInt,
        user_id -> BigInt,
        role -> Text,
        joined_at -> Timestamptz,
        scopes -> Nullable<SmallInt>,
        device_ids -> Nullable<Array<BigInt>>,
    }
}

diesel::table! {
    integration_tokens (id) {
        id -> Uuid,
        user_id -> BigInt,
        home_id -> BigInt,
        name -> Text,
        scopes -> SmallInt,
        device_ids -> Nullable<Array<BigInt>>,
        created_by -> Nullable<BigInt>,
        created_at -> Timestamptz,
        expires_at -> Nullable<Timestamptz>,
        last_used_at -> Nullable<Timestamptz>,
        revoked_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    invitations (id) {
        id -> BigInt,
        home_id -> BigInt,
        email -> Text,
        role -> Text,
        token_hash -> Binary,
        invited_by -> BigInt,
        created_at -> Timestamptz,
        expires_at -> Timestamptz,
    }
}

diesel::table! {
    external_identities (id) {
        id -> BigInt,
        issuer -> Text,
        subject -> Text,
        user_id -> Nullable<BigInt>,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    rooms (id) {
        id -> BigInt,
        home_id -> BigInt,
        name -> Text,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    devices (id) {
        id -> BigInt,
        home_id -> BigInt,
        key -> Text,
        name -> Text,
        mac_address -> Nullable<Text>,
        #[sql_name = "type"]
        kind -> Text,
        room_id -> Nullable<BigInt>,
        created_at -> Timestamptz,
        login_credential_id -> Nullable<BigInt>,
        mqtt_client_id -> Nullable<Text>,
    }
}

diesel::table! {
    device_credentials (id) {
        id -> BigInt,
        device_id -> BigInt,
        secret_hash -> Binary,
        created_at -> Timestamptz,
        expires_at -> Nullable<Timestamptz>,
        slot -> SmallInt,
        broker_hash -> Nullable<Text>,
    }
}

diesel::table! {
    mqtt_clients (username) {
        username -> Text,
        credential_id -> Nullable<BigInt>,
        sealed_password -> Nullable<Binary>,
        changed_at -> Timestamptz,
        remove_first -> Bool,
    }
}

diesel::table! {
    rejected_messages (id) {
        id -> BigInt,
        home_id -> BigInt,
        topic -> Text,
        reason -> Text,
        payload_preview -> Text,
        received_at -> Timestamptz,
    }
}

diesel::table! {
    committed_packets (client_id, id) {
        client_id -> Text,
        id -> BigInt,
        packet_ids -> Array<Integer>,
        digests -> Array<BigInt>,
    }
}

diesel::table! {
    commands (id) {
        id -> Uuid,
        seq -> BigInt,
        home_id -> BigInt,
        device_id -> BigInt,
        #[sql_name = "type"]
        kind -> Text,
        payload -> Json,
        source -> Text,
        correlation_id -> Text,
        on_stale -> Text,
        expect -> Nullable<Json>,
        status -> Text,
        result -> Nullable<Json>,
        error -> Nullable<Text>,
        confirmed_by -> Nullable<Text>,
        superseded_by -> Nullable<Uuid>,
        requested_by -> Nullable<BigInt>,
        idempotency_key -> Nullable<Text>,
        body_digest -> Nullable<Binary>,
        timeout_seconds -> Integer,
        created_at -> Timestamptz,
        dispatched_at -> Nullable<Timestamptz>,
        may_have_been_delivered -> Bool,
        no_subscribers -> Bool,
        sent_at -> Nullable<Timestamptz>,
        acked_at -> Nullable<Timestamptz>,
        finished_at -> Nullable<Timestamptz>,
        expires_at -> Timestamptz,
        deadline -> Nullable<Timestamptz>,
        updated_at -> Timestamptz,
        resends -> SmallInt,
    }
}

diesel::table! {
    device_configs (device_id, version) {
        device_id -> BigInt,
        version -> Integer,
        home_id -> BigInt,
        config -> Json,
        secrets -> Nullable<Binary>,
        status -> Text,
        errors -> Nullable<Json>,
        created_by -> Nullable<BigInt>,
        created_at -> Timestamptz,
        sent_at -> Nullable<Timestamptz>,
        applied_at -> Nullable<Timestamptz>,
        answered_at -> Nullable<Timestamptz>,
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    retained_clearings (id) {
        id -> BigInt,
        device_id -> BigInt,
        home_segment -> Text,
        device_segment -> Text,
        confirmed_at -> Nullable<Timestamptz>,
    }
}

diesel::allow_tables_to_appear_in_same_query!(
    users,
    refresh_tokens,
    account_tokens,
    revocations,
    homes,
    memberships,
    integration_tokens,
    invitations,
    external_identities,
    rooms,
    devices,
    device_credentials,
    mqtt_clients,
    broker_cleanups,
    rejected_messages,
    committed_packets,
    commands,
    device_configs,
    retained_clearings
);

diesel::table! {
    audit_log (id) {
        id -> BigInt,
        at -> Timestamptz,
        home_id -> Nullable<BigInt>,
        actor_kind -> Text,
        actor_id -> BigInt,
        actor -> Text,
        address -> Nullable<Text>,
        action -> Text,
        target -> Text,
        details -> Json,
    }
}

diesel::table! {
    broker_sessions (client_id) {
        client_id -> Text,
        since -> Timestamptz,
    }
}

diesel::table! {
    ingest_sessions (client_id) {
        client_id -> Text,
        plain_prefix -> Nullable<Text>,
        group_prefix -> Nullable<Text>,
        term -> BigInt,
        is_stale -> Bool,
        used_at -> Timestamptz,
    }
}

diesel::table! {
    broker_losses (client_id, outbox) {
        client_id -> Text,
        outbox -> Text,
        before -> Timestamptz,
    }
}
