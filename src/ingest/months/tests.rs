use diesel::result::DatabaseErrorKind;

use super::*;
use crate::metrics::Age;

fn months() -> Months {
    let parked = Gauge::default();
    Months::new(parked.clone(), Progress::new(Age::default(), parked), Clock::system())
}

fn march() -> Month {
    Month::of("2020-03-15T00:00:00Z".parse().unwrap())
}

fn error() -> DieselError {
    DieselError::DatabaseError(DatabaseErrorKind::Unknown, Box::new("refused".to_owned()))
}

fn row(id: i64) -> ParkedPosition {
    ParkedPosition { at: march().starts_at(), id }
}

/// Moves rows until nothing is due, as the writer does with a database that refuses some of them. Returns the moved
/// rows and the number of transactions.
fn move_all(months: &mut Months, rows: &mut Vec<i64>, refuses: impl Fn(i64) -> bool) -> (Vec<i64>, usize) {
    let (mut moved, mut n_transactions) = (Vec::new(), 0);
    while let Some(step) = months.next_step(Instant::now() + Duration::from_secs(3600)) {
        let limit = usize::try_from(step.limit).unwrap();
        let found: Vec<i64> = rows.iter().copied().filter(|id| *id > step.after.id).take(limit).collect();
        let Some(last) = found.last().copied() else {
            months.end_of_month(step);
            continue;
        };
        n_transactions += 1;
        assert!(n_transactions < 10_000, "it does not end");
        if found.iter().any(|id| refuses(*id)) {
            months.refused(step, row(last), found.len(), &error());
        } else if step.is_probe {
            months.probed(step);
        } else {
            rows.retain(|id| !found.contains(id));
            months.moved(step, row(last), found.len());
            moved.extend(found);
        }
    }
    (moved, n_transactions)
}

#[test]
fn every_reading_that_is_taken_is_moved_in_order_and_the_others_stay() {
    for seed in 0..60 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (n, n_refused) = (rng.i64(100..3_000), rng.usize(0..20));
        let refused: Vec<i64> = (0..n_refused).map(|_| rng.i64(1..=n)).collect();
        // Some that stand together.
        let refuses = |id: i64| refused.contains(&id) || (seed % 3 == 0 && (10..14).contains(&id));
        let (mut months, mut rows) = (months(), (1..=n).collect::<Vec<_>>());
        if seed % 2 == 0 {
            months.close_refusing(march(), &error());
        }
        months.parked(rows.iter().map(|_| march()));
        let (moved, n_transactions) = move_all(&mut months, &mut rows, refuses);
        assert_eq!(moved, (1..=n).filter(|id| !refuses(*id)).collect::<Vec<_>>(), "seed {seed}");
        assert_eq!(rows, (1..=n).filter(|id| refuses(*id)).collect::<Vec<_>>(), "seed {seed}");
        assert_eq!(months.n_parked.get(), i64::try_from(rows.len()).unwrap());
        assert!(n_transactions < 1_000, "seed {seed}: {n_transactions} transactions");
    }
}

#[test]
fn a_month_that_refuses_every_reading_is_closed_after_a_few_attempts() {
    let mut months = months();
    months.open(march());
    months.parked((0..5_000).map(|_| march()));
    let mut n_attempts = 0;
    while months.obstacle(march()).is_none() {
        let step = months.next_step(Instant::now()).unwrap();
        let n = usize::try_from(step.limit).unwrap();
        months.refused(step, row(step.after.id + step.limit), n, &error());
        n_attempts += 1;
    }
    assert!(n_attempts < 15, "{n_attempts} attempts");
    assert_eq!(months.next_step(Instant::now()), None, "it pauses");
    months.looked(0, Vec::new());
    assert_eq!(months.obstacle(march()), None, "without a parked reading its next message tries it");
}

#[test]
fn a_month_without_a_partition_waits_for_one() {
    let mut months = months();
    months.close_without_partition(march(), Obstacle::Detached, None);
    months.parked([march()].into_iter());
    months.looked(1, vec![march()]);
    months.forget_open();
    assert_eq!(months.without_partition(), [march()]);
    assert_eq!(months.next_step(Instant::now()), None);
    months.open(march());
    assert_eq!((months.any_closed(), months.next_step(Instant::now()).is_some()), (false, true));
}

#[test]
fn parked_readings_have_a_limit() {
    let mut months = months();
    months.looked(MAX_PARKED - 1, vec![march()]);
    assert!(months.check_room(0).is_ok() && months.check_room(1).is_ok() && months.check_room(2).is_err());
}
