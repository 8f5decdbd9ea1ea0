//! What devices say of a command, in each of its states.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn each_answer_in_each_state() {
    use CommandStatus::{Acked, Cancelled, Expired, Failed, Pending, Sent, Succeeded, TimedOut};
    let mut life = Life::start(2).await;
    // What an ACKED, a SUCCEEDED, a FAILED and an effect make of it; `None` changes nothing.
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
    for (status, acked, done, not_done, effect) in table {
        for (kind, expected) in
            [(AnswerKind::Acked, acked), (succeeded(), done), (failed(), not_done), (AnswerKind::Effect, effect)]
        {
            let command = reach(&mut life, status).await;
            let before = life.find(command).await;
            // Of another device it changes nothing, whatever it says.
            let foreign = Answer { command, device: life.device(1), kind: kind.clone(), at: life.clock.now() };
            assert!(record_answers(&life.conn, &[&foreign]).await.unwrap().is_empty());
            assert_eq!(life.answer(command, kind.clone()).await, expected, "{status:?} {kind:?}");
            let after = life.find(command).await;
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
            clear(&life).await;
        }
    }
    let nobody =
        Answer { command: CommandId::generate(), device: life.device(0), kind: succeeded(), at: life.clock.now() };
    assert!(record_answers(&life.conn, &[&nobody]).await.unwrap().is_empty());
    assert!(record_answers(&life.conn, &[]).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_one_batch_are_folded_and_a_retry_finds_its_own() {
    let mut life = Life::start(1).await;
    let (first, second) = (life.send(json!({})).await, life.send(json!({})).await);
    let at = life.clock.now();
    let answer = |command, seconds, kind| Answer {
        command,
        device: DeviceId::from_database(number(&life.devices[0])),
        kind,
        at: at + chrono::TimeDelta::seconds(seconds),
    };
    let answers = [
        answer(second, 1, failed()),
        answer(first, 1, AnswerKind::Acked),
        answer(first, 2, succeeded()),
        answer(first, 3, failed()),
    ];
    let answers: Vec<_> = answers.iter().collect();
    let changed = record_answers(&life.conn, &answers).await.unwrap();
    assert_eq!(changed.len(), 2);
    let done = changed.iter().find(|command| command.id == first).unwrap();
    assert_eq!(
        (done.status, done.acked_at, done.finished_at),
        (CommandStatus::Succeeded, Some(answers[1].at), Some(answers[2].at))
    );
    assert_eq!(done.result.as_ref().map(|result| result.parse()), Some(json!({"z": 1})));
    let failed = changed.iter().find(|command| command.id == second).unwrap();
    assert_eq!((failed.status, failed.error.as_deref()), (CommandStatus::Failed, Some("jam\u{fffd}med")));
    // The same batch again, because the answer to its commit was lost: the same rows, as they stand.
    let mut again = record_answers(&life.conn, &answers).await.unwrap();
    again.sort_by_key(|command| command.id);
    let mut changed = changed;
    changed.sort_by_key(|command| command.id);
    assert_eq!(again, changed);
    // A confirmation that comes after the answer only says when it was sent.
    life.settle(first, DeliveryOutcome::Confirmed).await;
    let found = life.find(first).await;
    assert_eq!((found.status, found.sent_at.is_some()), (CommandStatus::Succeeded, true));
    assert!(life.due(&[]).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_effect_counts_once_the_command_may_have_left() {
    let mut life = Life::start(2).await;
    let expectations = life.graph.services.commands.expectations().clone();
    let command = life.send(json!({"expect": {"powerW": {"min": 5}, "flame": false}})).await;
    let readings = json!({"powerW": 5.5, "flame": false, "temperature": 20});
    let shows = |at| {
        let value = |name: &str| readings.get(name).cloned();
        expectations.observed(life.device(0), &Observation::readings(&value), at)
    };
    assert!(expectations.is_empty() && shows(life.clock.now()).is_empty(), "not before it may have left");
    let before = life.clock.now();
    life.take().await;
    let now = life.clock.now() + chrono::TimeDelta::seconds(1);
    let value = |name: &str| readings.get(name).cloned();
    let shown = Observation::readings(&value);
    assert!(expectations.observed(life.device(0), &shown, before).is_empty(), "nor by what came before");
    assert!(expectations.observed(life.device(1), &shown, now).is_empty(), "nor by another device");
    assert_eq!(expectations.observed(life.device(0), &shown, now), [command]);
    // Another server learns of it by its tick, and forgets it by it.
    let elsewhere = smarthome::commands::Expectations::default();
    let hub = life.graph.services.commands.hub().clone();
    let other = CommandOutbox::new(hub, elsewhere.clone(), life.graph.services.metrics.clone());
    other.tick(&mut life.conn, life.clock.now()).await.unwrap();
    assert_eq!(elsewhere.observed(life.device(0), &shown, now), [command]);
    life.clock.advance(chrono::TimeDelta::seconds(3));
    assert_eq!(life.answer(command, AnswerKind::Effect).await, Some(CommandStatus::Succeeded));
    assert_eq!(life.find(command).await.confirmed_by, Some(ConfirmedBy::Effect));
    assert!(expectations.is_empty() && !elsewhere.is_empty());
    other.tick(&mut life.conn, life.clock.now()).await.unwrap();
    assert!(elsewhere.is_empty());
}
