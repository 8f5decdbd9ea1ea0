use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::TimeDelta;
use tokio::sync::Semaphore;

use super::*;
use crate::devices::{Contact, ResolvedDevice};
use crate::mqtt::topic::ReceivedTopic;
use crate::mqtt::{Packet, SessionLoss, payload};
use crate::settings::DeviceLimit;

fn classifier(online: bool) -> Classifier {
    let known =
        ResolvedDevice { online, ..ResolvedDevice::online(HomeId::from_database(1), DeviceId::from_database(7)) };
    Classifier {
        directory: Directory::with_device("1/a", known),
        presence: PresenceTracker::new(Duration::from_secs(150)),
        limits: DeviceLimits::new(None),
        storage: DailyStorage::new(None),
        pending: PendingUpdates::default(),
        rejections: RejectionRecorder::default(),
        uptime_clocks: UptimeClocks::default(),
        behind_since: None,
        saturation: Saturation::default(),
        expectations: Expectations::default(),
        metrics: Metrics::new(),
    }
}

fn message(kind: topic::MessageKind, text: &'static str, packet: Option<(u16, bool)>) -> ReceivedMessage {
    let received_at = DateTime::UNIX_EPOCH;
    ReceivedMessage {
        topic: ReceivedTopic::read("p", Bytes::from(format!("p/1/a/{}", kind.as_str()))),
        payload: Bytes::from_static(text.as_bytes()),
        content: payload::parse(kind, text.as_bytes(), received_at),
        received_at,
        retained: false,
        is_clearing: false,
        payload_digest: 1,
        packet: packet.map(|(id, is_redelivery)| Packet { id, is_redelivery, message_digest: 1 }),
        pending_ack: None,
        trace: None,
        _queue_bytes: Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap(),
    }
}

fn batch(classifier: &mut Classifier, committed: &mut CommittedPackets, inbox: Vec<ReceivedMessage>) -> Batch {
    classifier.batch(inbox.into_iter().map(|message| BrokerEvent::Message(Box::new(message))), committed)
}

const READING: &str = r#"{"sensors":{"temperature":20}}"#;

#[test]
fn a_device_has_one_state_change_per_batch() {
    let (mut classifier, mut committed) = (classifier(true), CommittedPackets::new("test", false));
    // The retained status is a change at once; the reading after it is a pending update, which is due.
    let kept = ReceivedMessage { retained: true, ..message(topic::MessageKind::Status, r#"{"online":true}"#, None) };
    classifier.pending.make_due();
    let inbox = vec![kept, message(topic::MessageKind::Telemetry, READING, None)];
    let batch = self::batch(&mut classifier, &mut committed, inbox);
    assert_eq!(batch.states.len(), 1);
    assert!(batch.states[0].online && batch.states[0].contact.is_seen());
    assert!(batch.states[0].last_status.is_some());
}

#[test]
fn a_retained_online_status_does_not_bring_an_offline_device_back() {
    let (mut classifier, mut committed) = (classifier(true), CommittedPackets::new("test", false));
    batch(&mut classifier, &mut committed, vec![message(topic::MessageKind::Status, r#"{"online":false}"#, None)]);
    let kept = ReceivedMessage { retained: true, ..message(topic::MessageKind::Status, r#"{"online":true}"#, None) };
    assert!(!batch(&mut classifier, &mut committed, vec![kept]).states[0].online);
}

#[test]
fn a_retained_status_reports_a_state_only_with_a_time() {
    let (mut classifier, mut committed) = (classifier(true), CommittedPackets::new("test", false));
    let received_at: DateTime<Utc> = "2026-02-13T12:00:00Z".parse().unwrap();
    for (text, retained, reported_at) in [
        (r#"{"online":true,"power":true}"#, false, Some(received_at)),
        (r#"{"online":true,"power":true}"#, true, None),
        (r#"{"timestamp":1770984000,"online":true,"power":true}"#, true, Some(received_at)),
        (r#"{"timestamp":1770983940,"online":true,"power":true}"#, true, Some(received_at - TimeDelta::minutes(1))),
        (r#"{"timestamp":1770984060,"online":true,"power":true}"#, false, Some(received_at)),
        (r#"{"timestamp":1770984000,"online":false,"power":true}"#, false, None),
    ] {
        let kind = topic::MessageKind::Status;
        let content = payload::parse(kind, text.as_bytes(), received_at);
        let message = ReceivedMessage { retained, received_at, content, ..message(kind, text, None) };
        let changes = batch(&mut classifier, &mut committed, vec![message]).states;
        assert_eq!(changes[0].reported.as_ref().map(|reported| reported.at), reported_at, "{text}");
    }
}

#[test]
fn a_device_returns_with_each_status_and_with_any_message_after_its_last_will() {
    use topic::MessageKind::{Heartbeat, Status, Telemetry};
    let (mut classifier, mut committed) = (classifier(false), CommittedPackets::new("test", false));
    let mut returned = |kinds: &[(topic::MessageKind, &'static str)]| {
        let inbox = kinds.iter().map(|(kind, text)| message(*kind, text, None)).collect();
        let batch = self::batch(&mut classifier, &mut committed, inbox);
        let returned = batch.states.iter().find_map(|change| change.returned);
        returned.map(|returned| (returned.from_offline, returned.silent_since))
    };
    let before = Some(DateTime::UNIX_EPOCH);
    let (online, offline) = ((Status, r#"{"online":true}"#), (Status, r#"{"online":false}"#));
    assert_eq!(returned(&[(Telemetry, READING)]), None, "it may have been connected and silent");
    assert_eq!(returned(&[online]), Some((false, before)));
    assert_eq!(returned(&[offline]), None);
    assert_eq!(returned(&[(Heartbeat, "{}"), online]), Some((true, before)), "both belong to one return");
}

#[test]
fn a_repeat_has_the_packet_id_and_the_digest_of_a_message_of_its_session() {
    let (mut classifier, mut committed) = (classifier(true), CommittedPackets::new("test", false));
    let is_duplicate = |classifier: &mut Classifier, committed: &mut CommittedPackets, packet| {
        let batch =
            self::batch(classifier, committed, vec![message(topic::MessageKind::Telemetry, READING, Some(packet))]);
        matches!(batch.messages[0].outcome, Outcome::Duplicate)
    };
    assert!(!is_duplicate(&mut classifier, &mut committed, (5, false)));
    assert!(is_duplicate(&mut classifier, &mut committed, (5, true)), "the same packet again");
    assert!(!is_duplicate(&mut classifier, &mut committed, (6, true)), "never seen, whatever the flag says");
    assert!(!is_duplicate(&mut classifier, &mut committed, (5, false)), "a new message under a used id");
    let loss = SessionLoss { number: 1, before: DateTime::UNIX_EPOCH };
    let batch = classifier.batch([BrokerEvent::SessionLost(loss)].into_iter(), &mut committed);
    assert_eq!(batch.lost, Some(loss));
    assert!(!is_duplicate(&mut classifier, &mut committed, (5, true)), "another session's packet");
}

#[test]
fn messages_over_the_limit_are_counted_and_an_offline_status_is_never_dropped() {
    let (mut classifier, mut committed) = (classifier(true), CommittedPackets::new("test", false));
    classifier.limits = DeviceLimits::new(Some(DeviceLimit { per_second: 1, burst: 2 }));
    let reading = || message(topic::MessageKind::Telemetry, READING, None);
    let mut inbox: Vec<_> = (0..5).map(|_| reading()).collect();
    inbox.push(message(topic::MessageKind::Status, r#"{"online":true}"#, None));
    let batch = self::batch(&mut classifier, &mut committed, inbox);
    assert_eq!(batch.readings().len(), 2);
    let is_dropped = |message: &&ClassifiedMessage| {
        matches!(message.outcome, Outcome::Rejected { reason: Rejection::RateLimited, .. })
    };
    assert_eq!(batch.messages.iter().filter(is_dropped).count(), 4);
    assert_eq!(batch.rejected().count(), 1, "one is reported, the others are counted");
    assert_eq!((batch.states.len(), batch.states[0].n_rate_limited, batch.states[0].online), (1, 4, true));
    assert_eq!(batch.states[0].rate_limited_at, Some(DateTime::UNIX_EPOCH));

    let offline = message(topic::MessageKind::Status, r#"{"online":false}"#, None);
    let batch = self::batch(&mut classifier, &mut committed, vec![reading(), offline, reading()]);
    // A message after it shows that the device is there, dropped or not.
    assert_eq!((batch.states[0].n_rate_limited, batch.states[0].online), (2, true));
    let offline = message(topic::MessageKind::Status, r#"{"online":false}"#, None);
    let batch = self::batch(&mut classifier, &mut committed, vec![reading(), offline]);
    assert!(!batch.states[0].online);
    assert_eq!(batch.states[0].contact, Contact::SeenThenOffline);
    assert_eq!(batch.rejected().count(), 0);
}

/// A classifier whose one device misses its deadline at once.
fn with_silent_device() -> Classifier {
    let mut classifier = classifier(false);
    classifier.presence = PresenceTracker::new(Duration::ZERO);
    let heartbeat = message(topic::MessageKind::Heartbeat, "{}", None);
    batch(&mut classifier, &mut CommittedPackets::new("test", false), vec![heartbeat]);
    classifier
}

#[test]
fn silence_does_not_count_while_the_writer_is_behind_for_long() {
    let n_due = |classifier: &mut Classifier| classifier.due_changes(DateTime::UNIX_EPOCH, true).states.len();
    let mut classifier = with_silent_device();
    classifier.observe_queue(4, 8, DateTime::UNIX_EPOCH);
    classifier.behind_since = Instant::now().checked_sub(LONG_OUTAGE);
    assert_eq!(n_due(&mut classifier), 0);
    classifier.observe_queue(1, 8, DateTime::UNIX_EPOCH);
    assert_eq!(n_due(&mut classifier), 0, "until the queue was empty");
    classifier.observe_queue(0, 8, DateTime::UNIX_EPOCH);
    assert_eq!(classifier.due_changes(DateTime::UNIX_EPOCH, false).states.len(), 0, "nor while the link is down");
    assert_eq!(n_due(&mut classifier), 1);
}

#[test]
fn a_burst_keeps_no_silent_device_online() {
    let mut classifier = with_silent_device();
    classifier.observe_queue(4, 8, DateTime::UNIX_EPOCH);
    assert_eq!(classifier.due_changes(DateTime::UNIX_EPOCH, true).states.len(), 1);
}

#[test]
fn many_silent_devices_go_offline_in_several_batches() {
    let mut classifier = classifier(true);
    classifier.presence = PresenceTracker::new(Duration::ZERO);
    for device in 1..=600 {
        let known = ResolvedDevice::online(HomeId::from_database(1), DeviceId::from_database(device));
        classifier.presence.expect(known, Instant::now());
    }
    let mut n_due = || classifier.due_changes(DateTime::UNIX_EPOCH, true).states.len();
    assert_eq!([n_due(), n_due(), n_due(), n_due()], [256, 256, 88, 0]);
}
