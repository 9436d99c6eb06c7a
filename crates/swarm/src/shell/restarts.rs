//! How long a rebuilt swarm rests.
//!
//! A panic that the next poll meets again (a poisoned state file of the host, a bug that every start runs into) must
//! not turn the control loop into a spinning one. The first panic costs no rest, each further one without a calm
//! minute in between twice as much as the one before.

use std::time::Duration;

use tokio::time::Instant;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// Running this long without a panic makes the next one a first one.
const CALM: Duration = Duration::from_secs(60);

#[derive(Default)]
pub struct Restarts {
    /// Panics since the last calm time, except the first.
    repeated: u32,
    resumed: Option<Instant>,
}

impl Restarts {
    /// Records a panic; the answer is the rest before the next poll.
    pub fn record(&mut self, now: Instant) -> Duration {
        let calm = self.resumed.is_none_or(|resumed| now >= resumed + CALM);
        self.repeated = if calm { 0 } else { self.repeated.saturating_add(1) };
        let rest = rest(self.repeated);
        self.resumed = Some(now + rest);
        rest
    }
}

fn rest(repeated: u32) -> Duration {
    match repeated {
        0 => Duration::ZERO,
        _ => FIRST.saturating_mul(2_u32.saturating_pow(repeated - 1)).min(LONGEST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_double_up_to_half_a_minute_and_start_over_after_a_calm_one() {
        let mut restarts = Restarts::default();
        let mut now = Instant::now();
        let mut rests = Vec::new();
        for _ in 0..8 {
            let rest = restarts.record(now);
            rests.push(rest.as_secs());
            now += rest;
        }
        assert_eq!(rests, [0, 1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(restarts.record(now + CALM), Duration::ZERO);
    }
}
