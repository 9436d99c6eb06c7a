//! The decision journal: another process reaches the same decisions.

use std::{env, process::Command, time::Duration};

use peerup_path::{Decision, Replay, ReplayError, replay};
use peerup_types::PathId;

use crate::{DIRECT_V4, DIRECT_V6, RELAYED, Story, addresses, circuit};

/// Names the exported journal to the child process.
const JOURNAL: &str = "PEERUP_TEST_JOURNAL";

#[test]
fn a_second_process_that_replays_a_journal_makes_the_same_decisions() {
    let Ok(path) = env::var(JOURNAL) else { return in_two_processes() };
    // This is the second process.
    let replayed = replay(&std::fs::read_to_string(&path).unwrap()).unwrap();
    std::fs::write(format!("{path}.out"), decided(&replayed)).unwrap();
}

fn in_two_processes() {
    let mut recorded = Vec::new();
    let story = eventful(&mut recorded);
    let path = env::temp_dir().join(format!("peerup-journal-{}", std::process::id()));
    std::fs::write(&path, story.peer.export(story.now, 1_800_000_000)).unwrap();
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "journal::a_second_process_that_replays_a_journal_makes_the_same_decisions"])
        .env(JOURNAL, &path)
        .status()
        .unwrap();
    assert!(child.success());
    let out = path.with_extension("out");
    let theirs = std::fs::read_to_string(&out).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::remove_file(&out).unwrap();
    assert!(theirs.lines().count() > 100, "a story with decisions");
    assert_eq!(theirs, recorded.join("\n"));
}

#[test]
fn a_replay_ends_in_the_same_explanation() {
    let story = eventful(&mut Vec::new());
    let replayed = replay(&story.peer.export(story.now, 1_800_000_000)).unwrap();
    assert_eq!(replayed.explanation, story.peer.explain(story.now));
    assert_eq!(replayed.unix, 1_800_000_000);
}

#[test]
fn a_journal_is_bounded_and_its_later_part_replays_by_itself() {
    let mut story = Story::settled([(1, RELAYED, 40), (2, DIRECT_V4, 30)]);
    for _ in 0..40 {
        story.run(Duration::from_secs(60), |_, _| Some(30));
        story.run(Duration::from_secs(5), |path, _| (path == 1).then_some(40));
    }
    let exported = story.peer.export(story.now, 0);
    let lines = exported.lines().count();
    assert!((1000..=2049).contains(&lines), "{lines} lines");
    assert!(exported.len() < 1_000_000, "{} bytes", exported.len());
    let replayed = replay(&exported).unwrap();
    assert_eq!(replayed.explanation, story.peer.explain(story.now));
}

#[test]
fn what_is_no_journal_is_refused_with_the_line() {
    let story = Story::settled([(1, RELAYED, 40)]);
    let good = story.peer.export(story.now, 0);
    assert!(matches!(replay(""), Err(ReplayError::Empty)));
    assert!(matches!(replay("{}"), Err(ReplayError::Line { line: 1, .. })));
    assert!(matches!(replay("{\"peerup_journal\":99}"), Err(ReplayError::Form(99))));
    let broken = format!("{good}nonsense\n");
    let at = good.lines().count() + 1;
    assert!(matches!(replay(&broken), Err(ReplayError::Line { line, .. }) if line == at));
}

/// Dials, punches, a failover and a return, with everything that was decided.
fn eventful(recorded: &mut Vec<String>) -> Story {
    let mut story = Story::new();
    let mut keep = |story: &mut Story| {
        while let Some(action) = story.peer.poll_action() {
            recorded.push(line(story, &Decision::Did(action)));
        }
        while let Some(event) = story.peer.poll_event() {
            recorded.push(line(story, &Decision::Reported(event)));
        }
    };
    story.peer.handle_circuits(vec![circuit(1), circuit(2)], story.now);
    keep(&mut story);
    for (path, kind) in [(1, RELAYED), (2, DIRECT_V4), (3, DIRECT_V6)] {
        story.open(path, kind);
        keep(&mut story);
        story.peer.handle_ready(PathId(path), story.now);
        keep(&mut story);
    }
    let offered = addresses(["/ip4/198.51.100.7/udp/4001/quic-v1"]);
    let end = story.now + Duration::from_secs(90);
    let mut step = 0u64;
    while story.now < end {
        step += 1;
        story.now =
            story.peer.poll_timeout().unwrap().max(story.now) + Duration::from_micros(step * 37 % 1000);
        story.peer.handle_timeout(story.now);
        keep(&mut story);
        story.peer.handle_traffic(story.now);
        let dead = (200..260).contains(&step);
        let answered = if dead { 1..=1 } else { 1..=3 };
        for path in answered {
            story.peer.handle_answer(PathId(path), Duration::from_millis(20 + step % 7), story.now);
            keep(&mut story);
        }
        if step.is_multiple_of(50) {
            story.peer.handle_punch_request(PathId(1), step as u32, &offered, Default::default(), story.now);
            keep(&mut story);
        }
        if step == 300 {
            story.peer.handle_closed(PathId(3), story.now);
            story.peer.handle_closed(PathId(2), story.now);
            keep(&mut story);
        }
    }
    story
}

fn line(story: &Story, decision: &Decision) -> String {
    let micros = (story.now - story.start).as_micros();
    format!("{micros} {decision:?}")
}

fn decided(replayed: &Replay) -> String {
    let lines = replayed.decisions.iter();
    let lines: Vec<String> =
        lines.map(|(at, decision)| format!("{} {decision:?}", at.age().as_micros())).collect();
    lines.join("\n")
}
