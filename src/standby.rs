//! Whether another server ingests. Live events reach only clients of the server that ingests, so at any other one no stream is
//! open: it would be silent for ever.

use std::sync::Arc;

use tokio::sync::watch;

use crate::error::Error;
use crate::hub::Close;

/// Why a server does not ingest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Its term has ended. It is about to ask whether another server has begun one.
    Asking,
    /// Another server ingests. This one has not tried to reach the broker yet.
    NotProbed,
    /// Another server ingests, and this one can take over.
    Ready,
    /// Another server ingests, and this one does not reach the broker.
    NoBroker,
    /// Another server uses the client id of the session.
    SameClientId,
}

impl Reason {
    /// Whether another server ingests.
    pub fn is_standby(self) -> bool {
        matches!(self, Self::NotProbed | Self::Ready | Self::NoBroker)
    }
}

/// Whether this server ingests: set by ingest, read by `/readyz` and by subscriptions. Cheap to clone.
#[derive(Clone)]
pub struct Standby {
    /// `None` while this server ingests, and before it has asked for the first time.
    reason: watch::Sender<Option<Reason>>,
    streams: Arc<[Arc<dyn Close>]>,
}

/// Whether this server has ingested without a break since a stream was opened.
pub struct SinceOpened(watch::Receiver<Option<Reason>>);

impl Standby {
    /// Ends these streams when this server no longer ingests.
    pub fn new(streams: Arc<[Arc<dyn Close>]>) -> Self {
        Self { reason: watch::Sender::new(None), streams }
    }

    pub fn reason(&self) -> Option<Reason> {
        *self.reason.borrow()
    }

    /// This server does not ingest: ends its streams. Returns whether the reason is another one than before.
    pub fn does_not_ingest(&self, reason: Reason) -> bool {
        let is_new = self.replace(Some(reason));
        // After the reason is set, with which they end. A stream that is opened from now on is refused.
        self.streams.iter().for_each(|hub| hub.close_all());
        is_new
    }

    /// Notes whether this server reaches the broker, if it is on standby. Returns whether that has changed.
    pub fn probed(&self, reaches_broker: bool) -> bool {
        let reason = if reaches_broker { Reason::Ready } else { Reason::NoBroker };
        self.reason().is_some_and(Reason::is_standby) && self.replace(Some(reason))
    }

    pub fn ingests(&self) {
        self.replace(None);
    }

    fn replace(&self, reason: Option<Reason>) -> bool {
        self.reason.send_if_modified(|now| std::mem::replace(now, reason) != reason)
    }

    /// Waits until another server ingests.
    pub async fn until_on_standby(&self) {
        let mut reasons = self.reason.subscribe();
        // It can't fail: this holds the sender.
        let _ = reasons.wait_for(|reason| reason.is_some_and(Reason::is_standby)).await;
    }

    /// Call after the stream has subscribed to its hub. Fails if this server does not ingest.
    pub fn open_stream(&self) -> Result<SinceOpened, Error> {
        let mut reasons = self.reason.subscribe();
        let is_standby = reasons.borrow_and_update().is_some();
        if is_standby { Err(Error::Standby) } else { Ok(SinceOpened(reasons)) }
    }
}

impl SinceOpened {
    /// The error with which the stream ends, unless its home or device was deleted.
    pub fn error(&self) -> Option<Error> {
        self.0.has_changed().unwrap_or(false).then_some(Error::Standby)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::{Hub, HubEvent};
    use crate::ids::{DeviceId, HomeId};

    #[tokio::test]
    async fn a_stream_ends_with_an_error_even_if_the_server_ingests_again_at_once() {
        let (hub, home) = (Hub::<u32>::default(), HomeId::from_database(1));
        let standby = Standby::new(Arc::new([Arc::new(hub.clone())]));
        let mut stream = hub.subscribe(home, Some(DeviceId::from_database(1)));
        let opened = standby.open_stream().expect("it ingests");
        standby.ingests();
        assert!(opened.error().is_none(), "nothing has changed");
        assert!(standby.does_not_ingest(Reason::Asking) && !standby.does_not_ingest(Reason::Asking));
        assert!(standby.open_stream().is_err());
        standby.ingests();
        assert_eq!(stream.recv().await, HubEvent::Closed);
        assert!(opened.error().is_some());
        assert!(standby.open_stream().expect("it ingests").error().is_none());
    }

    #[test]
    fn a_probe_says_something_only_on_standby() {
        let standby = Standby::new(Arc::new([]));
        assert!(!standby.probed(false) && standby.reason().is_none());
        standby.does_not_ingest(Reason::NotProbed);
        assert!(standby.probed(true) && !standby.probed(true));
        assert_eq!(standby.reason(), Some(Reason::Ready));
        standby.does_not_ingest(Reason::SameClientId);
        assert!(!standby.probed(true));
        assert_eq!(standby.reason(), Some(Reason::SameClientId));
    }
}
