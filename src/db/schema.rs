//! The tables as diesel sees them. Written by hand (the diesel CLI wants libpq); a test compares it
//! with the migrated database. What a column means stands in the migrations' comments.

#![expect(missing_docs, reason = "columns are documented in the migrations")]

diesel::table! {
    users (id) {
        id -> BigInt,
        email -> Text,
        name -> Text,
        password_hash -> Text,
        created_at -> Timestamptz,
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
        revoked_at -> Nullable<Timestamptz>,
        address -> Nullable<Text>,
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
    memberships (home_id, user_id) {
        home_id -> BigInt,
        user_id -> BigInt,
        role -> Text,
        joined_at -> Timestamptz,
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
    }
}

diesel::table! {
    device_credentials (id) {
        id -> BigInt,
        device_id -> BigInt,
        secret_hash -> Binary,
        created_at -> Timestamptz,
        expires_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    device_states (device_id) {
        device_id -> BigInt,
        online -> Bool,
        online_changed_at -> Nullable<Timestamptz>,
        last_seen_at -> Nullable<Timestamptz>,
        firmware_version -> Nullable<Text>,
        signal_strength -> Nullable<Double>,
        battery_level -> Nullable<Double>,
        metadata -> Jsonb,
        home_segment -> Nullable<Text>,
        device_segment -> Nullable<Text>,
        away -> Bool,
    }
}

diesel::table! {
    telemetry (device_id, recorded_at, dedup) {
        id -> BigInt,
        home_id -> BigInt,
        device_id -> BigInt,
        recorded_at -> Timestamptz,
        received_at -> Timestamptz,
        dedup -> BigInt,
        device_clock -> Bool,
        current -> Nullable<Double>,
        gas_ppm -> Nullable<Double>,
        flame -> Nullable<Bool>,
        bin_level -> Nullable<Double>,
        power_w -> Nullable<Double>,
        energy_kwh -> Nullable<Double>,
        voltage_v -> Nullable<Double>,
        current_a -> Nullable<Double>,
        frequency_hz -> Nullable<Double>,
        power_factor -> Nullable<Double>,
        distance_cm -> Nullable<Double>,
        temperature -> Nullable<Double>,
        humidity -> Nullable<Double>,
        firmware_version -> Nullable<Text>,
        signal_strength -> Nullable<Double>,
        battery_level -> Nullable<Double>,
        extra -> Nullable<Jsonb>,
        metadata -> Nullable<Jsonb>,
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
    mqtt_deliveries (client_id, id) {
        client_id -> Text,
        id -> BigInt,
        packet_ids -> Array<Integer>,
        digests -> Array<BigInt>,
    }
}

diesel::allow_tables_to_appear_in_same_query!(
    users,
    refresh_tokens,
    revocations,
    homes,
    memberships,
    invitations,
    rooms,
    devices,
    device_credentials,
    device_states,
    telemetry,
    rejected_messages,
    mqtt_deliveries
);
