//! How many messages a socket's client may send: a bucket that fills with time.

use tokio::time::Instant;

/// A token bucket of one socket.
pub(super) struct Bucket {
    per_second: f64,
    size: f64,
    level: f64,
    filled_at: Instant,
}

impl Bucket {
    pub(super) fn new(per_second: u32, burst: u32, now: Instant) -> Self {
        Self { per_second: per_second.into(), size: burst.into(), level: burst.into(), filled_at: now }
    }

    /// Takes one; false when there is none.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.filled_at = now;
        self.level = (self.level + elapsed * self.per_second).min(self.size);
        if self.level < 1.0 {
            return false;
        }
        self.level -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_burst_is_allowed_and_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(20, 5, start);
        assert!((0..5).all(|_| bucket.take(start)));
        assert!(!bucket.take(start));
        let later = start + Duration::from_millis(110);
        assert!(bucket.take(later) && bucket.take(later) && !bucket.take(later));
    }
}
