//! Pauses between retries: exponential, bounded, with jitter so that many clients do not retry at once.

use std::time::Duration;

/// The pauses of one thing that is retried.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    /// Starts at `first` and doubles up to `max`.
    pub const fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, next: first }
    }

    /// Call after a success: the next failure starts with the shortest pause again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }

    /// The next pause is the longest: retrying soon would do harm.
    pub fn jump_to_max(&mut self) {
        self.next = self.max;
    }

    /// The next pause: between half and one and a half of its nominal length.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.next.mul_f64(0.5 + fastrand::f64());
        self.next = (self.next * 2).min(self.max);
        delay
    }

    /// Sleeps for the next pause.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.next_delay()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_maximum_and_start_again_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(300));
        for nominal in [100, 200, 300, 300] {
            let delay = backoff.next_delay().as_millis();
            assert!((nominal / 2..=nominal * 3 / 2).contains(&delay), "{delay} ms where {nominal} were nominal");
        }
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_millis(150));
    }
}
