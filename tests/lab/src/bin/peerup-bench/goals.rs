//! What was promised, held against what was measured. Goals are ratios inside one run wherever a machine has a say.

use crate::profile::Profile;
use crate::record::{Metric, Run};
use crate::stats::Spread;
use crate::subject::Subject;

/// A promise about one subject's median.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    pub text: &'static str,
    pub profile: Profile,
    pub subject: Subject,
    pub metric: Metric,
    pub measure: Measure,
    pub bound: Bound,
}

/// What the median is compared as.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Measure {
    Itself,
    /// Divided by the median of another subject on the same profile.
    Over(Subject),
    /// Less the median of another subject on the same profile.
    Beyond(Subject),
    /// Divided by the best median of another overlay on the same profile.
    OverBestRival,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

impl Goal {
    /// The compared value, and whether the goal is met; `None` where something was not measured.
    pub fn judge(&self, run: &Run) -> Option<(f64, bool)> {
        let median =
            |subject| Spread::of(&run.values(self.profile, subject, self.metric)).map(|spread| spread.median);
        let own = median(self.subject)?;
        let value = match self.measure {
            Measure::Itself => own,
            Measure::Over(other) => own / median(other)?,
            Measure::Beyond(other) => own - median(other)?,
            Measure::OverBestRival => own / RIVALS.into_iter().filter_map(median).max_by(f64::total_cmp)?,
        };
        Some((value, self.bound.holds(value)))
    }

    /// The goal in a table's words: "≥ 0.38 × raw".
    pub fn bound_text(&self) -> String {
        let bound = match self.bound {
            Bound::AtLeast(least) => format!("≥ {least}"),
            Bound::AtMost(most) => format!("≤ {most}"),
        };
        match self.measure {
            Measure::Itself => bound,
            Measure::Over(other) => format!("{bound} × {}", other.name()),
            Measure::Beyond(other) => format!("{} + {bound}", other.name()),
            Measure::OverBestRival => format!("{bound} × best other"),
        }
    }
}

const RIVALS: [Subject; 4] = [Subject::Boringtun, Subject::Gotatun, Subject::WireguardGo, Subject::Nebula];

/// The round trip beside a flow on a bad link: what was measured to be possible, times 1.2.
const LOADED: [(Profile, f64, f64); 7] = [
    (Profile::Clean100, 30.0, 48.0),
    (Profile::Low, 12.0, 20.4),
    (Profile::Medium, 24.0, 54.0),
    (Profile::Lte, 126.0, 150.0),
    (Profile::LossyWan, 54.0, 72.0),
    (Profile::Sat, 744.0, 960.0),
    (Profile::Bufferbloat, 48.0, 72.0),
];

/// One cubic flow inside a reliable lane, as a multiple of one on the bare link.
const LOSSY: [(Profile, f64); 5] = [
    (Profile::LossyWan, 20.0),
    (Profile::Lte, 5.0),
    (Profile::Low, 1.0),
    (Profile::Sat, 3.0),
    (Profile::Bufferbloat, 0.9),
];

pub fn goals() -> Vec<Goal> {
    use Bound::{AtLeast, AtMost};
    use Measure::{Beyond, Itself, Over, OverBestRival};
    use Profile::{Cable, NoOffload, Rtt20};
    use Subject::{Peerup, PeerupQuic, PeerupRelay, PeerupTcp, Raw};
    let goal = |text, profile, subject, metric, measure, bound| Goal {
        text,
        profile,
        subject,
        metric,
        measure,
        bound,
    };
    let mut goals = vec![
        goal("one TCP, TCP+TLS", Cable, PeerupTcp, Metric::Tcp1, Over(Raw), AtLeast(0.38)),
        goal("the same without offloads", NoOffload, PeerupTcp, Metric::Tcp1, Over(Raw), AtLeast(0.30)),
        goal("one TCP, QUIC", Cable, PeerupQuic, Metric::Tcp1, Over(Raw), AtLeast(0.20)),
        goal("CPU s/GB, both daemons", Cable, Peerup, Metric::DaemonCpu, Itself, AtMost(1.5)),
        goal("ping beside one TCP, avg ms", Cable, Peerup, Metric::LoadedAvg, Itself, AtMost(1.5)),
        goal("ping beside one TCP, p99 ms", Cable, Peerup, Metric::LoadedP99, Itself, AtMost(3.0)),
        goal("UDP below 0.5 % loss", Cable, Peerup, Metric::Udp, OverBestRival, AtLeast(1.0)),
        goal("idle RTT added, ms", Cable, Peerup, Metric::IdleP50, Beyond(Raw), AtMost(0.25)),
        goal("20 ms, one TCP", Rtt20, Peerup, Metric::Tcp1, Over(Raw), AtLeast(0.9)),
        goal("20 ms, four TCP", Rtt20, Peerup, Metric::Tcp4, Over(Raw), AtLeast(0.8)),
        goal("through the relay", Cable, PeerupRelay, Metric::Tcp1, Over(PeerupTcp), AtLeast(0.25)),
        goal("relay, CPU s/GB", Cable, PeerupRelay, Metric::RelayCpu, Itself, AtMost(2.0)),
        goal("RSS idle, MiB", Cable, Peerup, Metric::RssIdle, Itself, AtMost(20.0)),
        goal("RSS under load, MiB", Cable, Peerup, Metric::RssPeak, Itself, AtMost(64.0)),
        goal("binary, MB", Cable, Peerup, Metric::Binary, Itself, AtMost(15.0)),
    ];
    for (profile, factor) in LOSSY {
        for subject in [PeerupTcp, Peerup] {
            goals.push(goal("one TCP", profile, subject, Metric::Tcp1, Over(Raw), AtLeast(factor)));
        }
    }
    for profile in [Profile::LossyWan, Profile::Lte, Profile::Bufferbloat] {
        goals.push(goal(
            "one TCP where only QUIC passes",
            profile,
            PeerupQuic,
            Metric::Tcp1,
            Over(Raw),
            AtLeast(0.9),
        ));
    }
    for (profile, p50, p99) in LOADED {
        goals.push(goal(
            "ping beside one TCP, p50 ms",
            profile,
            Peerup,
            Metric::LoadedP50,
            Itself,
            AtMost(p50),
        ));
        goals.push(goal(
            "ping beside one TCP, p99 ms",
            profile,
            Peerup,
            Metric::LoadedP99,
            Itself,
            AtMost(p99),
        ));
    }
    goals
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Record;

    #[test]
    fn a_ratio_is_taken_of_medians_of_the_same_profile() {
        let run = run(&[
            (Profile::Cable, Subject::Raw, 100.0),
            (Profile::Cable, Subject::Raw, 300.0),
            (Profile::Cable, Subject::Raw, 200.0),
            (Profile::Cable, Subject::PeerupTcp, 80.0),
            (Profile::Low, Subject::Raw, 1.0),
        ]);
        let (ratio, met) = goal(Measure::Over(Subject::Raw), Bound::AtLeast(0.38)).judge(&run).unwrap();
        assert_eq!((ratio, met), (0.4, true));
        assert_eq!(goal(Measure::Itself, Bound::AtMost(79.0)).judge(&run), Some((80.0, false)));
        assert_eq!(goal(Measure::Beyond(Subject::Raw), Bound::AtMost(0.0)).judge(&run), Some((-120.0, true)));
    }

    #[test]
    fn the_best_rival_is_another_overlay_and_neither_the_link_nor_peerup() {
        let run = run(&[
            (Profile::Cable, Subject::Raw, 900.0),
            (Profile::Cable, Subject::Nebula, 20.0),
            (Profile::Cable, Subject::Gotatun, 40.0),
            (Profile::Cable, Subject::PeerupTcp, 80.0),
            (Profile::Cable, Subject::PeerupQuic, 500.0),
        ]);
        let judged = goal(Measure::OverBestRival, Bound::AtLeast(1.0)).judge(&run);
        assert_eq!(judged, Some((2.0, true)));
    }

    #[test]
    fn what_was_not_measured_is_neither_met_nor_missed() {
        let run = run(&[(Profile::Cable, Subject::PeerupTcp, 80.0)]);
        assert_eq!(goal(Measure::Over(Subject::Raw), Bound::AtLeast(0.1)).judge(&run), None);
        assert_eq!(goal(Measure::OverBestRival, Bound::AtLeast(0.1)).judge(&run), None);
    }

    #[test]
    fn a_goal_reads_as_a_bound() {
        assert_eq!(goal(Measure::Over(Subject::Raw), Bound::AtLeast(0.38)).bound_text(), "≥ 0.38 × raw");
        assert_eq!(goal(Measure::Itself, Bound::AtMost(3.0)).bound_text(), "≤ 3");
    }

    fn goal(measure: Measure, bound: Bound) -> Goal {
        Goal {
            text: "",
            profile: Profile::Cable,
            subject: Subject::PeerupTcp,
            metric: Metric::Tcp1,
            measure,
            bound,
        }
    }

    fn run(values: &[(Profile, Subject, f64)]) -> Run {
        let record =
            |&(profile, subject, value)| Record { round: 1, profile, subject, metric: Metric::Tcp1, value };
        Run { records: values.iter().map(record).collect(), ..Run::default() }
    }
}
