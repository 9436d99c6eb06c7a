//! What is measured of a path: round trips and losses.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

use crate::moment::Moment;

/// Outcomes kept one by one: a minute of probes once a second.
const RECENT: usize = 64;
/// Outcomes kept as sums per minute.
const MINUTES: u64 = 15;

/// Round-trip estimation after RFC 6298 §2.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RoundTrip {
    smoothed: Option<Duration>,
    variation: Duration,
    /// Smoothed difference between neighbours, as RFC 3550 §6.4.1 has it.
    jitter: Duration,
    last: Option<Duration>,
    samples: u32,
}

impl RoundTrip {
    pub fn sample(&mut self, rtt: Duration) {
        self.variation = match self.smoothed {
            None => rtt / 2,
            Some(smoothed) => (self.variation * 3 + smoothed.abs_diff(rtt)) / 4,
        };
        self.smoothed = Some(self.smoothed.map_or(rtt, |smoothed| (smoothed * 7 + rtt) / 8));
        if let Some(last) = self.last.replace(rtt) {
            self.jitter = (self.jitter * 15 + last.abs_diff(rtt)) / 16;
        }
        self.samples = self.samples.saturating_add(1);
    }

    pub fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    pub fn variation(&self) -> Duration {
        self.variation
    }

    pub fn jitter(&self) -> Duration {
        self.jitter
    }

    pub fn samples(&self) -> u32 {
        self.samples
    }
}

/// Which probes were answered: one by one for a minute, in sums for a quarter of an hour.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Losses {
    recent: VecDeque<(Moment, bool)>,
    /// Minute since the machine was made, probes, lost ones.
    minutes: VecDeque<(u64, u32, u32)>,
}

impl Losses {
    pub fn record(&mut self, lost: bool, now: Moment) {
        if self.recent.len() >= RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((now, lost));
        let minute = now.age().as_secs() / 60;
        self.minutes.retain(|(of, ..)| of + MINUTES > minute);
        match self.minutes.back_mut().filter(|(of, ..)| *of == minute) {
            Some((_, probes, losses)) => {
                *probes = probes.saturating_add(1);
                *losses = losses.saturating_add(u32::from(lost));
            }
            None => self.minutes.push_back((minute, 1, u32::from(lost))),
        }
    }

    /// What is older than now says nothing about the path as it is.
    pub fn forget_recent(&mut self) {
        self.recent.clear();
    }

    /// Share of lost probes over at most the last minute; `None` with fewer than `least` probes.
    pub fn share(&self, over: Duration, least: usize, now: Moment) -> Option<f64> {
        let within = self.recent.iter().filter(|(at, _)| now.since(*at) <= over);
        let (probes, lost) =
            within.fold((0usize, 0usize), |(all, lost), (_, is)| (all + 1, lost + usize::from(*is)));
        (probes > 0 && probes >= least).then(|| lost as f64 / probes as f64)
    }

    /// Share of lost probes over the last quarter of an hour.
    pub fn quarter(&self) -> f64 {
        let sums = self.minutes.iter();
        let (probes, lost) = sums.fold((0u64, 0u64), |(all, lost), (_, probes, losses)| {
            (all + u64::from(*probes), lost + u64::from(*losses))
        });
        if probes == 0 { 0.0 } else { lost as f64 / probes as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::default() + Duration::from_millis(ms)
    }

    #[test]
    fn the_first_sample_sets_the_estimate_and_later_ones_move_it_slowly() {
        let mut rtt = RoundTrip::default();
        rtt.sample(Duration::from_millis(80));
        assert_eq!(rtt.smoothed(), Some(Duration::from_millis(80)));
        rtt.sample(Duration::from_millis(160));
        assert_eq!(rtt.smoothed(), Some(Duration::from_millis(90)));
        assert_eq!(rtt.jitter(), Duration::from_millis(5));
    }

    #[test]
    fn losses_are_told_for_the_last_seconds_and_for_a_quarter_of_an_hour() {
        let mut losses = Losses::default();
        for second in 0..20 * 60 {
            losses.record(second % 4 == 0, at(second * 1000));
        }
        assert_eq!(losses.quarter(), 0.25);
        for second in 20 * 60..20 * 60 + 10 {
            losses.record(true, at(second * 1000));
        }
        let now = at((20 * 60 + 9) * 1000);
        assert_eq!(losses.share(Duration::from_secs(9), 6, now), Some(1.0));
        assert_eq!(losses.share(Duration::from_secs(3), 6, now), None);
        assert!(losses.quarter() < 0.27);
    }

    #[test]
    fn a_path_probed_for_ever_keeps_a_bounded_record() {
        let mut losses = Losses::default();
        for second in 0..100_000 {
            losses.record(false, at(second * 1000));
        }
        assert!(losses.recent.len() <= RECENT && losses.minutes.len() as u64 <= MINUTES);
    }
}
