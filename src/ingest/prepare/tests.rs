use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::*;
use crate::mqtt::SessionLoss;

fn judge(online: bool) -> Judge {
    let known = ResolvedDevice {
        home: HomeId::from_database(1),
        device: DeviceId::from_database(7),
        online,
        quiet_since: None,
    };
    let directory = Directory::with_device("1/a", known);
    let presence = PresenceTracker::new(Duration::from_secs(150));
    Judge::new("p".to_owned(), directory, presence, None, Expectations::default(), Metrics::new())
}

fn delivery(kind: topic::MessageKind, text: &'static str, packet: Option<(u16, bool)>) -> Delivery {
    let received_at = DateTime::UNIX_EPOCH;
    Delivery {
        topic: Bytes::from(format!("p/1/a/{}", kind.as_str())),
        payload: Bytes::from_static(text.as_bytes()),
        content: payload::parse(kind, text.as_bytes(), received_at),
        received_at,
        retained: false,
        payload_digest: 1,
        packet: packet.map(|(id, is_redelivery)| Packet { id, is_redelivery, message_digest: 1 }),
        receipt: None,
        _space: Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap(),
    }
}

fn judged(judge: &mut Judge, session: &mut Session, inbox: Vec<Delivery>) -> Batch {
    judge.batch(inbox.into_iter().map(|delivery| BrokerEvent::Message(Box::new(delivery))), session)
}

const READING: &str = r#"{"sensors":{"temperature":20}}"#;

#[test]
fn a_device_stands_once_in_a_batch_whatever_it_said() {
    let (mut judge, mut session) = (judge(true), Session::empty());
    // The kept status is a change at once; the reading after it is a sign that is gathered, and due.
    let kept = Delivery { retained: true, ..delivery(topic::MessageKind::Status, r#"{"online":true}"#, None) };
    judge.signs.make_due();
    let inbox = vec![kept, delivery(topic::MessageKind::Telemetry, READING, None)];
    let batch = judged(&mut judge, &mut session, inbox);
    assert_eq!(batch.states.len(), 1);
    assert!(batch.states[0].online && batch.states[0].is_sign_of_life);
    assert!(batch.states[0].last_status.is_some());
}

#[test]
fn what_the_broker_kept_as_online_does_not_bring_a_lost_device_back() {
    let (mut judge, mut session) = (judge(true), Session::empty());
    judged(&mut judge, &mut session, vec![delivery(topic::MessageKind::Status, r#"{"online":false}"#, None)]);
    let kept = Delivery { retained: true, ..delivery(topic::MessageKind::Status, r#"{"online":true}"#, None) };
    assert!(!judged(&mut judge, &mut session, vec![kept]).states[0].online);
}

#[test]
fn a_repeat_is_known_by_packet_and_content_within_its_session_only() {
    let (mut judge, mut session) = (judge(true), Session::empty());
    let outcome = |judge: &mut Judge, session: &mut Session, packet| {
        let batch = judged(judge, session, vec![delivery(topic::MessageKind::Telemetry, READING, Some(packet))]);
        matches!(batch.rows[0].outcome, Outcome::Duplicate)
    };
    assert!(!outcome(&mut judge, &mut session, (5, false)));
    assert!(outcome(&mut judge, &mut session, (5, true)), "the same packet again");
    assert!(!outcome(&mut judge, &mut session, (6, true)), "never seen, whatever the flag says");
    assert!(!outcome(&mut judge, &mut session, (5, false)), "a new message under a used id");
    let loss = SessionLoss { number: 1, before: DateTime::UNIX_EPOCH };
    let batch = judge.batch([BrokerEvent::SessionLost(loss)].into_iter(), &mut session);
    assert_eq!(batch.lost, Some(loss));
    assert!(!outcome(&mut judge, &mut session, (5, true)), "another session's packet");
}

#[test]
fn over_its_limit_a_device_is_counted_and_its_goodbye_is_heard() {
    let (mut judge, mut session) = (judge(true), Session::empty());
    judge.limits = Limits::new(Some(DeviceLimit { per_second: 1, burst: 2 }));
    let said = |text| delivery(topic::MessageKind::Telemetry, text, None);
    let mut inbox: Vec<_> = (0..5).map(|_| said(READING)).collect();
    inbox.push(delivery(topic::MessageKind::Status, r#"{"online":true}"#, None));
    let batch = judged(&mut judge, &mut session, inbox);
    assert_eq!(batch.readings().len(), 2);
    let shed = |row: &&Row| matches!(row.outcome, Outcome::Rejected("RATE_LIMITED", _));
    assert_eq!(batch.rows.iter().filter(shed).count(), 4);
    assert_eq!(batch.rejected().count(), 1, "one is shown, the others are counted");
    assert_eq!((batch.states.len(), batch.states[0].n_shed, batch.states[0].online), (1, 4, true));
    assert_eq!(batch.states[0].shed_at, Some(DateTime::UNIX_EPOCH));

    let goodbye = delivery(topic::MessageKind::Status, r#"{"online":false}"#, None);
    let batch = judged(&mut judge, &mut session, vec![said(READING), goodbye, said(READING)]);
    // What comes after it is a sign of life again, shed or not.
    assert_eq!((batch.states[0].n_shed, batch.states[0].online), (2, true));
    let goodbye = delivery(topic::MessageKind::Status, r#"{"online":false}"#, None);
    let batch = judged(&mut judge, &mut session, vec![said(READING), goodbye]);
    assert!(!batch.states[0].online && batch.states[0].is_goodbye);
    assert_eq!(batch.rejected().count(), 0);
}
