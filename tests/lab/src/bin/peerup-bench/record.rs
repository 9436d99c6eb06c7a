//! What a run measured, as it is kept: every value, not only medians.

use std::collections::BTreeMap;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::profile::Profile;
use crate::subject::Subject;

/// One number of one round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// TCP ×1, Mbit/s
    #[value(name = "tcp1")]
    #[serde(rename = "tcp1")]
    Tcp1,
    /// TCP ×4, Mbit/s
    #[value(name = "tcp4")]
    #[serde(rename = "tcp4")]
    Tcp4,
    /// TCP reverse, Mbit/s
    Reverse,
    /// both daemons, CPU s/GB
    DaemonCpu,
    /// relay, CPU s/GB
    RelayCpu,
    /// machine, CPU s/GB
    MachineCpu,
    /// sent again by the inner flow
    Retransmits,
    /// dropped by the wire's queue, %
    QueueDrops,
    /// RTT idle avg, ms
    IdleAvg,
    /// RTT idle p50, ms
    #[value(name = "idle-p50")]
    #[serde(rename = "idle-p50")]
    IdleP50,
    /// RTT idle p99, ms
    #[value(name = "idle-p99")]
    #[serde(rename = "idle-p99")]
    IdleP99,
    /// RTT loaded avg, ms
    LoadedAvg,
    /// RTT loaded p50, ms
    #[value(name = "loaded-p50")]
    #[serde(rename = "loaded-p50")]
    LoadedP50,
    /// RTT loaded p99, ms
    #[value(name = "loaded-p99")]
    #[serde(rename = "loaded-p99")]
    LoadedP99,
    /// pings lost under load, %
    LoadedLoss,
    /// UDP 1200 B below 0.5 % loss, Mbit/s
    Udp,
    /// RSS idle, MiB
    RssIdle,
    /// RSS peak, MiB
    RssPeak,
    /// start to first reply, s
    Start,
    /// binary, MB
    Binary,
}

impl Metric {
    pub fn text(self) -> String {
        let help = self.to_possible_value().and_then(|value| value.get_help().map(ToString::to_string));
        help.unwrap_or_default()
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub round: u32,
    pub profile: Profile,
    pub subject: Subject,
    pub metric: Metric,
    pub value: f64,
}

/// A measurement that failed; it has no number, and its absence shows in the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    pub round: u32,
    pub profile: Profile,
    pub subject: Subject,
    /// What was attempted.
    pub attempt: String,
    pub why: String,
}

/// Connections seen with `ss -ti` in the middle of a measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    pub round: u32,
    pub profile: Profile,
    pub subject: Subject,
    pub inner: Vec<String>,
    pub outer: Vec<String>,
}

/// Everything about one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub machine: String,
    pub seconds: u32,
    pub rounds: u32,
    pub versions: BTreeMap<Subject, String>,
    /// What a tunnel subject says that its packets ride on.
    pub carriers: BTreeMap<Subject, String>,
    pub records: Vec<Record>,
    pub failures: Vec<Failure>,
    pub seen: Vec<Seen>,
}

impl Run {
    /// The values of one metric, in the order of their measurement.
    pub fn values(&self, profile: Profile, subject: Subject, metric: Metric) -> Vec<f64> {
        let wanted =
            |record: &&Record| (record.profile, record.subject, record.metric) == (profile, subject, metric);
        self.records.iter().filter(wanted).map(|record| record.value).collect()
    }

    /// Subjects that were measured, or tried, on a profile.
    pub fn subjects(&self, profile: Profile) -> Vec<Subject> {
        let recorded = self.records.iter().map(|record| (record.profile, record.subject));
        let failed = self.failures.iter().map(|failure| (failure.profile, failure.subject));
        let mut subjects: Vec<_> =
            recorded.chain(failed).filter(|(its, _)| *its == profile).map(|(_, subject)| subject).collect();
        subjects.sort();
        subjects.dedup();
        subjects
    }

    /// Adds another run, measured apart (as one that would have taken too long in one piece).
    pub fn append(&mut self, other: Self) {
        let Self { machine, seconds, rounds, versions, carriers, records, failures, seen } = other;
        if self.machine.is_empty() {
            (self.machine, self.seconds, self.rounds) = (machine, seconds, rounds);
        }
        self.versions.extend(versions);
        self.carriers.extend(carriers);
        self.records.extend(records);
        self.failures.extend(failures);
        self.seen.extend(seen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_survive_their_file_and_add_up() {
        let mut run = Run { machine: "m".into(), ..Run::default() };
        run.records.push(record(Subject::Raw, 3.5));
        let text = serde_json::to_string(&run).unwrap();
        let mut sum: Run = serde_json::from_str(&text).unwrap();
        assert_eq!(sum, run);
        sum.append(Run { records: vec![record(Subject::Raw, 4.0), record(Subject::Nebula, 1.0)], ..run });
        assert_eq!(sum.values(Profile::Cable, Subject::Raw, Metric::Tcp1), [3.5, 4.0]);
        assert_eq!(sum.subjects(Profile::Cable), [Subject::Raw, Subject::Nebula]);
        assert_eq!(sum.subjects(Profile::Low), []);
    }

    #[test]
    fn every_metric_has_a_text() {
        assert!(Metric::value_variants().iter().all(|metric| !metric.text().is_empty()));
    }

    fn record(subject: Subject, value: f64) -> Record {
        Record { round: 1, profile: Profile::Cable, subject, metric: Metric::Tcp1, value }
    }
}
