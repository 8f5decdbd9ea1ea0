//! How the devices answer commands and configurations. Answers have random numbers of their own: the readings and
//! faults of a seed are the same whatever is answered.

use std::str::FromStr;
use std::time::Duration;

use super::shares::{self, Share};

/// Longest mean of a delay.
const MAX_MEAN_S: f64 = 3_600.0;
/// Longest delay in means, so that a test ends.
const MAX_DELAY_IN_MEANS: f64 = 5.0;
/// Makes these random numbers independent of those of the readings and the faults.
const SEED_OF_ANSWERS: u64 = 0xA11C_0DE5_0F0A_C4ED;

/// Differences from the usual answers (`ACKED`, then `SUCCEEDED`; `APPLIED`). Zero means never.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Answers {
    /// Share of commands that are not executed and answered `FAILED`.
    pub fail: f64,
    /// Share of configurations that are not applied and answered `REJECTED`.
    pub reject: f64,
    /// Mean seconds until the final answer. Each answer has its own delay of at most five means.
    pub delay: f64,
    /// Share of commands and configurations that are executed and never answered.
    pub silence: f64,
    /// Share of final answers that are sent twice.
    pub dup: f64,
    /// Share of commands that are answered without `ACKED` before the final answer.
    pub no_ack: f64,
    /// The devices never answer, like firmware without `ack`: a status message shows the values that were set.
    pub effect: bool,
}

/// `fail,reject,delay,silence,dup,no-ack`, each with an optional `=value`, and `effect`.
impl FromStr for Answers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut answers = Self::default();
        let (effect, rest): (Vec<&str>, Vec<&str>) = text.split(',').partition(|item| item.trim() == "effect");
        answers.effect = !effect.is_empty();
        shares::parse(
            &rest.join(","),
            &mut [
                Share::new("fail", &mut answers.fail, 0.1, 1.0),
                Share::new("reject", &mut answers.reject, 0.1, 1.0),
                Share::new("delay", &mut answers.delay, 2.0, MAX_MEAN_S),
                Share::new("silence", &mut answers.silence, 0.1, 1.0),
                Share::new("dup", &mut answers.dup, 0.1, 1.0),
                Share::new("no-ack", &mut answers.no_ack, 0.5, 1.0),
            ],
        )?;
        Ok(answers)
    }
}

/// How one command or configuration is answered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AnswerPlan {
    /// The device refuses it, whatever it contains.
    pub(crate) refuses: bool,
    pub(crate) is_silent: bool,
    /// `ACKED` is sent before the final answer.
    pub(crate) acks: bool,
    /// The delays of the final answer, which is sent once or twice.
    pub(crate) delays: Vec<Duration>,
}

/// Plans the answers of one device.
pub(crate) struct AnswerPlanner {
    answers: Answers,
    rng: fastrand::Rng,
}

impl AnswerPlanner {
    pub(crate) fn new(answers: Answers, seed: u64, device: u64) -> Self {
        let seed = seed ^ SEED_OF_ANSWERS ^ device.wrapping_mul(0x9FB2_1C65_1E98_DF25);
        Self { answers, rng: fastrand::Rng::with_seed(seed) }
    }

    /// Whether this device shows effects in its status instead of answering.
    pub(crate) fn shows_effects(&self) -> bool {
        self.answers.effect
    }

    pub(crate) fn for_command(&mut self) -> AnswerPlan {
        let (refuses, acks) = (self.happens(self.answers.fail), !self.happens(self.answers.no_ack));
        self.plan(refuses, acks)
    }

    /// A configuration has one answer.
    pub(crate) fn for_config(&mut self) -> AnswerPlan {
        let refuses = self.happens(self.answers.reject);
        self.plan(refuses, false)
    }

    /// Draws the same number of random numbers each time, so that one share does not change another's results.
    fn plan(&mut self, refuses: bool, acks: bool) -> AnswerPlan {
        let is_silent = self.happens(self.answers.silence);
        let (is_duplicated, first, more) = (self.happens(self.answers.dup), self.delay(), self.delay());
        let delays = if is_duplicated { vec![first, first + more] } else { vec![first] };
        AnswerPlan { refuses, is_silent, acks, delays }
    }

    fn happens(&mut self, share: f64) -> bool {
        self.rng.f64() < share
    }

    fn delay(&mut self) -> Duration {
        let means = -(1.0 - self.rng.f64()).ln();
        Duration::from_secs_f64(self.answers.delay * means.min(MAX_DELAY_IN_MEANS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_defaults_or_a_value() {
        let answers: Answers = "fail, delay=0.5,no-ack, effect".parse().unwrap();
        let expected = Answers { fail: 0.1, delay: 0.5, no_ack: 0.5, effect: true, ..Answers::default() };
        assert_eq!(answers, expected);
        assert_eq!("".parse(), Ok(Answers::default()));
        for wrong in ["shout", "fail=2", "dup=x", "silence=NaN", "effect=0.5", "delay=-1"] {
            assert!(wrong.parse::<Answers>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_usual_answers_are_the_default() {
        let mut planner = AnswerPlanner::new(Answers::default(), 1, 1);
        let usual = AnswerPlan { refuses: false, is_silent: false, acks: true, delays: vec![Duration::ZERO] };
        assert!((0..100).all(|_| planner.for_command() == usual));
        assert!((0..100).all(|_| planner.for_config() == AnswerPlan { acks: false, ..usual.clone() }));
    }

    #[test]
    fn shares_are_met_approximately_and_delays_are_bounded() {
        let answers = "fail=0.1,silence=0.2,dup=0.3,no-ack=0.4,delay=2".parse().unwrap();
        let mut planner = AnswerPlanner::new(answers, 7, 3);
        let plans: Vec<_> = (0..10_000).map(|_| planner.for_command()).collect();
        let about = |expected: usize, counts: fn(&AnswerPlan) -> bool| {
            let n = plans.iter().filter(|plan| counts(plan)).count();
            assert!(n.abs_diff(expected) < 200, "{n} instead of {expected}");
        };
        about(1_000, |plan| plan.refuses);
        about(2_000, |plan| plan.is_silent);
        about(3_000, |plan| plan.delays.len() == 2);
        about(4_000, |plan| !plan.acks);
        let total: Duration = plans.iter().map(|plan| plan.delays[0]).sum();
        assert!((15_000..25_000).contains(&total.as_secs()), "{total:?}");
        assert!(plans.iter().all(|plan| plan.delays[0] <= Duration::from_secs(10)));
        assert!(plans.iter().filter(|plan| plan.delays.len() == 2).all(|plan| plan.delays[0] <= plan.delays[1]));
    }
}
