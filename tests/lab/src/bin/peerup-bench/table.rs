//! A run as Markdown: goals first, then every figure of every subject.

use std::fmt::Write;

use clap::ValueEnum;

use crate::goals::goals;
use crate::profile::Profile;
use crate::record::{Metric, Run};
use crate::stats::Spread;
use crate::subject::Subject;

pub fn markdown(run: &Run) -> String {
    let mut text = format!("{}, {} s a run, {} rounds\n\n", run.machine, run.seconds, run.rounds);
    text += &versions(run);
    text += &goal_table(run);
    for &profile in Profile::value_variants() {
        text += &profile_tables(run, profile);
    }
    text += &congestion_table(run);
    text += &failures(run);
    text
}

fn versions(run: &Run) -> String {
    let mut text = String::from("| subject | version | carried by |\n|---|---|---|\n");
    for (subject, version) in &run.versions {
        let carrier = run.carriers.get(subject).map(String::as_str).unwrap_or_default();
        let _ = writeln!(text, "| {} | {version} | {carrier} |", subject.name());
    }
    text + "\n"
}

fn goal_table(run: &Run) -> String {
    let mut text = String::from("| goal | on | of | bound | measured | |\n|---|---|---|---|---|---|\n");
    let empty = text.len();
    for goal in goals() {
        let Some((value, met)) = goal.judge(run) else { continue };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} |",
            goal.text,
            goal.profile.name(),
            goal.subject.name(),
            goal.bound_text(),
            number(value),
            if met { "met" } else { "**missed**" }
        );
    }
    if text.len() == empty { String::new() } else { text + "\n" }
}

/// Columns that are read together; one table for each.
const GROUPS: [&[Metric]; 3] = [
    &[Metric::Tcp1, Metric::Tcp4, Metric::Reverse, Metric::Udp, Metric::Retransmits, Metric::QueueDrops],
    &[
        Metric::IdleAvg,
        Metric::IdleP50,
        Metric::IdleP99,
        Metric::LoadedAvg,
        Metric::LoadedP50,
        Metric::LoadedP99,
        Metric::LoadedLoss,
    ],
    &[
        Metric::DaemonCpu,
        Metric::RelayCpu,
        Metric::MachineCpu,
        Metric::RssIdle,
        Metric::RssPeak,
        Metric::Start,
        Metric::Binary,
    ],
];

fn profile_tables(run: &Run, profile: Profile) -> String {
    let subjects = run.subjects(profile);
    if subjects.is_empty() {
        return String::new();
    }
    let tables = GROUPS.map(|metrics| group_table(run, profile, &subjects, metrics));
    format!("### {}: {}\n\n{}", profile.name(), profile.text(), tables.concat())
}

fn group_table(run: &Run, profile: Profile, subjects: &[Subject], metrics: &[Metric]) -> String {
    let spread = |subject, metric| Spread::of(&run.values(profile, subject, metric));
    let measured = |metric: &&Metric| subjects.iter().any(|&subject| spread(subject, **metric).is_some());
    let metrics: Vec<Metric> = metrics.iter().filter(measured).copied().collect();
    if metrics.is_empty() {
        return String::new();
    }
    let titles: Vec<String> = metrics.iter().map(|metric| metric.text()).collect();
    let mut text = format!("| subject | {} |\n|---|{}", titles.join(" | "), "---|".repeat(metrics.len()));
    for &subject in subjects {
        let cells = metrics.iter().map(|&metric| {
            let cell = spread(subject, metric).map(cell).unwrap_or_default();
            cell + &share_of_raw(run, profile, subject, metric)
        });
        let _ = write!(text, "\n| {} | {} |", subject.name(), cells.collect::<Vec<_>>().join(" | "));
    }
    text + "\n\n"
}

/// " ×0.4" behind a throughput.
fn share_of_raw(run: &Run, profile: Profile, subject: Subject, metric: Metric) -> String {
    let is_throughput = matches!(metric, Metric::Tcp1 | Metric::Tcp4 | Metric::Reverse | Metric::Udp);
    let median = |subject| Spread::of(&run.values(profile, subject, metric)).map(|spread| spread.median);
    match (median(subject), median(Subject::Raw)) {
        (Some(own), Some(raw)) if is_throughput && subject != Subject::Raw => {
            format!(" ×{}", number(own / raw))
        }
        _ => String::new(),
    }
}

fn cell(spread: Spread) -> String {
    let Spread { median, least, most, count } = spread;
    if count == 1 || least == most {
        return number(median);
    }
    format!("{} ({}–{})", number(median), number(least), number(most))
}

/// Three digits are as many as a measurement has.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Which congestion control `ss` saw inside and outside; the whole lines are in the JSON.
fn congestion_table(run: &Run) -> String {
    if run.seen.is_empty() {
        return String::new();
    }
    let mut rows: Vec<(Profile, Subject, String, String)> = Vec::new();
    for seen in &run.seen {
        let words = |lines: &[String]| {
            let mut words: Vec<&str> = lines.iter().filter_map(|line| line.split(": ").next()).collect();
            words.sort_unstable();
            words.dedup();
            words.join(", ")
        };
        rows.push((seen.profile, seen.subject, words(&seen.inner), words(&seen.outer)));
    }
    rows.sort();
    rows.dedup();
    let mut text = String::from(
        "### Congestion control, as `ss -ti` saw it\n\n| on | subject | inner | outer |\n|---|---|---|---|\n",
    );
    for (profile, subject, inner, outer) in rows {
        let _ = writeln!(text, "| {} | {} | {inner} | {outer} |", profile.name(), subject.name());
    }
    text + "\n"
}

fn failures(run: &Run) -> String {
    if run.failures.is_empty() {
        return String::new();
    }
    let mut text = String::from("### Failed\n\n");
    for failure in &run.failures {
        let why: String = failure.why.lines().next().unwrap_or_default().chars().take(200).collect();
        let (profile, subject) = (failure.profile.name(), failure.subject.name());
        let _ = writeln!(text, "- {profile}, {subject}, round {}: {}: {why}", failure.round, failure.attempt);
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Failure, Record, Seen};

    #[test]
    fn numbers_have_three_digits_and_no_more_zeros_than_they_need() {
        let texts = [18_432.4, 96.04, 3.5, 0.2504, 0.0].map(number);
        assert_eq!(texts, ["18432", "96", "3.5", "0.25", "0"]);
        assert_eq!(number(100.0), "100");
    }

    #[test]
    fn a_table_has_a_row_for_a_subject_that_only_failed_and_columns_for_what_was_measured() {
        let mut run = Run::default();
        let values =
            [(Subject::Raw, 200.0), (Subject::Raw, 100.0), (Subject::Raw, 110.0), (Subject::PeerupTcp, 55.0)];
        for (subject, value) in values {
            let (round, profile, metric) = (1, Profile::Cable, Metric::Tcp1);
            run.records.push(Record { round, profile, subject, metric, value });
        }
        run.failures.push(Failure {
            round: 1,
            profile: Profile::Cable,
            subject: Subject::Nebula,
            attempt: "set up".into(),
            why: "no reply\nmore".into(),
        });
        run.seen.push(Seen {
            round: 1,
            profile: Profile::Cable,
            subject: Subject::PeerupTcp,
            inner: vec!["cubic: 0 0 a".into(), "cubic: 0 0 b".into()],
            outer: vec!["bbr: 0 0 c".into()],
        });
        let text = markdown(&run);
        assert!(text.contains("| subject | TCP ×1, Mbit/s |\n"), "{text}");
        assert!(text.contains("\n| raw | 110 (100–200) |\n"), "{text}");
        assert!(text.contains("\n| peerup-tcp | 55 ×0.5 |"), "{text}");
        assert!(text.contains("| nebula |  |"), "{text}");
        assert!(
            text.contains("| one TCP, TCP+TLS | cable | peerup-tcp | ≥ 0.38 × raw | 0.5 | met |"),
            "{text}"
        );
        assert!(text.contains("| cable | peerup-tcp | cubic | bbr |"), "{text}");
        assert!(text.contains("- cable, nebula, round 1: set up: no reply\n"), "{text}");
    }
}
