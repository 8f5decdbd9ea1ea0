//! Which months take their readings. Readings of a month that does not are parked in a table of their own, so that all other
//! messages pass; once the month takes readings again, they are moved.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use diesel::result::Error as DieselError;
use prometheus_client::metrics::gauge::Gauge;

use super::progress::Progress;
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::error::Chain;
use crate::telemetry::{Month, ParkedPosition};

/// Parked readings at most. With more, the batch that would park them waits, and everything behind it.
pub(super) const MAX_PARKED: i64 = 1_000_000;
/// Parked readings moved in one transaction.
const MAX_MOVED: i64 = 1_000;
/// Interval between two looks for parked readings of other servers, or refused ones. The gauge is exact then.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Pause of moving after a wait for a lock, during which no message was stored.
const LOCK_PAUSE: Duration = Duration::from_secs(5);
/// The first pause before a month that refused a reading is tried with another one, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(20));
/// Single parked readings refused in a row after which their month counts as closed again.
const MAX_REFUSED: u32 = 2;

/// There is no room for more parked readings.
#[derive(Debug, thiserror::Error)]
#[error("{MAX_PARKED} readings are parked, and no more are")]
pub(super) struct TooManyParked;

impl From<TooManyParked> for DieselError {
    /// An error of this kind is retried.
    fn from(error: TooManyParked) -> Self {
        Self::QueryBuilderError(Box::new(error))
    }
}

impl TooManyParked {
    pub(super) fn is_cause(error: &DieselError) -> bool {
        matches!(error, DieselError::QueryBuilderError(cause) if cause.is::<Self>())
    }
}

/// Why a month does not take its readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Obstacle {
    Detached,
    Missing,
    /// Its partition refuses every row.
    Refused,
}

impl Obstacle {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Detached => "its table is not attached to telemetry",
            Self::Missing => "its partition can't be created",
            Self::Refused => "its partition refuses its readings",
        }
    }
}

enum State {
    Open,
    /// A task tries to get it a partition.
    WithoutPartition(Obstacle),
    /// A parked reading is tried now and then.
    Refusing {
        next_try: Instant,
        pauses: Backoff,
    },
}

impl State {
    fn obstacle(&self) -> Option<Obstacle> {
        match self {
            Self::Open => None,
            Self::WithoutPartition(obstacle) => Some(*obstacle),
            Self::Refusing { .. } => Some(Obstacle::Refused),
        }
    }
}

/// How far the parked readings of a month are moved.
#[derive(Clone, Copy)]
struct Moving {
    after: ParkedPosition,
    /// Where the next probe of a month that refuses its readings continues.
    probe_after: Option<ParkedPosition>,
    /// Readings to move in the next transaction.
    step: i64,
    /// Single readings refused in a row.
    n_refused: u32,
}

impl Moving {
    fn start(month: Month) -> Self {
        Self { after: ParkedPosition::start_of(month), probe_after: None, step: MAX_MOVED, n_refused: 0 }
    }
}

/// The parked readings to move next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) month: Month,
    pub(super) after: ParkedPosition,
    pub(super) limit: i64,
    /// Its transaction is rolled back: it only shows whether the month takes the reading.
    pub(super) is_probe: bool,
}

/// Owned by the writer. It remembers what it learned of each month that a message was recorded in.
pub(super) struct Months {
    states: HashMap<Month, State>,
    n_closed: usize,
    /// Months with parked readings.
    parked: BTreeMap<Month, Moving>,
    next_look: Instant,
    /// When parked readings of an open month are to be moved.
    next_move: Instant,
    n_parked: Gauge,
    progress: Progress,
    clock: Clock,
}

impl Months {
    pub(super) fn new(n_parked: Gauge, progress: Progress, clock: Clock) -> Self {
        Self {
            states: HashMap::new(),
            n_closed: 0,
            parked: BTreeMap::new(),
            next_look: Instant::now(),
            next_move: Instant::now(),
            n_parked,
            progress,
            clock,
        }
    }

    /// Whether something is known of the month.
    pub(super) fn is_known(&self, month: Month) -> bool {
        self.states.contains_key(&month)
    }

    /// Why the month does not take its readings.
    pub(super) fn obstacle(&self, month: Month) -> Option<Obstacle> {
        // Hardly ever is a month closed.
        if self.n_closed == 0 { None } else { self.states.get(&month)?.obstacle() }
    }

    pub(super) fn any_closed(&self) -> bool {
        self.n_closed > 0
    }

    /// The months for which the task tries to get a partition.
    pub(super) fn without_partition(&self) -> Vec<Month> {
        let states = self.states.iter();
        states.filter(|(_, state)| matches!(state, State::WithoutPartition(_))).map(|(month, _)| *month).collect()
    }

    fn refusing(&self) -> impl Iterator<Item = Month> {
        let states = self.states.iter();
        states.filter(|(_, state)| matches!(state, State::Refusing { .. })).map(|(month, _)| *month)
    }

    /// The month takes readings.
    pub(super) fn open(&mut self, month: Month) {
        if self.obstacle(month).is_some() {
            tracing::info!(%month, "a month takes its readings again; those that are parked are stored now");
        }
        self.set(month, Some(State::Open));
    }

    /// The month has no partition. `error` says why, if a statement failed.
    pub(super) fn close_without_partition(&mut self, month: Month, obstacle: Obstacle, error: Option<&DieselError>) {
        self.warn(month, obstacle, error);
        self.set(month, Some(State::WithoutPartition(obstacle)));
    }

    /// The month's partition refuses its readings.
    pub(super) fn close_refusing(&mut self, month: Month, error: &DieselError) {
        self.warn(month, Obstacle::Refused, Some(error));
        self.close_for_probe(month);
    }

    /// Parks the month's readings in a transaction that shows whether their month is the cause of a failure.
    pub(super) fn close_for_probe(&mut self, month: Month) {
        let mut pauses = Backoff::new(PAUSES.0, PAUSES.1);
        let next_try = Instant::now() + pauses.next_delay();
        self.set(month, Some(State::Refusing { next_try, pauses }));
    }

    pub(super) fn forget(&mut self, month: Month) {
        self.set(month, None);
    }

    /// A partition that was just created may have been rolled back, and one may have been detached.
    pub(super) fn forget_open(&mut self) {
        self.states.retain(|_, state| state.obstacle().is_some());
    }

    fn warn(&self, month: Month, obstacle: Obstacle, error: Option<&DieselError>) {
        if self.obstacle(month) != Some(obstacle) {
            let error = error.map(|error| Chain(error).to_string());
            let (reason, error) = (obstacle.as_str(), error.as_deref());
            tracing::warn!(%month, reason, error, "a month does not take its readings: they are parked until it does");
        }
    }

    fn set(&mut self, month: Month, state: Option<State>) {
        let before = self.n_closed;
        let is_closed = |state: &State| usize::from(state.obstacle().is_some());
        self.n_closed += state.as_ref().map_or(0, is_closed);
        let old = match state {
            Some(state) => self.states.insert(month, state),
            None => self.states.remove(&month),
        };
        self.n_closed -= old.as_ref().map_or(0, is_closed);
        if before > 0 || self.n_closed > 0 {
            self.report();
        }
    }

    /// Tells `/readyz`.
    fn report(&self) {
        let mut closed: Vec<_> =
            self.states.iter().filter_map(|(month, state)| Some((*month, state.obstacle()?))).collect();
        closed.sort_unstable_by_key(|(month, _)| *month);
        let this_month = Month::of(self.clock.now());
        let affects_all = closed.iter().any(|(month, _)| *month == this_month);
        let names = closed.iter().map(|(month, obstacle)| format!("{month} ({})", obstacle.as_str()));
        self.progress.closed_months(names.collect::<Vec<_>>().join(", "), affects_all);
    }

    /// There is room for so many more parked readings.
    pub(super) fn check_room(&self, n: usize) -> Result<(), TooManyParked> {
        let n = i64::try_from(n).unwrap_or(i64::MAX);
        if n > 0 && self.n_parked.get().saturating_add(n) > MAX_PARKED { Err(TooManyParked) } else { Ok(()) }
    }

    /// Readings of these months were parked.
    pub(super) fn parked(&mut self, months: impl Iterator<Item = Month>) {
        for month in months {
            self.n_parked.inc();
            self.parked.entry(month).or_insert_with(|| Moving::start(month));
        }
    }

    pub(super) fn look_is_due(&self, now: Instant) -> bool {
        now >= self.next_look
    }

    /// What the database has.
    pub(super) fn looked(&mut self, n_parked: i64, months: Vec<Month>) {
        self.n_parked.set(n_parked);
        let known = std::mem::take(&mut self.parked);
        let moving = |month: Month| known.get(&month).copied().unwrap_or_else(|| Moving::start(month));
        self.parked = months.into_iter().map(|month| (month, moving(month))).collect();
        self.next_look = Instant::now() + LOOK_EVERY;
        // Without a parked reading nothing would try a month that refused some.
        let untried: Vec<_> = self.refusing().filter(|month| !self.parked.contains_key(month)).collect();
        untried.into_iter().for_each(|month| self.forget(month));
        self.report();
    }

    /// When something is to be done without a message.
    pub(super) fn next_deadline(&self) -> Instant {
        let tries = self.parked.keys().filter_map(|month| self.next_try(*month));
        tries.chain([self.next_look]).min().expect("there is always a next look")
    }

    /// When the month's parked readings are to be moved.
    fn next_try(&self, month: Month) -> Option<Instant> {
        match self.states.get(&month) {
            Some(State::Open) | None => Some(self.next_move),
            Some(State::WithoutPartition(_)) => None,
            Some(State::Refusing { next_try, .. }) => Some(*next_try),
        }
    }

    /// The parked readings that are to be moved now.
    pub(super) fn next_step(&self, now: Instant) -> Option<Step> {
        let month = *self.parked.keys().find(|month| self.next_try(**month).is_some_and(|at| at <= now))?;
        let moving = self.parked[&month];
        Some(if self.obstacle(month).is_some() {
            // With one reading after the other, so that a single one that is refused does not keep the month closed.
            Step { month, after: moving.probe_after.unwrap_or(moving.after), limit: 1, is_probe: true }
        } else {
            Step { month, after: moving.after, limit: moving.step, is_probe: false }
        })
    }

    /// The readings of the step, up to a position, were moved.
    pub(super) fn moved(&mut self, step: Step, last: ParkedPosition, n: usize) {
        self.n_parked.dec_by(i64::try_from(n).unwrap_or_default());
        if let Some(moving) = self.parked.get_mut(&step.month) {
            *moving = Moving { after: last, probe_after: None, step: (moving.step * 2).min(MAX_MOVED), n_refused: 0 };
        }
    }

    /// The month takes the reading of a probe. All are moved now, in their order.
    pub(super) fn probed(&mut self, step: Step) {
        self.open(step.month);
        if let Some(moving) = self.parked.get_mut(&step.month) {
            *moving = Moving { after: moving.after, ..Moving::start(step.month) };
        }
    }

    /// The database refused the readings of the step. A single one is left out for now: the next may be taken.
    pub(super) fn refused(&mut self, step: Step, last: ParkedPosition, n: usize, error: &DieselError) {
        let Some(moving) = self.parked.get_mut(&step.month) else { return };
        if step.is_probe {
            moving.probe_after = Some(last);
            return self.postpone(step.month, error);
        }
        if n > 1 {
            moving.step = (step.limit / 2).max(1);
            return;
        }
        let n_refused = moving.n_refused + 1;
        *moving = Moving { after: last, probe_after: None, step: 1, n_refused };
        if n_refused >= MAX_REFUSED {
            self.postpone(step.month, error);
        } else {
            let (month, error) = (step.month, Chain(error).to_string());
            tracing::warn!(%month, error, "a parked reading is refused: it stays parked and is tried again later");
        }
    }

    /// Somebody holds a lock that the step needs, of the partition or of ingest: the month is not at fault.
    pub(super) fn locked(&mut self, step: Step, error: &DieselError) {
        self.next_move = Instant::now() + LOCK_PAUSE;
        if step.is_probe {
            self.postpone(step.month, error);
        }
    }

    /// The month is tried again after a pause. Until then its readings are parked.
    pub(super) fn postpone(&mut self, month: Month, error: &DieselError) {
        match self.states.get_mut(&month) {
            Some(State::Refusing { next_try, pauses }) => *next_try = Instant::now() + pauses.next_delay(),
            Some(State::WithoutPartition(_)) => {}
            Some(State::Open) | None => self.close_refusing(month, error),
        }
    }

    /// The step found no parked reading: all of its month are moved, except those that are refused.
    pub(super) fn end_of_month(&mut self, step: Step) {
        let probes = self.parked.get_mut(&step.month).and_then(|moving| moving.probe_after.take());
        if probes.is_some() {
            // From the first again.
            return;
        }
        // The next look finds those that were refused.
        self.parked.remove(&step.month);
        if step.is_probe {
            self.forget(step.month);
        }
    }
}

#[cfg(test)]
mod tests;
