//! A session that the broker keeps for a disconnected device. The client's own store of unconfirmed messages stays
//! empty: the outbox sends them again.

use std::pin::Pin;
use std::time::Duration;

use rumqttc::{MqttOptions, PersistedAckMode, PersistedSession, SessionStore, SessionStoreError, SessionStoreKey};

/// Resumes the broker's session, or starts one that the broker keeps for `expiry`.
pub(crate) fn keep(options: &mut MqttOptions, expiry: Duration) {
    let expiry_s = u32::try_from(expiry.as_secs()).unwrap_or(u32::MAX);
    options.set_clean_start(false).set_session_expiry_interval(Some(expiry_s));
    let in_flight = options.get_outgoing_inflight_upper_limit();
    options.set_session_store(EmptyStore { expiry_s, in_flight });
}

#[derive(Debug)]
struct EmptyStore {
    expiry_s: u32,
    in_flight: Option<u16>,
}

type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, SessionStoreError>> + Send + 'a>>;

impl SessionStore for EmptyStore {
    fn load<'a>(&'a self, key: &'a SessionStoreKey) -> StoreFuture<'a, Option<PersistedSession>> {
        let session = PersistedSession {
            format_version: 1,
            client_id: key.client_id().to_owned(),
            clean_start: false,
            session_expiry_interval: Some(self.expiry_s),
            outgoing_inflight_upper_limit: self.in_flight,
            ack_mode: PersistedAckMode::Automatic,
            last_pkid: 0,
            last_puback: 0,
            replay: Vec::new(),
            incoming_qos2: Vec::new(),
        };
        Box::pin(async move { Ok(Some(session)) })
    }

    fn save<'a>(&'a self, _: &'a SessionStoreKey, _: &'a PersistedSession) -> StoreFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn clear<'a>(&'a self, _: &'a SessionStoreKey) -> StoreFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}
