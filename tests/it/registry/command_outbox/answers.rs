//! Answers of devices, in each status of a command.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn each_answer_in_each_status() {
    use CommandStatus::{Acked, Cancelled, Expired, Failed, Pending, Sent, Succeeded, TimedOut};
    let mut rig = Rig::start(2).await;
    // The status after ACKED, SUCCEEDED, FAILED and an observed effect; `None` changes nothing.
    let table = [
        (Pending, Some(Acked), Some(Succeeded), Some(Failed), Some(Succeeded)),
        (Sent, Some(Acked), Some(Succeeded), Some(Failed), Some(Succeeded)),
        (Acked, None, Some(Succeeded), Some(Failed), Some(Succeeded)),
        (TimedOut, Some(Acked), Some(Succeeded), Some(Failed), Some(Succeeded)),
        (Expired, Some(Acked), Some(Succeeded), Some(Failed), None),
        (Succeeded, None, None, None, None),
        (Failed, None, None, None, None),
        (Cancelled, None, None, None, None),
    ];
    for (status, after_acked, after_succeeded, after_failed, after_effect) in table {
        for (kind, expected) in [
            (AnswerKind::Acked, after_acked),
            (succeeded(), after_succeeded),
            (failed(), after_failed),
            (AnswerKind::Effect, after_effect),
        ] {
            let command = rig.command_in(status).await;
            let before = rig.find(command).await;
            // The answer of another device changes nothing.
            let foreign = Answer { command, device: rig.device(1), kind: kind.clone(), at: rig.clock.now() };
            assert!(record_answers(&rig.conn, &[&foreign]).await.unwrap().is_empty());
            assert_eq!(rig.answer(command, kind.clone()).await, expected, "{status:?} {kind:?}");
            let after = rig.find(command).await;
            assert_eq!(after.status, expected.unwrap_or(status));
            if expected.is_none() {
                assert_eq!(after, before);
            } else {
                assert!(after.updated_at > before.updated_at);
                let by = match kind {
                    AnswerKind::Acked => None,
                    AnswerKind::Effect => Some(ConfirmedBy::Effect),
                    _ => Some(ConfirmedBy::Ack),
                };
                assert_eq!((after.confirmed_by, after.finished_at.is_some()), (by, by.is_some()));
            }
            rig.delete_commands().await;
        }
    }
    let unknown =
        Answer { command: CommandId::generate(), device: rig.device(0), kind: succeeded(), at: rig.clock.now() };
    assert!(record_answers(&rig.conn, &[&unknown]).await.unwrap().is_empty());
    assert!(record_answers(&rig.conn, &[]).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_one_batch_are_merged_and_a_repeated_batch_returns_the_same_commands() {
    let mut rig = Rig::start(1).await;
    let (first, second) = (rig.send(json!({})).await, rig.send(json!({})).await);
    let at = rig.clock.now();
    let answer = |command, seconds, kind| Answer {
        command,
        device: DeviceId::from_database(number(&rig.devices[0])),
        kind,
        at: at + TimeDelta::seconds(seconds),
    };
    let answers = [
        answer(second, 1, failed()),
        answer(first, 1, AnswerKind::Acked),
        answer(first, 2, succeeded()),
        answer(first, 3, failed()),
    ];
    let answers: Vec<_> = answers.iter().collect();
    let mut changed = record_answers(&rig.conn, &answers).await.unwrap();
    assert_eq!(changed.len(), 2);
    let done = changed.iter().find(|command| command.id == first).unwrap();
    assert_eq!(
        (done.status, done.acked_at, done.finished_at),
        (CommandStatus::Succeeded, Some(answers[1].at), Some(answers[2].at))
    );
    assert_eq!(done.result.as_ref().map(|result| result.parse()), Some(json!({"z": 1})));
    let failed = changed.iter().find(|command| command.id == second).unwrap();
    assert_eq!((failed.status, failed.error.as_deref()), (CommandStatus::Failed, Some("jam\u{fffd}med")));
    // The same batch again, as after a commit whose answer was lost.
    let mut again = record_answers(&rig.conn, &answers).await.unwrap();
    again.sort_by_key(|command| command.id);
    changed.sort_by_key(|command| command.id);
    assert_eq!(again, changed);
    // A confirmation after the answer only sets the time of sending.
    rig.record(first, PublishOutcome::Confirmed).await;
    let found = rig.find(first).await;
    assert_eq!((found.status, found.sent_at.is_some()), (CommandStatus::Succeeded, true));
    assert!(rig.find_due(&[]).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_effect_counts_once_the_command_is_dispatched() {
    let mut rig = Rig::start(2).await;
    let expectations = rig.graph.services.commands.expectations().clone();
    let command = rig.send(json!({"expect": {"powerW": {"min": 5}, "flame": false}})).await;
    let readings = json!({"powerW": 5.5, "flame": false, "temperature": 20});
    let value = |name: &str| readings.get(name).cloned();
    let message = Observation::readings(&value);
    let before = rig.clock.now();
    let is_observed = !expectations.observed(rig.device(0), &message, before).is_empty();
    assert!(expectations.is_empty() && !is_observed, "not before it is dispatched");
    rig.claim().await;
    let now = rig.clock.now() + TimeDelta::seconds(1);
    assert!(expectations.observed(rig.device(0), &message, before).is_empty(), "not by an earlier message");
    assert!(expectations.observed(rig.device(1), &message, now).is_empty(), "not by another device");
    assert_eq!(expectations.observed(rig.device(0), &message, now), [command]);
    // Another server adds the effect in its poll, and removes it in a later one.
    let elsewhere = smarthome::commands::Expectations::default();
    let hub = rig.graph.services.commands.hub().clone();
    let mut other =
        CommandOutbox::new(hub, elsewhere.clone(), ReturnedDevices::none(), rig.graph.services.metrics.clone());
    other.handle_deadlines(&mut rig.conn, rig.clock.now()).await.unwrap();
    assert_eq!(elsewhere.observed(rig.device(0), &message, now), [command]);
    rig.clock.advance(TimeDelta::seconds(3));
    assert_eq!(rig.answer(command, AnswerKind::Effect).await, Some(CommandStatus::Succeeded));
    assert_eq!(rig.find(command).await.confirmed_by, Some(ConfirmedBy::Effect));
    assert!(expectations.is_empty() && !elsewhere.is_empty());
    other.handle_deadlines(&mut rig.conn, rig.clock.now()).await.unwrap();
    assert!(elsewhere.is_empty());
}
