use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::*;
use crate::devices::{Contact, ResolvedDevice};
use crate::mqtt::topic::ReceivedTopic;
use crate::mqtt::{Packet, SessionLoss, payload};
use crate::settings::DeviceLimit;

fn classifier(online: bool) -> Classifier {
    let known = ResolvedDevice {
        home: HomeId::from_database(1),
        device: DeviceId::from_database(7),
        online,
        quiet_since: None,
    };
    Classifier {
        directory: Directory::with_device("1/a", known),
        presence: PresenceTracker::new(Duration::from_secs(150)),
        limits: DeviceLimits::new(None),
        pending: PendingLastSeen::default(),
        rejections: Rejections::default(),
        expectations: Expectations::default(),
        metrics: Metrics::new(),
    }
}

fn delivery(kind: topic::MessageKind, text: &'static str, packet: Option<(u16, bool)>) -> Delivery {
    let received_at = DateTime::UNIX_EPOCH;
    Delivery {
        topic: ReceivedTopic::read("p", Bytes::from(format!("p/1/a/{}", kind.as_str()))),
        payload: Bytes::from_static(text.as_bytes()),
        content: payload::parse(kind, text.as_bytes(), received_at),
        received_at,
        retained: false,
        payload_digest: 1,
        packet: packet.map(|(id, is_redelivery)| Packet { id, is_redelivery, message_digest: 1 }),
        receipt: None,
        _queue_bytes: Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap(),
    }
}

fn batch(classifier: &mut Classifier, session: &mut BrokerSession, inbox: Vec<Delivery>) -> Batch {
    classifier.batch(inbox.into_iter().map(|delivery| BrokerEvent::Message(Box::new(delivery))), session)
}

const READING: &str = r#"{"sensors":{"temperature":20}}"#;

#[test]
fn a_device_has_one_state_change_per_batch() {
    let (mut classifier, mut session) = (classifier(true), BrokerSession::new("test", false));
    // The retained status is a change at once; the reading after it is a pending update, which is due.
    let kept = Delivery { retained: true, ..delivery(topic::MessageKind::Status, r#"{"online":true}"#, None) };
    classifier.pending.make_due();
    let inbox = vec![kept, delivery(topic::MessageKind::Telemetry, READING, None)];
    let batch = self::batch(&mut classifier, &mut session, inbox);
    assert_eq!(batch.states.len(), 1);
    assert!(batch.states[0].online && batch.states[0].contact.is_seen());
    assert!(batch.states[0].last_status.is_some());
}

#[test]
fn a_retained_online_status_does_not_bring_an_offline_device_back() {
    let (mut classifier, mut session) = (classifier(true), BrokerSession::new("test", false));
    batch(&mut classifier, &mut session, vec![delivery(topic::MessageKind::Status, r#"{"online":false}"#, None)]);
    let kept = Delivery { retained: true, ..delivery(topic::MessageKind::Status, r#"{"online":true}"#, None) };
    assert!(!batch(&mut classifier, &mut session, vec![kept]).states[0].online);
}

#[test]
fn a_repeat_has_the_packet_id_and_the_digest_of_a_message_of_its_session() {
    let (mut classifier, mut session) = (classifier(true), BrokerSession::new("test", false));
    let is_duplicate = |classifier: &mut Classifier, session: &mut BrokerSession, packet| {
        let batch =
            self::batch(classifier, session, vec![delivery(topic::MessageKind::Telemetry, READING, Some(packet))]);
        matches!(batch.rows[0].outcome, Outcome::Duplicate)
    };
    assert!(!is_duplicate(&mut classifier, &mut session, (5, false)));
    assert!(is_duplicate(&mut classifier, &mut session, (5, true)), "the same packet again");
    assert!(!is_duplicate(&mut classifier, &mut session, (6, true)), "never seen, whatever the flag says");
    assert!(!is_duplicate(&mut classifier, &mut session, (5, false)), "a new message under a used id");
    let loss = SessionLoss { number: 1, before: DateTime::UNIX_EPOCH };
    let batch = classifier.batch([BrokerEvent::SessionLost(loss)].into_iter(), &mut session);
    assert_eq!(batch.lost, Some(loss));
    assert!(!is_duplicate(&mut classifier, &mut session, (5, true)), "another session's packet");
}

#[test]
fn messages_over_the_limit_are_counted_and_a_goodbye_is_never_dropped() {
    let (mut classifier, mut session) = (classifier(true), BrokerSession::new("test", false));
    classifier.limits = DeviceLimits::new(Some(DeviceLimit { per_second: 1, burst: 2 }));
    let reading = || delivery(topic::MessageKind::Telemetry, READING, None);
    let mut inbox: Vec<_> = (0..5).map(|_| reading()).collect();
    inbox.push(delivery(topic::MessageKind::Status, r#"{"online":true}"#, None));
    let batch = self::batch(&mut classifier, &mut session, inbox);
    assert_eq!(batch.readings().len(), 2);
    let is_dropped = |row: &&Row| matches!(row.outcome, Outcome::Rejected { reason: Rejection::RateLimited, .. });
    assert_eq!(batch.rows.iter().filter(is_dropped).count(), 4);
    assert_eq!(batch.rejected().count(), 1, "one is reported, the others are counted");
    assert_eq!((batch.states.len(), batch.states[0].n_rate_limited, batch.states[0].online), (1, 4, true));
    assert_eq!(batch.states[0].rate_limited_at, Some(DateTime::UNIX_EPOCH));

    let goodbye = delivery(topic::MessageKind::Status, r#"{"online":false}"#, None);
    let batch = self::batch(&mut classifier, &mut session, vec![reading(), goodbye, reading()]);
    // A message after it shows that the device is there, dropped or not.
    assert_eq!((batch.states[0].n_rate_limited, batch.states[0].online), (2, true));
    let goodbye = delivery(topic::MessageKind::Status, r#"{"online":false}"#, None);
    let batch = self::batch(&mut classifier, &mut session, vec![reading(), goodbye]);
    assert!(!batch.states[0].online);
    assert_eq!(batch.states[0].contact, Contact::SeenThenGoodbye);
    assert_eq!(batch.rejected().count(), 0);
}
