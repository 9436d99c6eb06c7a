//! Which congestion control a TCP connection gets, as a machine: figures go in, a change comes out.
//!
//! Cubic on short clean paths: there it is a third faster than BBR, for loss means a full queue. BBR where loss or distance
//! would hold cubic down: at 20 ms and 1 % loss cubic carries 6 Mbit/s for all flows together, BBR 470
//! (RFC 5681 halves the window for each loss, however far away and whatever its cause). Not on paths whose round trip varies by more
//! than half: BBR sizes its window by the shortest one.

use std::time::Duration;

/// Beyond a building and its access line.
const FAR: Duration = Duration::from_millis(5);
/// Share of segments sent again that is not cubic's own doing on a short path, and how many segments tell.
const LOSSY: f64 = 0.005;
const ENOUGH: u64 = 2000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    Cubic,
    Bbr,
}

impl Control {
    /// The kernel's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cubic => "cubic",
            Self::Bbr => "bbr",
        }
    }
}

/// What is known of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    pub rtt: Duration,
    pub rtt_variation: Duration,
    /// Segments sent since the beginning, and those of them that had to be sent again. Not those that were only overtaken,
    /// as on a host whose queues serve several processors.
    pub sent: u64,
    pub lost: u64,
}

#[derive(Debug, Default)]
pub struct Policy {
    chosen: Option<Control>,
    /// The shortest round trip seen: queues lengthen it, nothing shortens it.
    least: Option<Duration>,
    /// Where the stretch began in which losses are counted.
    counted: (u64, u64),
}

impl Policy {
    pub fn chosen(&self) -> Option<Control> {
        self.chosen
    }

    /// Judges new figures. Says what to change to, if anything. From BBR there is no way back: the loss that it was
    /// chosen for does not show any more.
    pub fn judge(&mut self, figures: Figures) -> Option<Control> {
        self.least = Some(self.least.map_or(figures.rtt, |least| least.min(figures.rtt)));
        let (sent, lost) = self.counted;
        let stretch = figures.sent.saturating_sub(sent);
        let again = figures.lost.saturating_sub(lost);
        let lossy = stretch >= ENOUGH && again as f64 > stretch as f64 * LOSSY;
        if stretch >= ENOUGH {
            self.counted = (figures.sent, figures.lost);
        }
        let far = self.least.is_some_and(|least| least >= FAR);
        let steady = figures.rtt_variation * 2 <= figures.rtt;
        let choice = if (far || lossy) && steady { Control::Bbr } else { Control::Cubic };
        if self.chosen == Some(choice) || self.chosen == Some(Control::Bbr) {
            return None;
        }
        self.chosen = Some(choice);
        Some(choice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn after(rtt_us: u64, sent: u64, lost: u64) -> Figures {
        let rtt = Duration::from_micros(rtt_us);
        Figures { rtt, rtt_variation: rtt / 4, sent, lost }
    }

    #[test]
    fn a_short_clean_path_is_cubics_and_stays_so_under_load() {
        let mut policy = Policy::default();
        assert_eq!(policy.judge(after(300, 0, 0)), Some(Control::Cubic));
        for turn in 1..100 {
            // Its own queue makes the round trip longer, and a full one loses a segment now and then.
            assert_eq!(policy.judge(after(9_000, turn * 10_000, turn * 3)), None);
        }
    }

    #[test]
    fn a_far_path_is_bbrs_from_the_first_figure() {
        let handshake = Duration::from_millis(20);
        let figures = Figures { rtt: handshake, rtt_variation: handshake / 2, sent: 0, lost: 0 };
        assert_eq!(Policy::default().judge(figures), Some(Control::Bbr));
    }

    #[test]
    fn loss_on_a_short_path_calls_for_bbr_once_enough_segments_tell_and_for_good() {
        let mut policy = Policy::default();
        assert_eq!(policy.judge(after(900, 0, 0)), Some(Control::Cubic));
        assert_eq!(policy.judge(after(900, 500, 20)), None);
        assert_eq!(policy.judge(after(900, 2_500, 25)), Some(Control::Bbr));
        assert_eq!(policy.judge(after(900, 900_000, 25)), None);
    }

    #[test]
    fn loss_of_long_ago_does_not_count() {
        let mut policy = Policy::default();
        policy.judge(after(900, 1_000_000, 4_999));
        for turn in 1..100 {
            assert_eq!(policy.judge(after(900, 1_000_000 + turn * 3_000, 4_999 + turn)), None);
        }
    }

    #[test]
    fn a_path_whose_round_trip_swings_is_left_to_cubic() {
        let (rtt, rtt_variation) = (Duration::from_millis(7), Duration::from_millis(4));
        let figures = Figures { rtt, rtt_variation, sent: 0, lost: 0 };
        assert_eq!(Policy::default().judge(figures), Some(Control::Cubic));
    }

    proptest! {
        #[test]
        fn whatever_the_figures_there_are_at_most_two_changes(
            all in proptest::collection::vec((0..1_000_000u64, 0..1_000_000u64, any::<u64>(), any::<u64>()), 0..100)
        ) {
            let mut policy = Policy::default();
            let changes = all.into_iter().filter_map(|(rtt, variation, sent, lost)| {
                let (rtt, rtt_variation) = (Duration::from_micros(rtt), Duration::from_micros(variation));
                policy.judge(Figures { rtt, rtt_variation, sent, lost })
            });
            prop_assert!(changes.count() <= 2);
        }
    }
}
