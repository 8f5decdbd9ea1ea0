//! How the devices answer commands and configuration, on purpose and by dice of their own: the
//! readings and faults of a seed stay the same whatever is answered.

use std::str::FromStr;
use std::time::Duration;

const FAIL: f64 = 0.1;
const REJECT: f64 = 0.1;
const DELAY_MEAN_S: f64 = 2.0;
const SILENCE: f64 = 0.1;
const DUP: f64 = 0.1;
const NO_ACK: f64 = 0.5;
/// Longest mean that can be asked for.
const LONGEST_MEAN_S: f64 = 3_600.0;
/// No single answer takes longer than so many means: a test has to end.
const LONGEST_IN_MEANS: f64 = 5.0;
/// Keeps these dice apart from those of the readings and the faults.
const ANSWER_DICE: u64 = 0xA11C_0DE5_0F0A_C4ED;

/// How answers differ from the plain one (`ACKED`, then `SUCCEEDED`; `APPLIED`); zero is never.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Answers {
    /// Share of commands that are not carried out and answered `FAILED`.
    pub fail: f64,
    /// Share of configurations that are not taken over and answered `REJECTED`.
    pub reject: f64,
    /// Mean seconds between a command or a configuration and its final answer; each answer has a time
    /// of its own, at most five means, and none waits for another.
    pub delay: f64,
    /// Share of commands and configurations that are never answered, though they are carried out.
    pub silence: f64,
    /// Share of final answers that are sent twice.
    pub dup: f64,
    /// Share of commands that are answered without `ACKED` before the final answer.
    pub no_ack: f64,
    /// The devices never answer, as firmware that knows no `ack`: they show what they were set to in a
    /// status message, and in every one after it.
    pub effect: bool,
}

/// `fail,reject,delay,silence,dup,no-ack`, each with an optional `=value`, and `effect`.
impl FromStr for Answers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut answers = Self::default();
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let (name, value) = item.split_once('=').map_or((item, None), |(name, value)| (name, Some(value)));
            let (field, default, most) = match name {
                "fail" => (&mut answers.fail, FAIL, 1.0),
                "reject" => (&mut answers.reject, REJECT, 1.0),
                "delay" => (&mut answers.delay, DELAY_MEAN_S, LONGEST_MEAN_S),
                "silence" => (&mut answers.silence, SILENCE, 1.0),
                "dup" => (&mut answers.dup, DUP, 1.0),
                "no-ack" => (&mut answers.no_ack, NO_ACK, 1.0),
                "effect" if value.is_none() => {
                    answers.effect = true;
                    continue;
                }
                "effect" => return Err("effect: takes no value, all devices answer so".to_owned()),
                _ => {
                    return Err(format!(
                        "unknown answer {name:?}: expected fail, reject, delay, silence, dup, no-ack or effect"
                    ));
                }
            };
            *field = match value {
                None => default,
                Some(value) => value
                    .parse()
                    .ok()
                    .filter(|v| (0.0..=most).contains(v))
                    .ok_or_else(|| format!("{name}: expected a number from 0 to {most}"))?,
            };
        }
        Ok(answers)
    }
}

/// How one command or configuration is answered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Manner {
    /// It is refused, whatever it says.
    pub(crate) fails: bool,
    /// Nothing is said.
    pub(crate) silent: bool,
    /// `ACKED` goes ahead of the final answer.
    pub(crate) acks: bool,
    /// When the final answer goes out, once or twice, after it was received.
    pub(crate) after: Vec<Duration>,
}

/// Decides how a device answers.
pub(crate) struct AnswerDice {
    answers: Answers,
    rng: fastrand::Rng,
}

impl AnswerDice {
    /// Dice of their own for one device.
    pub(crate) fn new(answers: Answers, seed: u64, index: u64) -> Self {
        let seed = seed ^ ANSWER_DICE ^ index.wrapping_mul(0x9FB2_1C65_1E98_DF25);
        Self { answers, rng: fastrand::Rng::with_seed(seed) }
    }

    /// Whether this device shows instead of telling.
    pub(crate) fn shows(&self) -> bool {
        self.answers.effect
    }

    /// For a command.
    pub(crate) fn command(&mut self) -> Manner {
        let (fails, acks) = (self.strikes(self.answers.fail), !self.strikes(self.answers.no_ack));
        self.manner(fails, acks)
    }

    /// For a configuration, which has one answer.
    pub(crate) fn config(&mut self) -> Manner {
        let fails = self.strikes(self.answers.reject);
        self.manner(fails, false)
    }

    /// Rolls as often whatever strikes, so that one share does not move another's dice.
    fn manner(&mut self, fails: bool, acks: bool) -> Manner {
        let silent = self.strikes(self.answers.silence);
        let (doubles, first, more) = (self.strikes(self.answers.dup), self.delay(), self.delay());
        let after = if doubles { vec![first, first + more] } else { vec![first] };
        Manner { fails, silent, acks, after }
    }

    fn strikes(&mut self, share: f64) -> bool {
        self.rng.f64() < share
    }

    fn delay(&mut self) -> Duration {
        let means = -(1.0 - self.rng.f64()).ln();
        Duration::from_secs_f64(self.answers.delay * means.min(LONGEST_IN_MEANS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_take_sensible_defaults_or_a_value() {
        let answers: Answers = "fail, delay=0.5,no-ack, effect".parse().unwrap();
        let expected = Answers { fail: FAIL, delay: 0.5, no_ack: NO_ACK, effect: true, ..Answers::default() };
        assert_eq!(answers, expected);
        assert_eq!("".parse(), Ok(Answers::default()));
        for wrong in ["shout", "fail=2", "dup=x", "silence=NaN", "effect=0.5", "delay=-1"] {
            assert!(wrong.parse::<Answers>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn nothing_is_answered_oddly_unasked() {
        let mut dice = AnswerDice::new(Answers::default(), 1, 1);
        let plain = Manner { fails: false, silent: false, acks: true, after: vec![Duration::ZERO] };
        assert!((0..100).all(|_| dice.command() == plain));
        assert!((0..100).all(|_| dice.config() == Manner { acks: false, ..plain.clone() }));
    }

    #[test]
    fn shares_are_about_what_was_asked_for_and_delays_are_bounded() {
        let answers = "fail=0.1,silence=0.2,dup=0.3,no-ack=0.4,delay=2".parse().unwrap();
        let mut dice = AnswerDice::new(answers, 7, 3);
        let manners: Vec<_> = (0..10_000).map(|_| dice.command()).collect();
        let about = |expected: usize, counts: fn(&Manner) -> bool| {
            let n = manners.iter().filter(|manner| counts(manner)).count();
            assert!(n.abs_diff(expected) < 200, "{n} instead of {expected}");
        };
        about(1_000, |manner| manner.fails);
        about(2_000, |manner| manner.silent);
        about(3_000, |manner| manner.after.len() == 2);
        about(4_000, |manner| !manner.acks);
        let total: Duration = manners.iter().map(|manner| manner.after[0]).sum();
        assert!((15_000..25_000).contains(&total.as_secs()), "{total:?}");
        assert!(manners.iter().all(|manner| manner.after[0] <= Duration::from_secs(10)));
        assert!(manners.iter().filter(|manner| manner.after.len() == 2).all(|m| m.after[0] <= m.after[1]));
    }

    #[test]
    fn the_same_seed_answers_alike_and_another_device_differently() {
        let run = |seed, index| {
            let mut dice = AnswerDice::new("fail=0.5,dup=0.5,delay".parse().unwrap(), seed, index);
            (0..50).map(|_| dice.command()).collect::<Vec<_>>()
        };
        assert_eq!(run(1, 1), run(1, 1));
        assert_ne!(run(1, 1), run(1, 2));
    }
}
